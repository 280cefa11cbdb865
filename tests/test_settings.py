"""Settings: what is wrong is said in one line, and paths count from where the user expects."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bigfive_udf.errors import SettingsError
from bigfive_udf.settings.loading import load_settings
from bigfive_udf.settings.score import OutputSettings, ScoreSettings
from bigfive_udf.settings.section import Section
from bigfive_udf.traits import SCORE_FIELDS, TRAITS

REPOSITORY = Path(__file__).resolve().parent.parent
SHIPPED = REPOSITORY / "conf" / "score.yaml"
REQUIRED: dict[str, dict[str, Any]] = {
    "input": {"path": "/corpus"},
    "output": {"path": "/scores"},
    "model": {"path": "/model"},
}


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    """Write a settings file; sections are merged over the three required keys."""

    def write(folder: str = "settings", **sections: Any) -> Path:
        file = tmp_path / folder / "score.yaml"
        file.parent.mkdir(exist_ok=True)
        merged = {
            name: REQUIRED.get(name, {}) | value if isinstance(value, dict) else value
            for name, value in (REQUIRED | sections).items()
        }
        file.write_text(yaml.safe_dump(merged))
        return file

    return write


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plain") / "score.yaml"
    file.write_text(yaml.safe_dump(REQUIRED))
    return file


def message_of(config: Path, *overrides: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load_settings(ScoreSettings, config, overrides)
    message = str(refused.value)
    assert len(message.splitlines()) == 1
    return message


def leaves(kind: type[Section], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> its field, of every setting that is no section."""
    found: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            found |= leaves(inner, f"{prefix}{name}.")
        else:
            found[prefix + name] = field
    return found


LEAVES = leaves(ScoreSettings)


def value_at(settings: Any, key: str) -> Any:
    for part in key.split("."):
        settings = settings[part] if isinstance(settings, dict) else getattr(settings, part)
    return settings


# --- wrong keys, types and values ---


@pytest.mark.parametrize(
    ("key", "cure"),
    [
        ("inputt.path", "did you mean input?"),
        ("input.pth", "did you mean path?"),
        ("model.presicion", "did you mean precision?"),
        ("text.windows_overlap", "did you mean window_overlap?"),
        ("labels.zzz", "the keys there are thresholds, require_evidence"),
        (
            "zzz",
            "the keys there are input, output, model, labels, text, batching, on_model_change, on_schema_change, "
            "plan, commit_every, retention, max_failed_share, max_label_flips, log_texts",
        ),
    ],
)
def test_an_unknown_key_is_named_with_the_key_that_was_meant(config, plain, key, cure):
    section, _, name = key.rpartition(".")
    in_file = config(**({section: {name: 1}} if section else {name: 1}))
    written = message_of(in_file)
    unknown = key if section in ("", *ScoreSettings.model_fields) else section
    assert written == f"{unknown}: there is no such setting; {cure}"
    assert message_of(plain, f"{key}=1") == written, "the file and --set are judged alike"


@pytest.mark.parametrize(
    ("key", "value", "cure"),
    [
        ("input.path", "5", "string"),
        ("input.format", "orc", "'parquet', 'json' or 'csv'"),
        ("input.id_column", "7", "string"),
        ("input.keep_columns", "lang", "list"),
        ("input.partition_columns", "dt", "list"),
        ("output.format", "csv", "'parquet'"),
        ("output.target_file_mb", "0", "greater than or equal to 1"),
        ("output.target_file_mb", "1.5", "integer"),
        ("output.target_file_mb", "'128'", "integer"),
        ("output.target_file_mb", "many", "integer"),
        ("output.compression", "lz77", "'zstd', 'snappy', 'gzip' or 'none'"),
        ("model.device", "tpu", "'auto', 'cpu' or 'cuda'"),
        ("model.precision", "int4", "'auto', 'fp32', 'bf16'"),
        ("model.activation", "softmax", "'sigmoid'"),
        ("labels.require_evidence", "1", "boolean"),
        ("labels.require_evidence", "'yes'", "boolean"),
        ("labels.thresholds", "0.5", "dictionary"),
        ("text.max_length", "3", "greater than or equal to 4"),
        ("text.long_documents", "split", "'windows' or 'truncate'"),
        ("text.window_overlap", "-1", "greater than or equal to 0"),
        ("text.max_windows", "0", "greater than or equal to 1"),
        ("batching.max_batch_tokens", "8", "greater than or equal to 16"),
        ("max_failed_share", "1.01", "less than or equal to 1"),
        ("max_failed_share", "-0.1", "greater than or equal to 0"),
        ("max_failed_share", "1%", "number"),
    ],
)
def test_a_wrong_type_or_value_is_named_with_what_is_allowed(config, plain, key, value, cure):
    parsed = yaml.safe_load(value)
    message = message_of(plain, f"{key}={value}")
    assert message.startswith(f"{key} {parsed!r}: must be ")
    assert cure in message
    section, _, name = key.rpartition(".")
    assert message_of(config(**({section: {name: parsed}} if section else {name: parsed}))) == message


