"""What comes from outside is data: settings, models and archives run no code and reach no file that is not theirs."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import pytest

from bigfive_udf.errors import ArtifactError, SettingsError
from bigfive_udf.model import node_cache
from bigfive_udf.model.artifact import describe, load_artifact
from bigfive_udf.settings.loading import load_settings
from bigfive_udf.settings.score import ScoreSettings
from bigfive_udf.settings.secrets import without_secrets
from bigfive_udf.traits import TRAITS

REPOSITORY = Path(__file__).resolve().parent.parent
NEEDED = ["input.path=a", "output.path=b", "model.path=c"]


@pytest.mark.parametrize("value", ["!!python/object/apply:os.mkdir [made]", "!!python/name:os.system", "!!python/none"])
def test_settings_make_no_objects_and_run_nothing(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "score.yaml"
    file.write_text(f"input:\n  where: {value}\n")
    with pytest.raises(SettingsError, match=r"score\.yaml"):
        load_settings(ScoreSettings, file, NEEDED)
    with pytest.raises(SettingsError, match="the value is not YAML"):
        load_settings(ScoreSettings, None, [*NEEDED, f"input.where={value}"])
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "a/b", "..", ""])
def test_a_bundle_writes_nothing_outside_its_directory(tmp_path, monkeypatch, name):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ArtifactError, match="no plain name"):
        node_cache.unpacked("digest", lambda: {"first": b"1", name: b"2"})
    left = [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "lock"]
    assert left == [] and not Path("/tmp/escaped").exists()


def test_an_artifact_lists_no_file_outside_its_directory(checkpoint, tmp_path):
    directory = tmp_path / "model"
    shutil.copytree(checkpoint(), directory)
    about = {"head": "linear", "pooling": "cls", "max_length": 128, "languages": ["en"], "base_model": "none"}
    describe(directory, thresholds=dict.fromkeys(TRAITS, 0.5), training_data="none", **about)
    load_artifact(directory)
    content = json.loads((directory / "bigfive.json").read_text())
    content["files"]["../secret"] = "0" * 64
    (directory / "bigfive.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=r"lists '\.\./secret', which is no file of the artifact"):
        load_artifact(directory)


def test_a_record_tells_no_secret_of_the_catalog():
    uri = "postgresql+psycopg2://job:hush%2Fhush@db/catalog"
    properties = {"uri": uri, "s3.secret-access-key": "whisper", "warehouse": "s3://bucket"}
    kept = {f"output.catalog.{k}": v for k, v in properties.items() if "." not in k}
    overrides = [*NEEDED, "output.format=iceberg", *(f"{k}={v}" for k, v in kept.items())]
    record = json.dumps(load_settings(ScoreSettings, None, overrides).for_record())
    assert "hush" not in record
    assert "postgresql+psycopg2://job:***@db/catalog" in record
    assert without_secrets("no hush/hush, no whisper", properties) == "no ***, no ***"


# What a call is named that unpickles, runs or unpacks what it is given.
_NEVER = {"extractall", "unpack_archive", "Unpickler", "system", "popen", "full_load", "unsafe_load"}
_NEVER_WHOLE = {"eval", "exec", "pickle.load", "pickle.loads", "torch.load", "joblib.load"}


def calls(file: Path) -> list[tuple[str, ast.Call]]:
    found = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func), node) for node in found]


@pytest.mark.parametrize("folder", ["bigfive_udf", "jobs"])
def test_nothing_is_unpickled_unpacked_or_run(folder):
    files = sorted((REPOSITORY / folder).rglob("*.py"))
    assert files
    for file in files:
        for name, call in calls(file):
            where = f"{file}:{call.lineno} {name}"
            keywords = {k.arg: ast.unparse(k.value) for k in call.keywords}
            assert name not in _NEVER_WHOLE and name.rpartition(".")[2] not in _NEVER, where
            assert name != "yaml.load" or ast.unparse(call.args[1]) == "_Loader", where
            assert keywords.get("allow_pickle") in (None, "False"), where
            assert keywords.get("trust_remote_code") in (None, "False"), where
            assert keywords.get("shell") in (None, "False"), where


def test_a_statement_of_sql_is_made_in_one_place_of_quoted_names():
    made = [
        f"{file.name}: {ast.unparse(call.args[0])}"
        for folder in ("spark", "tables")
        for file in sorted((REPOSITORY / "bigfive_udf" / folder).rglob("*.py"))
        for name, call in calls(file)
        if name.rpartition(".")[2] in ("sql", "expr", "selectExpr", "execute")
        and isinstance(call.args[0], ast.JoinedStr)
    ]
    assert made == ["scoring.py: f'SELECT /*+ REBALANCE({names}) */ * FROM {{scores}}'"], (
        "quote its names, list it here"
    )
