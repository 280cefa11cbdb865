"""Words of a corpus stay in it: planted ones are looked for in all that a run says, logs and leaves behind."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bigfive_udf.errors import InputError, PartitionsFailedError, SettingsError
from support.jobs_here import run_alone
from support.models import overflowing

CANARY = "zwitschermaschine"
KEY = "a key that nobody can guess, of more than 32 characters"


def record(number: int, text: str) -> str:
    return json.dumps({"doc_id": f"doc-{number}", "author": f"author-{number}", "text": text}) + "\n"


@pytest.fixture
def troubled(tmp_path: Path, basics: dict[str, Any], checkpoint: Any) -> dict[str, Any]:
    """A day that is well, one with a text that the model can't score, and one with a record that is malformed."""
    days = {
        "05": record(1, f"I am a {CANARY}") + record(2, "a day in the rain"),
        "06": record(3, f"I like my {CANARY} and nothing else"),
        "07": record(4, "a text") + '{"doc_id": "doc-5", "author": "author-5", "text": "' + f"the {CANARY} is cut\n",
    }
    for day, content in days.items():
        folder = tmp_path / "troubled" / f"dt=2026-01-{day}"
        folder.mkdir(parents=True)
        (folder / "a.json").write_text(content)
    return basics | {
        "input.path": str(tmp_path / "troubled"),
        "input.format": "json",
        "input.author_column": "author",
        "input.pseudonymise": ["id", "author"],
        "model.path": str(overflowing(checkpoint(), tmp_path / "narrow", "like")),
        "model.precision": "auto",
        "max_failed_share": 1.0,
        "max_label_flips": 1.0,
    }


def found_in(place: Path, word: str) -> list[Path]:
    return [p for p in place.rglob("*") if p.is_file() and word.encode() in p.read_bytes()]


def test_no_word_of_a_text_and_no_key_is_told_logged_or_kept(troubled, tmp_path):
    events = tmp_path / "events"
    events.mkdir()
    log = ["spark.eventLog.enabled=true", f"spark.eventLog.dir=file://{events}", "spark.eventLog.compress=false"]
    conf = " ".join(f"--conf {entry}" for entry in ["spark.ui.enabled=false", *log])
    spark = {"PYSPARK_SUBMIT_ARGS": f"--master local[1] {conf} pyspark-shell", "BIGFIVE_PSEUDONYM_KEY": KEY}
    done = run_alone("score", troubled, "--verbose", directory=tmp_path, **spark)
    assert done.code == 5, done.err
    assert "dt=2026-01-07" in done.error and "a.json holds a record that is malformed" in done.error
    assert done.result["documents_by_status"] == {"scored": 2, "empty": 0, "failed": 1}
    scores = Path(troubled["output.path"])
    table = tmp_path / "table.csv"
    duckdb.sql(f"COPY (FROM read_parquet('{scores}/**/*.parquet')) TO '{table}'")
    places = [events, Path(f"{scores}.job"), scores]
    assert all(any(p.is_file() for p in place.rglob("*")) for place in places)
    assert found_in(events, "bigfive_pseudonym"), "the log shows the plan with the function"
    for word in (CANARY, KEY, "author-1", "author-3"):
        assert word not in done.out + done.err
        assert word not in (tmp_path / "result.json").read_text() + table.read_text()
        assert [file for place in places for file in found_in(place, word)] == []
    assert len(found_in(tmp_path, CANARY)) == 3, "where it comes from, or the check sees nothing"


def test_excerpts_are_logged_where_the_settings_ask_for_them(score, troubled, monkeypatch):
    monkeypatch.setenv("BIGFIVE_PSEUDONYM_KEY", KEY)
    run = score(troubled | {"log_texts": True}, "--until", "dt=2026-01-06")
    job = Path(f"{troubled['output.path']}.job")
    log = job / "runs" / f"{run.run_id}.log"
    (event,) = [e for e in map(json.loads, log.read_text().splitlines()) if e["event"] == "text that can't be scored"]
    assert event["excerpt"].endswith(f": 'I like my {CANARY} and nothing else'")
    assert found_in(job, CANARY) == [log]
    assert stat.S_IMODE(log.stat().st_mode) & 0o007 == 0, "for its owner's group only"


def test_a_malformed_line_of_csv_is_not_quoted(score, basics, tmp_path):
    for day, line in (("05", "1,fine"), ("06", f"2,{CANARY},one field too many"), ("07", f"3,{CANARY}")):
        folder = tmp_path / "csv" / f"dt=2026-01-{day}"
        folder.mkdir(parents=True)
        (folder / "a.csv").write_text(f"doc_id,text\n{line}\n")
    settings = basics | {"input.path": str(tmp_path / "csv"), "input.format": "csv"}
    with pytest.raises(PartitionsFailedError, match=r"dt=2026-01-06/a\.csv holds a record that is malformed") as failed:
        score(settings)
    assert CANARY not in str(failed.value)
    files = f"{basics['output.path']}/**/*.parquet"
    assert duckdb.sql(f"SELECT doc_id FROM read_parquet('{files}') ORDER BY 1").fetchall() == [("1",), ("3",)]


def test_what_a_condition_can_not_cast_and_a_row_taken_for_a_header_are_not_quoted(score, troubled, basics, tmp_path):
    plain = {k: v for k, v in troubled.items() if k != "input.pseudonymise"}
    with pytest.raises(SettingsError, match=r"input\.where fails on a row \(CAST_INVALID_INPUT\)") as failed:
        score(plain | {"input.where": "CAST(text AS INT) > 3"}, "--until", "dt=2026-01-06")
    assert CANARY not in str(failed.value)
    (tmp_path / "headless").mkdir()
    (tmp_path / "headless" / "a.csv").write_text(f"1,I am a {CANARY} and nothing else\n2,more\n")
    with pytest.raises(InputError, match=r"no column doc_id, its columns are 1, \(\d\d characters\)"):
        score(basics | {"input.path": str(tmp_path / "headless"), "input.format": "csv"})


def test_what_spark_shuffles_and_spills_lies_where_nobody_else_can_look(spark):
    spark.range(100).repartition(3).selectExpr("cast(id AS string) AS text").collect()
    scratch = Path(spark.sparkContext.getConf().get("spark.local.dir"))
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
    assert [p for p in scratch.rglob("shuffle_*.data") if p.stat().st_size], "or it is somewhere else"
    assert Path(spark.sparkContext._temp_dir).is_relative_to(scratch), "what Python broadcasts"
