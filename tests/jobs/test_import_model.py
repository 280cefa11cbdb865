"""The import job as a user runs it: a process, an exit code, one line for what is wrong, and nothing half-written."""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.settings.import_model import ImportSettings
from support.cluster import REPOSITORY, Finished, clean_environment
from support.import_job import FIXTURE, IMPORT, OUTPUTS, probabilities
from support.jobs_here import arguments
from support.models import save_checkpoint


@pytest.fixture
def keras_file(tmp_path: Path) -> Path:
    file = tmp_path / "model.weights.h5"
    file.write_bytes(lzma.decompress((FIXTURE / "keras2.weights.h5.xz").read_bytes()))
    return file


def run_job(
    settings: dict[str, Any], *flags: str, directory: Path, before: Sequence[str] = (), **more: str
) -> Finished:
    """Run the job in a process of its own; `before` is what stands before the python of the command line."""
    result = directory / "result.json"
    command = [*before, sys.executable, str(IMPORT), *arguments(settings), *flags, "--result", str(result)]
    done = subprocess.run(
        command, cwd=directory, env=clean_environment(**more), capture_output=True, text=True, timeout=120
    )
    record = json.loads(result.read_text()) if result.exists() else {}
    return Finished(done.returncode, done.stdout, done.stderr, record)


def test_a_keras_file_becomes_an_artifact_that_scores_as_tensorflow_does(keras_file, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        yaml.safe_dump(
            {
                "source": {"path": keras_file.name, "base": str(FIXTURE / "base"), "labels": OUTPUTS},
                "output": {"path": "models/mine"},
            }
        )
    )
    done = run_job({}, "--config", "mine.yaml", directory=tmp_path)
    assert done.code == 0, done.err
    artifact = tmp_path / "models" / "mine"
    assert done.err == ""
    assert (done.result["job"], done.result["outputs"]) == ("import_model", OUTPUTS)
    assert f"outputs, in the model's order: {', '.join(OUTPUTS)}" in done.out
    assert "has no evaluation.json" in done.out
    assert f"python jobs/evaluate.py --set model.path={artifact} --set data.path=..." in done.out
    assert (done.result["exit_code"], done.result["model_id"]) == (0, load_artifact(artifact).model_id)
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["mine"]
    assert {oct(p.stat().st_mode & 0o777) for p in artifact.iterdir()} == {"0o644"}
    truth = json.loads((FIXTURE / "expected.json").read_text())
    found = probabilities(artifact, truth["texts"], OUTPUTS)
    np.testing.assert_allclose(found, truth["probabilities"]["keras2"], rtol=0, atol=1e-4)


def test_neither_spark_nor_tensorflow_is_needed(keras_file, tmp_path):
    program = (
        "import runpy, sys\n"
        "for name in ('pyspark', 'py4j', 'tensorflow', 'keras', 'tf_keras'): sys.modules[name] = None\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    settings = {
        "source.path": str(keras_file),
        "source.base": str(FIXTURE / "base"),
        "source.labels": OUTPUTS,
        "output.path": str(tmp_path / "out"),
    }
    done = subprocess.run(
        [sys.executable, "-c", program, str(IMPORT), *arguments(settings)],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "bigfive.json").is_file()


def test_the_shipped_settings_hold_every_key_with_its_default():
    file = REPOSITORY / "conf" / "import_model.yaml"
    shipped = yaml.safe_load(file.read_text())
    shipped["source"]["path"] = "x"
    shipped["output"] = {"path": "y"}
    assert ImportSettings.model_validate(shipped) == ImportSettings.model_validate(
        {"source": {"path": "x"}, "output": {"path": "y"}}
    )
    for name, field in ImportSettings.model_fields.items():
        for key in field.annotation.model_fields:
            assert key in shipped[name] or f"# {key}: " in file.read_text(), f"{name}.{key}"


def four_outputs(folder: Path) -> dict[str, Any]:
    return {"source.path": str(save_checkpoint(folder / "four", id2label=dict(enumerate("ENAC")), label2id={}))}


def another_architecture(folder: Path) -> dict[str, Any]:
    import h5py

    with h5py.File(folder / "image.weights.h5", "w") as file:
        file["layers/conv2d/vars/0"] = np.ones((3, 3, 1, 8), np.float32)
    return {
        "source.path": str(folder / "image.weights.h5"),
        "source.base": str(FIXTURE / "base"),
        "source.labels": OUTPUTS,
    }


def no_labels(folder: Path) -> dict[str, Any]:
    return {"source.path": str(folder / "x.h5"), "source.base": str(FIXTURE / "base")}


def a_key_that_is_not_there(folder: Path) -> dict[str, Any]:
    return {"source.path": str(folder), "source.lables": OUTPUTS}


@pytest.mark.parametrize(
    ("make", "code", "said"),
    [
        (four_outputs, 4, "has 4 outputs, expected 5"),
        (another_architecture, 4, "holds layers/conv2d (3, 3, 1, 8), which the known model does not have"),
        (no_labels, 2, "source.labels is not set: a Keras file does not say"),
        (a_key_that_is_not_there, 2, "source.lables: there is no such setting; did you mean labels?"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_input_ends_with_one_line_its_code_and_no_output(tmp_path, make, code, said):
    models = tmp_path / "models"
    models.mkdir()
    done = run_job(make(tmp_path) | {"output.path": str(models / "mine")}, directory=tmp_path)
    assert done.code == code
    assert said in done.error
    assert len(done.err.splitlines()) == 1
    assert done.result["exit_code"] == code
    assert list(models.iterdir()) == []


def test_a_base_that_can_not_be_reached_is_said_at_once(keras_file, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    settings = {
        "source.path": str(keras_file),
        "source.base": "distilbert/distilbert-base-uncased",
        "source.labels": OUTPUTS,
        "output.path": str(models / "mine"),
    }
    started = time.monotonic()
    # Nobody listens there, and nothing is in the cache: a machine without a network.
    done = run_job(settings, directory=tmp_path, HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path / "cache"))
    assert time.monotonic() - started < 30
    assert done.code == 4
    assert "hf download distilbert/distilbert-base-uncased --local-dir DIR" in done.error
    assert "set source.base=DIR" in done.error
    assert len(done.err.splitlines()) == 1
    assert list(models.iterdir()) == []


def test_an_output_that_exists_is_refused(keras_file, tmp_path):
    (tmp_path / "there").mkdir()
    settings = {
        "source.path": str(keras_file),
        "source.base": str(FIXTURE / "base"),
        "source.labels": OUTPUTS,
        "output.path": str(tmp_path / "there"),
    }
    done = run_job(settings, directory=tmp_path)
    assert done.code == 7
    assert "exists, and a model is never overwritten" in done.error
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize("kind", ["keras", "huggingface"])
def test_an_output_that_can_not_be_written_leaves_nothing(keras_file, tmp_path, kind):
    models = tmp_path / "models"
    models.mkdir()
    settings = {"source.path": str(save_checkpoint(tmp_path / "source")), "output.path": str(models / "mine")}
    if kind == "keras":
        settings |= {
            "source.path": str(keras_file),
            "source.base": str(FIXTURE / "base"),
            "source.labels": OUTPUTS,
        }
    # No file may grow beyond 20 KB: the weights don't fit, as on a full disk.
    done = run_job(settings, directory=tmp_path, before=["bash", "-c", 'ulimit -f 20; exec "$@"', "bash"])
    assert done.code == 7, done.err
    assert f"{models / 'mine'} can't be written" in done.error
    assert list(models.iterdir()) == []