def test_a_number_is_no_boolean_and_a_boolean_no_number(plain):
    assert message_of(plain, "text.max_length=true").startswith("text.max_length True: must be a valid integer")
    assert message_of(plain, "max_failed_share=.nan").startswith("max_failed_share nan: must be ")


@pytest.mark.parametrize("key", ["input.keep_columns.0", "labels.thresholds.openness"])
def test_a_wrong_entry_of_a_list_or_map_is_named_by_its_place(plain, key):
    values = {
        "input.keep_columns.0": "input.keep_columns=[7]",
        "labels.thresholds.openness": "labels.thresholds={openness: 7}",
    }
    assert message_of(plain, values[key]).startswith(f"{key} 7: must be ")


def test_a_threshold_for_what_is_no_trait_lists_the_traits(plain):
    message = message_of(plain, "labels.thresholds={joy: 0.5}")
    assert message.startswith("labels.thresholds: 'joy' is no trait")
    assert all(trait in message for trait in TRAITS)


def test_thresholds_may_be_given_by_letter(plain):
    thresholds = load_settings(ScoreSettings, plain, ["labels.thresholds={N: 0.25, openness: 1}"]).labels.thresholds
    assert thresholds == {"neuroticism": 0.25, "openness": 1.0}


def test_two_thresholds_for_one_trait_are_refused(plain):
    message = message_of(plain, "labels.thresholds={O: 0.4, openness: 0.6}")
    assert "labels.thresholds" in message
    assert "openness" in message


@pytest.mark.parametrize("key", ["input.path", "input.id_column", "input.text_column", "output.path", "model.path"])
def test_an_empty_string_is_not_taken_for_a_path_or_a_column(plain, key):
    assert message_of(plain, f"{key}=''").startswith(f"{key} '': must ")


def test_a_missing_key_is_named_with_both_ways_to_set_it(config):
    file = config()
    values = yaml.safe_load(file.read_text())
    del values["output"]["path"]
    file.write_text(yaml.safe_dump(values))
    assert message_of(file) == f"output.path is not set: set it in {file} or with --set output.path=..."


@pytest.mark.parametrize(
    ("path", "cure"),
    [
        ("s3a://bucket", "s3a://bucket/scores"),
        ("s3a://bucket/", "s3a://bucket/scores"),
        ("abfss://c@acc.dfs.core.windows.net/", "abfss://c@acc.dfs.core.windows.net/scores"),
        ("hdfs://nn:8020//", "hdfs://nn:8020/scores"),
        ("hdfs:///", "hdfs:/scores"),
        ("file:/", "file:/scores"),
        ("/", "/scores"),
    ],
)
def test_a_table_at_a_root_has_no_room_beside_it(plain, path, cure):
    message = message_of(plain, f"output.path={path}")
    assert message.startswith(f"output.path {path}: it is the root of a bucket, container or disk")
    assert message.endswith(f"choose a directory below it, such as {cure}")
    assert load_settings(ScoreSettings, plain, [f"output.path={cure}"]).output.path == cure


@pytest.mark.parametrize("overrides", [("input.table=db.texts",), ("input.path=null",)])
def test_the_corpus_is_a_path_or_a_table_and_not_both(plain, overrides):
    assert message_of(plain, *overrides) == "set input.path or input.table, one of the two"


@pytest.mark.parametrize(
    "name", ["a-b", "a b", "a.b.c", ".a", "`a`", "x'; DROP TABLE y; --", "größe", "a" * 101, "db."]
)
def test_a_table_that_hive_refuses_is_told_with_what_it_takes(plain, name):
    message = message_of(plain, f"output.table={yaml.safe_dump(name).splitlines()[0]}")
    assert message.startswith(f"output.table {name!r}: Hive takes letters, digits and _")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("output.table=Scores_2",), (None, "Scores_2")),
        (("output.table=people.scores",), ("people", "scores")),
        (("output.table=people.scores", "output.format=iceberg"), None),
        ((), None),
    ],
)
def test_a_table_of_the_catalog_may_have_a_database_and_is_not_icebergs(plain, overrides, expected):
    assert load_settings(ScoreSettings, plain, overrides).output.catalog_name == expected


