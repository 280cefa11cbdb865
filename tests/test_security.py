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
from bigfive_udf.settings.secrets import shown, without_secrets
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


SECRETS = {
    "uri": "postgresql+psycopg2://job:hush%2Fhush@db/catalog?user=job&password=hunter2",
    "s3.secret-access-key": "whisper",
    "adls.connection-string": "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=mumble0==;EndpointSuffix=net",
    "header.Authorization": "Bearer murmur-murmur",
    "who.knows": "sotto-voce",
    "s3.proxy-uri": "http://user:rustle@proxy:8080",
    "credential": "client:undertone",
    "warehouse": "s3://bucket/warehouse",
    "type": "sql",
    "s3.region": "eu-central-1",
}
WHISPERED = ("hush", "hunter2", "whisper", "mumble", "murmur", "sotto", "rustle", "undertone", "acc;")


def test_a_record_tells_what_is_harmless_of_a_catalog_and_nothing_else():
    overrides = [*NEEDED, "output.format=iceberg", f"output.catalog={json.dumps(SECRETS)}"]
    settings = load_settings(ScoreSettings, None, overrides).for_record()
    assert settings["output"]["catalog"] == dict.fromkeys(SECRETS, "***") | {
        "uri": "postgresql+psycopg2://***@db/catalog?***",
        "warehouse": "s3://bucket/warehouse",
        "type": "sql",
        "s3.region": "eu-central-1",
    }


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("uri", "sqlite:////data/catalog.db", "sqlite:////data/catalog.db"),
        ("uri", "thrift://host:9083", "thrift://host:9083"),
        ("uri", "postgresql+psycopg2://db/c?password=hunter2", "postgresql+psycopg2://db/c?***"),
        ("uri", "https://hunter2@host/api", "https://***@host/api"),
        ("uri", "x://job:hun/ter2@db/c", "x://***@db/c"),
        ("uri", "x://job:hunt?er2@db/c", "x://***"),
        ("uri", "x://db/c?password=hunt@er2", "x://***"),
        ("uri", "postgresql:job:hunter2@db", "***"),
        ("warehouse", "people", "people"),
        ("warehouse", "abfss://people@acc.dfs.core.windows.net/w", "abfss://people@acc.dfs.core.windows.net/w"),
        ("warehouse", "s3://key:hunter2@bucket", "s3://***@bucket"),
        ("S3.region", "hunter2", "***"),
    ],
)
def test_an_address_is_told_without_what_may_be_a_password(key, value, told):
    assert shown(key, value) == told


def test_a_message_tells_no_secret_of_the_catalog_nor_a_part_of_one():
    for value in (
        *SECRETS.values(),
        "hush/hush",
        "mumble0==",
        "murmur-murmur",
        "hunter2",
        "user:rustle@proxy",
        "undertone",
    ):
        message = without_secrets(f"can't reach db over https ({value})", SECRETS)
        assert message.startswith("can't reach db over https (")
        assert not any(word in message for word in WHISPERED), message
    assert "bucket/warehouse" in without_secrets(SECRETS["warehouse"], SECRETS)
    asked = {"uri": "postgresql://u:whisper1@h/db?opt=a@b"}
    assert without_secrets("no answer to u:whisper1@h", asked) == "no answer to u:***@h"


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("{path: b, catalog: 'postgresql://job:hunter2@db/c'}", "output.catalog: "),
        ("{path: b, catalog: ['postgresql://job:hunter2@db/c']}", "output.catalog: "),
        ("{path: b, catalog: {'postgresql://job:hunter2@db/c': 5}}", "output.catalog: "),
        ("{path: b, catalog: {s3.secret-access-key: 123456789}}", "output.catalog.s3.secret-access-key: "),
        ("{path: b, catalog: {s3: {secret-access-key: hunter2}}}", "output.catalog.s3: "),
        ("{path: b, catalog: {token: *hunter2}}", "--config "),
        ("{path: b, catalog: {token: !hunter2 x}}", "--config "),
        ("{path: b, catalog: {token: !hunter2!x y}}", "--config "),
        ("[{catalog: {token: hunter2}}]", "output: "),
    ],
)
def test_a_mistake_below_the_catalog_is_told_without_its_value(tmp_path, written, key):
    file = tmp_path / "score.yaml"
    file.write_text(f"output: {written}\ninput: {{path: a}}\nmodel: {{path: c}}\n")
    with pytest.raises(SettingsError) as refused:
        load_settings(ScoreSettings, file)
    assert str(refused.value).startswith(key)
    assert "hunter2" not in str(refused.value) and "123456789" not in str(refused.value)


@pytest.mark.parametrize(
    "override",
    [
        "output.catalog=postgresql://job:hunter2@db/c",
        "output.catalog.s3.secret-access-key=hunter2",
        "output.catalog.token=[hunter2",
        "output={catalog: {token: [hunter2}",
        "output.catalog.token:hunter2",
        "output: {catalog: {token: hunter2}}",
    ],
)
def test_an_override_of_the_catalog_is_refused_without_its_value(override):
    with pytest.raises(SettingsError, match=r"output[.a-z0-9-]*[:*=]") as refused:
        load_settings(ScoreSettings, None, [*NEEDED, "output.format=iceberg", override])
    assert "hunter2" not in str(refused.value)


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