def test_the_number_of_further_mistakes_is_told(plain):
    assert message_of(plain, "model.device=tpu", "text.max_windows=0", "zzz=1").endswith("(and 2 more)")


@pytest.mark.parametrize(
    ("section", "value"), [("input", 5), ("model", None), ("text", ["max_length"]), ("labels", "openness")]
)
def test_a_section_that_is_none_is_named_without_words_of_the_program(config, section, value):
    message = message_of(config(**{section: value}))
    if value is not None:
        assert message.startswith(f"{section} {value!r}: must be ")
    assert section in message
    assert "Settings" not in message, "the user knows no class of ours"


def test_a_section_whose_keys_are_all_commented_out_means_the_defaults(tmp_path):
    file = tmp_path / "score.yaml"
    file.write_text(yaml.safe_dump(REQUIRED) + "text:\n  # max_length: 128\nlabels:\n")
    assert load_settings(ScoreSettings, file).text == load_settings(ScoreSettings, SHIPPED, shipped_required()).text


# --- the file itself ---


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"input:\n\tpath: x\n", "is not YAML in line 2"),
        (b"a: b: c\n", "is not YAML in line 1"),
        (b"\xff\xfe\xfa", "is not YAML"),
        (b"!!python/object/apply:os.system ['true']\n", "is not YAML in line 1"),
        (b"just words\n", "holds str, expected sections such as input: and output:"),
        (b"[1, 2]\n", "holds list, expected sections such as input: and output:"),
        (b"input: {path: 2026-13-45}\n", "is not YAML"),
    ],
)
def test_a_file_that_is_no_settings_file_is_refused(tmp_path, content, expected):
    file = tmp_path / "score.yaml"
    file.write_bytes(content)
    assert message_of(file).startswith(f"--config {file} {expected}")


@pytest.mark.parametrize("name", ["", "missing.yaml"])
def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path, name):
    reason = "No such file or directory" if name else "Is a directory"
    file = tmp_path / name
    assert message_of(file) == f"--config {file} can't be read: {reason}; give the path of a YAML file"


# --- --set ---


@pytest.mark.parametrize(
    "override", ["noequals", "=3", "", "labels.thresholds=[", "input.path={", "input.path=2026-13-45"]
)
def test_an_override_that_is_none_is_quoted_back(plain, override):
    assert message_of(plain, override).startswith(f"--set {override}: ")


def test_an_override_of_a_value_as_if_it_were_a_section_is_refused(plain):
    assert message_of(plain, "input.path.deep=1") == "--set input.path.deep=1: path is a value, not a section"


def test_overrides_win_over_the_file_and_later_ones_over_earlier(config):
    file = config(text={"max_windows": 3, "window_overlap": 5})
    settings = load_settings(ScoreSettings, file, ["text.max_windows=4", "text.max_windows=null"])
    assert settings.text.max_windows is None
    assert settings.text.window_overlap == 5, "the rest of the section stays"


def test_an_override_reaches_into_a_map_without_replacing_it(config):
    file = config(labels={"thresholds": {"openness": 0.4, "neuroticism": 0.6}})
    settings = load_settings(ScoreSettings, file, ["labels.thresholds.openness=0.9"])
    assert settings.labels.thresholds == {"openness": 0.9, "neuroticism": 0.6}


def test_an_override_may_hold_equals_signs_lists_and_quotes(plain):
    overrides = ["input.where=lang = 'en' AND x != ''", "input.keep_columns=[a, 'b=c']", 'input.author_column="7"']
    settings = load_settings(ScoreSettings, plain, overrides)
    assert settings.input.where == "lang = 'en' AND x != ''"
    assert settings.input.keep_columns == ["a", "b=c"]
    assert settings.input.author_column == "7"


# A key is quoted as it is, so control characters in it would make two lines of a message.
KEYS = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=4)
YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)


@hypothesis_settings(deadline=None, max_examples=300)
@given(key=st.sampled_from(sorted(LEAVES)), value=YAML_VALUES)
def test_any_value_for_any_key_is_taken_as_it_is_or_refused_by_the_name_of_the_key(plain, key, value):
    override = f"{key}={yaml.safe_dump(value, default_flow_style=True, width=1 << 20).removesuffix('...' + chr(10))}"
    try:
        settings = load_settings(ScoreSettings, plain, [override])
    except SettingsError as error:
        message = str(error)
        assert key in message or message.startswith("set input.path or input.table")
        assert len(message.splitlines()) == 1
        return
    taken = value_at(settings, key)
    if isinstance(value, str) and LEAVES[key].json_schema_extra:
        assert taken.endswith(os.path.normpath(value).removeprefix("/")) or taken == value or not value.strip("./")
    elif key == "labels.thresholds":
        assert sorted(taken.values()) == sorted(value.values())
    else:
        assert taken == value


@hypothesis_settings(deadline=None, max_examples=300)
@given(override=st.text(max_size=20) | st.builds("{}={}".format, st.sampled_from(sorted(LEAVES)), st.text(max_size=10)))
@example(override="input.path=2026-02-30")
@example(override="max_failed_share=0x")
@example(override="text.max_length=1:60:99")
@example(override="..=1")
@example(override="input.path=~nobody-of-this-name/x")
def test_whatever_is_typed_after_set_ends_in_settings_or_in_a_settings_error(plain, override):
    try:
        assert isinstance(load_settings(ScoreSettings, plain, [override]), ScoreSettings)
    except SettingsError as error:
        assert str(error)


# --- paths ---


def test_a_relative_path_in_a_file_counts_from_the_files_folder(config, tmp_path, monkeypatch):
    file = config(input={"path": "corpus/*.parquet"}, output={"path": "../scores"}, model={"path": "m"})
    monkeypatch.chdir("/")
    settings = load_settings(ScoreSettings, file)
    folder = tmp_path / "settings"
    assert settings.input.path == f"{folder}/corpus/*.parquet"
    assert os.path.normpath(settings.output.path) == str(tmp_path / "scores")
    assert settings.model.path == f"{folder}/m"


def test_the_folder_is_that_of_the_file_however_the_file_is_named(config, tmp_path, monkeypatch):
    config(input={"path": "corpus"})
    (tmp_path / "link.yaml").symlink_to(tmp_path / "settings" / "score.yaml")
    monkeypatch.chdir(tmp_path)
    for name in ("settings/score.yaml", "settings/../settings/score.yaml", "link.yaml"):
        assert load_settings(ScoreSettings, name).input.path == str(tmp_path / "settings" / "corpus"), name


@pytest.mark.parametrize(("is_repository", "base"), [(True, "."), (False, "conf")])
def test_in_conf_of_the_repository_a_relative_path_counts_from_its_root(config, tmp_path, is_repository, base):
    file = config("conf", input={"path": "corpus"})
    if is_repository:
        (tmp_path / "jobs").mkdir()
        shutil.copy(REPOSITORY / "jobs" / "score.py", tmp_path / "jobs")
    assert load_settings(ScoreSettings, file).input.path == str(tmp_path / base / "corpus")


def test_a_relative_path_on_the_command_line_counts_from_the_working_directory(plain, tmp_path):
    program = (
        "import sys; from bigfive_udf.settings.loading import *; from bigfive_udf.settings.score import *\n"
        "s = load_settings(ScoreSettings, sys.argv[1], sys.argv[2:]); print(s.input.path, s.output.path, s.model.path)"
    )
    overrides = ["input.path=a/b", "output={path: out}", "model.path=m"]
    done = subprocess.run(
        [sys.executable, "-c", program, str(plain), *overrides],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [f"{tmp_path}/a/b", f"{tmp_path}/out", f"{tmp_path}/m"]


@pytest.mark.parametrize(
    "uri", ["hdfs://nn:8020/a", "s3a://bucket/a/*", "file:/a/b", "file:///a/b", "gs://b/c", "/a/b"]
)
@pytest.mark.parametrize("key", ["input.path", "output.path", "model.path"])
def test_uris_and_absolute_paths_stay_as_they_are(config, key, uri):
    section, name = key.split(".")
    assert value_at(load_settings(ScoreSettings, config(**{section: {name: uri}})), key) == uri
    assert value_at(load_settings(ScoreSettings, config(), [f"{key}={uri}"]), key) == uri


def test_a_tilde_is_the_home_of_the_user(plain, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_settings(ScoreSettings, plain, ["input.path=~/corpus"]).input.path == f"{tmp_path}/corpus"


def test_only_paths_are_resolved(config):
    file = config(input={"path": "c", "text_column": "a/b", "where": "c/d > 1", "keep_columns": ["e/f"]})
    settings = load_settings(ScoreSettings, file).input
    assert (settings.text_column, settings.where, settings.keep_columns) == ("a/b", "c/d > 1", ["e/f"])


def test_a_name_on_the_hub_stays_unless_a_directory_of_that_name_is_there(config, tmp_path):
    file = config(model={"path": "org/big-five_v1.2"}, input={"path": "org/corpus"})
    settings = load_settings(ScoreSettings, file)
    assert settings.model.path == "org/big-five_v1.2"
    assert settings.input.path == f"{tmp_path}/settings/org/corpus", "a corpus is never on the hub"
    (tmp_path / "settings" / "org" / "big-five_v1.2").mkdir(parents=True)
    assert load_settings(ScoreSettings, file).model.path == f"{tmp_path}/settings/org/big-five_v1.2"


@pytest.mark.parametrize("path", ["./m", "../m", "a/b/c", "m", "a/"])
def test_what_cannot_be_a_hub_name_is_a_path_even_where_nothing_is_there(config, tmp_path, path):
    settings = load_settings(ScoreSettings, config(model={"path": path}))
    assert os.path.normpath(settings.model.path) == os.path.normpath(tmp_path / "settings" / path)


# --- collisions ---


@pytest.mark.parametrize(
    "key", ["input.id_column", "input.author_column", "input.keep_columns", "input.partition_columns"]
)
@pytest.mark.parametrize("field", [f.name for f in SCORE_FIELDS])
def test_a_column_of_the_corpus_may_not_be_called_like_a_score_column(plain, key, field):
    column = field.swapcase()  # Spark's names have no case
    value = f"[fine, {column}]" if key.endswith("columns") else column
    message = message_of(plain, f"{key}={value}")
    assert message.startswith(f"{key}: {column!r} is already a score column of the table; ")
    assert message.endswith("leave it out or rename it")


@pytest.mark.parametrize(
    ("overrides", "column"),
    [
        (["input.keep_columns=[DOC_ID]"], "DOC_ID"),
        (["input.author_column=doc_id"], "doc_id"),
        (["input.author_column=a", "input.keep_columns=[a]"], "a"),
        (["input.keep_columns=[A, b, a]"], "a"),
        (["input.keep_columns=[dt]", "input.partition_columns=[dt]"], "dt"),
        (["input.partition_columns=[dt, dt]"], "dt"),
    ],
)
def test_no_column_stands_in_the_table_twice(plain, overrides, column):
    assert repr(column) in message_of(plain, *overrides)


def test_columns_are_carried_in_the_order_of_the_table(plain):
    overrides = ["input.keep_columns=[z, text]", "input.author_column=who", "input.partition_columns=[dt]"]
    assert load_settings(ScoreSettings, plain, overrides).input.carried_columns == ["doc_id", "who", "z", "text"]


# --- the shipped file ---


def shipped_required() -> list[str]:
    return ["input.path=/corpus", "output.path=/scores", "model.path=/model"]


def test_the_shipped_file_needs_three_keys_and_no_more():
    assert isinstance(load_settings(ScoreSettings, SHIPPED, shipped_required()), ScoreSettings)
    for i, key in enumerate(("input.path", "output.path", "model.path")):
        message = message_of(SHIPPED, *[o for j, o in enumerate(shipped_required()) if j != i])
        assert key in message
        assert "(and" not in message


def flattened(values: dict[str, Any], kind: type[Section], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = kind.model_fields[key].annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            found |= flattened(value, inner, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def test_the_shipped_file_shows_every_key_with_the_default_of_the_code():
    text = SHIPPED.read_text()
    shown = flattened(yaml.safe_load(text), ScoreSettings)
    left_to_the_user = {"input.path", "input.table", "output.path", "model.path"}
    assert set(LEAVES) == set(shown) | left_to_the_user
    assert not set(shown) & left_to_the_user
    for key, value in shown.items():
        default = LEAVES[key].get_default(call_default_factory=True)
        assert (type(value), value) == (type(default), default), key
    for key in left_to_the_user:
        assert f"  # {key.split('.')[1]}: " in text


def test_the_shipped_file_loads_to_what_the_code_does_without_it(plain):
    assert load_settings(ScoreSettings, SHIPPED, shipped_required()) == load_settings(ScoreSettings, plain)


def test_every_key_of_the_shipped_file_has_a_comment():
    lines = SHIPPED.read_text().splitlines()
    for key in LEAVES:
        name = key.split(".")[-1]
        found = [line for line in lines if re.match(rf" *(# )?{name}: ", line)]
        assert found, key
        assert all(re.search(r"\S +# \S", line) for line in found), found


@pytest.mark.parametrize("views", [{"purpose": "a study"}, {"author_files": True}, {"least_texts": 5}])
def test_what_is_for_views_is_refused_where_none_are_made(views):
    (name,) = views
    assert OutputSettings(path="x", table="scores", **views).catalog_name == (None, "scores")
    for more in ({}, {"format": "iceberg"}, {"format": "iceberg", "table": "a.scores"}):
        with pytest.raises(ValueError, match=f"output.{name}: it is for output.table"):
            OutputSettings(path="x", **more, **views)
