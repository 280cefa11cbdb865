"""Night after night: what is new or changed is scored, and nothing else; what can't be, fails alone."""

from __future__ import annotations

import json
import os
import random
import shutil
import string
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bigfive_udf.errors import OutputError, PartitionsFailedError, RefusedError, SettingsError
from bigfive_udf.spark.job.progress import Progress, Standing
from bigfive_udf.tables import opening
from bigfive_udf.tables.ledger import Ledger
from support.corpora import corrupt
from support.days import DAYS, append, part, runs_by_day
from support.scores import files_of, ledger_of, table_of

# --- what is scored again, and what is not ---


def test_a_rerun_with_nothing_new_changes_no_file_and_starts_no_spark_job(score, nightly, spark):
    score(nightly)
    before = files_of(nightly["output.path"])
    tracker = spark.sparkContext.statusTracker()
    jobs = set(tracker.getJobIdsForGroup(None))
    run = score(nightly)
    assert set(tracker.getJobIdsForGroup(None)) == jobs
    assert files_of(nightly["output.path"]) == before
    assert run.result["plan"]["up_to_date"] == 12
    assert "precision" not in run.result, "the model was not even placed"
    record = json.loads(Path(f"{nightly['output.path']}.job/runs/{run.run_id}.json").read_text())
    assert record["run_id"] == run.run_id


def test_a_touched_an_added_and_a_removed_file_each_rescore_their_partition_alone(score, nightly):
    append(part(nightly, DAYS[3], "part-1.parquet"), part(nightly, DAYS[3]), 0)
    first = score(nightly).run_id
    os.utime(part(nightly, DAYS[1]), (1.7e9, 1.7e9))
    append(part(nightly, DAYS[2], "part-9.parquet"), part(nightly, DAYS[2]), 10)
    part(nightly, DAYS[3], "part-1.parquet").unlink()
    second = score(nightly).run_id
    runs = runs_by_day(nightly)
    assert {day for day in DAYS if runs[day] == second} == {DAYS[1], DAYS[2], DAYS[3]}
    assert {day for day in DAYS if runs[day] == first} == {*DAYS} - {DAYS[1], DAYS[2], DAYS[3]}
    assert len(table_of(nightly["output.path"])) == 12 * 6 + 2


def test_settings_that_change_no_score_rescore_nothing(score, nightly):
    score(nightly)
    before = files_of(nightly["output.path"])
    for change in (
        {"batching.max_batch_tokens": 64},
        {"commit_every.partitions": 1},
        {"output.target_file_mb": 1},
        {"model.device": "cpu"},
        {"max_failed_share": 0.5},
        {"max_label_flips": 0.5},
    ):
        score(nightly | change)
    assert files_of(nightly["output.path"]) == before


def test_a_copied_corpus_with_its_times_rescores_nothing_and_one_without_is_refused(score, nightly, tmp_path):
    score(nightly)
    before = files_of(nightly["output.path"])
    shutil.copytree(nightly["input.path"], tmp_path / "moved")  # copytree keeps times
    score(nightly | {"input.path": str(tmp_path / "moved")})
    for day in DAYS:
        os.utime(part(nightly, day), (1.8e9, 1.8e9))
    strict = nightly | {"plan.max_rescored_share": 0.2}
    with pytest.raises(RefusedError, match=r"72 of the table's 72 documents .* \(12 partitions: input changed\)"):
        score(strict)
    assert files_of(nightly["output.path"]) == before
    score(strict, "--rescore")
    assert files_of(nightly["output.path"]) != before


def test_other_thresholds_recompute_labels_from_the_stored_probabilities(score, nightly, capsys, checkpoint, tmp_path):
    score(nightly)
    before, entries = table_of(nightly["output.path"]), ledger_of(nightly).committed
    capsys.readouterr()
    run = score(nightly | {"labels.thresholds": {"O": 0.0, "E": 1.0}})
    for name, e in ledger_of(nightly).committed.items():  # what the model's time was stays known
        was = entries[name]
        assert (e.seconds, e.cores, e.device, e.precision) == (was.seconds, was.cores, was.device, was.precision)
    after, printed = table_of(nightly["output.path"]), capsys.readouterr().out
    assert "for the thresholds have changed; the model is not loaded" in printed
    assert "model_loads" not in run.result
    assert set(after["label_openness"].to_pylist()) == {True}
    assert set(after["label_extraversion"].to_pylist()) == {False}
    same = [c for c in after.column_names if not c.startswith("label_") and c not in ("run_id", "scored_at")]
    assert after.select(same).equals(before.select(same))
    assert score(nightly | {"labels.thresholds": {"O": 0.0, "E": 1.0}}).result["plan"]["up_to_date"] == 12


def test_a_table_whose_rows_cannot_be_read_is_not_relabelled(score, nightly):
    score(nightly)
    (file,) = Path(nightly["output.path"], f"dt={DAYS[3]}").glob("*.parquet")
    (file.parent / f".{file.name}.crc").unlink()
    corrupt(file)
    with pytest.raises(OutputError, match=r"labels can't be computed from the table.*--rescore"):
        score(nightly | {"labels.thresholds": {"O": 0.0}})
    assert not Path(f"{nightly['output.path']}.job/commit.json").exists()
    score(nightly | {"labels.thresholds": {"O": 0.0}}, "--rescore")
    assert set(table_of(nightly["output.path"])["label_openness"].to_pylist()) == {True}


def test_a_dry_run_in_the_middle_of_a_commit_finds_nothing_foreign(score, nightly, monkeypatch, capsys):
    """As after a kill: the journal says what was announced, the table has it, the ledger does not."""

    class Killed(BaseException):
        pass

    def dying(*_: Any) -> None:
        raise Killed

    score(nightly, "--until", f"dt={DAYS[2]}")
    os.utime(part(nightly, DAYS[2]), (1.8e9, 1.8e9))
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "append", dying)
        with pytest.raises(Killed):
            score(nightly, "--until", f"dt={DAYS[4]}")
    assert set(runs_by_day(nightly)) == {*DAYS[:5]}
    assert Path(f"{nightly['output.path']}.job/commit.json").exists()
    before = files_of(f"{nightly['output.path']}.job")
    capsys.readouterr()
    score(nightly, "--dry-run")
    printed = capsys.readouterr().out
    assert "10 partitions by dt to score" in printed and "damaged" not in printed
    assert files_of(f"{nightly['output.path']}.job") == before
    assert "finished dt=" in (score(nightly, "--until", f"dt={DAYS[4]}") and capsys.readouterr().out)
    assert set(runs_by_day(nightly)) == {*DAYS[:5]}


def test_a_commit_between_two_looks_of_a_dry_run_is_nobody_elses(score, nightly, spark, monkeypatch):
    score(nightly, "--limit", "1")
    stale = ledger_of(nightly)
    score(nightly, "--limit", "1")
    real, calls = opening._ledger, []

    def late(*args: Any) -> Ledger:
        calls.append(1)
        return stale if len(calls) == 1 else real(*args)

    monkeypatch.setattr(opening, "_ledger", late)
    score(nightly, "--dry-run")
    assert len(calls) > 1
    monkeypatch.undo()
    (Path(nightly["output.path"]) / "dt=x").mkdir()
    shutil.copyfile(part(nightly, DAYS[0]), Path(nightly["output.path"]) / "dt=x" / "a.parquet")
    with pytest.raises(OutputError, match=r"dt=x/a\.parquet was written by no run of this job"):
        score(nightly, "--dry-run")


def test_a_damaged_table_is_mended(score, nightly):
    score(nightly)
    whole = table_of(nightly["output.path"])
    for file in Path(nightly["output.path"], f"dt={DAYS[4]}").glob("*.parquet"):
        file.unlink()
    run = score(nightly | {"plan.max_rescored_share": 0.0})
    assert [(p["partition"], p["why"]) for p in run.result["plan"]["score"]] == [
        (f"dt={DAYS[4]}", "damaged in the table")
    ]
    assert table_of(nightly["output.path"])["doc_id"].equals(whole["doc_id"])


# --- models and schemas ---


def test_another_model_is_refused_and_told_what_it_would_cost(score, nightly, checkpoint):
    score(nightly)
    before = files_of(nightly["output.path"])
    other = nightly | {"model.path": str(checkpoint(seed=7))}
    part(nightly, "2026-02-01").parent.mkdir()
    append(part(nightly, "2026-02-01"), part(nightly, DAYS[0]), 50)
    with pytest.raises(RefusedError, match=r"12 partitions of the table \(72 of 72 documents\).*on_model_change"):
        score(other)
    assert files_of(nightly["output.path"]) == before
    score(other | {"on_model_change": "only_new"})
    models = {(r["dt"], r["model_id"]) for r in table_of(nightly["output.path"]).select(["dt", "model_id"]).to_pylist()}
    assert len(models) == 13
    assert len({model for _, model in models}) == 2
    score(other | {"on_model_change": "rescore"})
    assert len(set(table_of(nightly["output.path"])["model_id"].to_pylist())) == 1


def test_another_kept_column_is_refused_rescored_or_new_ones_only(score, nightly):
    score(nightly)
    wider = nightly | {"input.author_column": "author"}
    with pytest.raises(RefusedError, match="columns doc_id, the settings carry doc_id, author: set on_schema_change"):
        score(wider)
    part(nightly, "2026-02-01").parent.mkdir()
    append(part(nightly, "2026-02-01"), part(nightly, DAYS[0]), 50)
    score(wider | {"on_schema_change": "only_new"})
    assert {
        r["dt"] for r in table_of(nightly["output.path"], union_by_name=True).to_pylist() if r["author"] is not None
    } == {"2026-02-01"}
    score(wider | {"on_schema_change": "rescore"})
    assert None not in table_of(nightly["output.path"], union_by_name=True)["author"].to_pylist()
    assert score(wider).result["plan"]["up_to_date"] == 13


# --- what can't be scored fails alone ---


def test_partitions_of_another_schema_fail_and_the_others_are_committed(score, nightly):
    score(nightly, "--until", f"dt={DAYS[2]}")
    before = table_of(nightly["output.path"])
    renamed = pq.read_table(part(nightly, DAYS[5]), partitioning=None).rename_columns(["doc_id", "author", "body"])
    pq.write_table(renamed, part(nightly, DAYS[5]))
    numbers = pq.read_table(part(nightly, DAYS[7]), partitioning=None)
    pq.write_table(numbers.set_column(0, "doc_id", pa.array(range(6))), part(nightly, DAYS[7]))
    with pytest.raises(PartitionsFailedError) as failed:
        score(nightly)
    message = str(failed.value)
    assert message.startswith("2 of 9 partitions failed: ")
    assert f"{part(nightly, DAYS[5])} has no column text" in message
    assert f"{part(nightly, DAYS[7])} has column doc_id as bigint, the table has it as string" in message
    after = table_of(nightly["output.path"])
    assert set(after["dt"].to_pylist()) == {*DAYS} - {DAYS[5], DAYS[7]}
    earlier = after.filter(pa.compute.is_in(after["dt"], pa.array(DAYS[:3])))
    assert earlier.equals(before), "what the table had is as it was"
    with pytest.raises(PartitionsFailedError, match="2 of 2 partitions failed"):
        score(nightly)


def test_an_id_of_another_type_in_every_new_partition_needs_a_word(score, nightly):
    score(nightly, "--until", f"dt={DAYS[5]}")
    for day in DAYS[6:]:
        table = pq.read_table(part(nightly, day), partitioning=None)
        pq.write_table(table.set_column(0, "doc_id", pa.array(range(6))), part(nightly, day))
    with pytest.raises(PartitionsFailedError, match=r"6 of 6 partitions failed.*set on_schema_change to only_new"):
        score(nightly)
    assert set(runs_by_day(nightly)) == {*DAYS[:6]}
    score(nightly | {"on_schema_change": "only_new"})
    assert len(pq.read_table(f"{nightly['output.path']}/dt={DAYS[7]}", partitioning=None)) == 6


def test_a_corrupt_and_a_truncated_file_fail_their_partitions_and_are_mended_by_a_rerun(score, nightly, monkeypatch):
    at_end: list[Standing] = []
    leave = Progress.__exit__

    def leave_and_tell(shown: Progress, *about: Any) -> None:
        at_end.append(shown._standing())
        leave(shown, *about)

    monkeypatch.setattr(Progress, "__exit__", leave_and_tell)
    whole = {day: part(nightly, day).read_bytes() for day in (DAYS[2], DAYS[8])}
    corrupt(part(nightly, DAYS[2]))
    part(nightly, DAYS[8]).write_bytes(whole[DAYS[8]][:-100])
    with pytest.raises(PartitionsFailedError) as failed:
        score(nightly)
    for day in (DAYS[2], DAYS[8]):
        assert str(part(nightly, day)) in str(failed.value)
    assert set(runs_by_day(nightly)) == {*DAYS} - {DAYS[2], DAYS[8]}
    rows = table_of(nightly["output.path"]).num_rows
    assert [(s.documents, s.of_documents) for s in at_end] == [(rows, rows)], "what was scored twice counts once"
    assert not list(Path(f"{nightly['output.path']}.job/staging").iterdir())
    for day, good in whole.items():
        part(nightly, day).write_bytes(good)
    run = score(nightly)
    assert {p["partition"] for p in run.result["plan"]["score"]} == {f"dt={DAYS[2]}", f"dt={DAYS[8]}"}
    assert set(runs_by_day(nightly)) == {*DAYS}


def test_a_read_only_output_is_told_and_left_alone(score, nightly, tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("only root can mount a disk")
    try:
        settings = nightly | {"output.path": str(place / "scores")}
        score(settings, "--limit", "2")
        before = table_of(settings["output.path"])
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        with pytest.raises(OutputError, match=r"Read-only file system.*check the path"):
            score(settings)
        assert table_of(settings["output.path"]).equals(before)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


# --- a table that is not what the run expects ---


def test_a_lost_ledger_is_not_an_empty_table(score, basics):
    score(basics)
    shutil.rmtree(Path(f"{basics['output.path']}.job/ledger"))
    with pytest.raises(OutputError, match="written by no run of this job"):
        score(basics)
    with pytest.raises(RefusedError, match="partitioned by dt"):
        score(basics | {"input.partition_columns": []})


def test_a_first_run_in_which_all_failed_binds_nobody_to_its_partitions(score, basics, corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "whole")
    for file in corpus.rglob("*.parquet"):
        corrupt(file)
    with pytest.raises(PartitionsFailedError):
        score(basics)
    assert Path(f"{basics['output.path']}.job", "table.json").exists()
    shutil.rmtree(corpus)
    shutil.copytree(tmp_path / "whole", corpus)
    score(basics | {"input.partition_columns": []})
    assert duckdb.sql(f"SELECT count(*) FROM '{basics['output.path']}/*.parquet'").fetchall() == [(120,)]
    with pytest.raises(RefusedError, match="partitioned by nothing"):
        score(basics)


def test_what_was_replaced_is_removed_in_time_also_by_a_run_that_is_refused(score, nightly, checkpoint):
    score(nightly)
    score(nightly, "--rescore")
    trash = Path(f"{nightly['output.path']}.job/trash")
    assert list(trash.rglob("*.parquet"))
    with pytest.raises(RefusedError):
        score(nightly | {"input.keep_columns": ["likes"], "retention.trash_days": 0})
    assert not list(trash.rglob("*.parquet"))


# --- what a run tells ---


def test_a_dry_run_estimates_from_a_calibration_and_then_from_the_ledger(score, nightly, capsys):
    score(nightly, "--dry-run")
    printed = capsys.readouterr().out
    assert "12 partitions by dt to score, 72 documents" in printed
    assert "scored by one task, times 2 tasks at once" in printed
    assert not Path(nightly["output.path"] + ".job").exists()
    score(nightly, "--limit", "3")
    capsys.readouterr()
    score(nightly, "--dry-run", "--since", f"dt={DAYS[6]}")
    printed = capsys.readouterr().out
    assert "6 partitions by dt to score, 36 documents" in printed
    assert "by the last 3 partitions that this model has scored" in printed
    assert "tokens" in printed
    assert "hours" in printed


def test_steps_are_committed_one_by_one(score, nightly):
    run = score(nightly | {"commit_every.partitions": 5})
    assert [s["partitions"] for s in run.result["steps"]] == [5, 5, 2]
    for step in run.result["steps"]:
        assert step["stage_seconds"].keys() == {"written", "counted", "committed"}
        assert sum(step["stage_seconds"].values()) == pytest.approx(step["seconds"], abs=0.01)
    phases = run.result["phase_seconds"]
    assert phases.keys() == {"start", "plan", "model"} and all(seconds > 0 for seconds in phases.values())
    entries = ledger_of(nightly).committed.values()
    assert len({e.commit for e in entries}) == 3
    assert {(e.cores, e.device) for e in entries} == {(2, "cpu")}
    log = Path(f"{nightly['output.path']}.job/runs/{run.run_id}.log").read_text().splitlines()
    events = [json.loads(line) for line in log]
    assert [e["event"] for e in events] == ["committed"] * 3
    assert {e["run_id"] for e in events} == {run.run_id}


def test_a_slow_corpus_is_committed_by_the_clock(score, nightly):
    run = score(nightly | {"commit_every.minutes": 0.0001}, "--limit", "4")
    assert len(run.result["steps"]) == 4


@pytest.mark.parametrize(("length", "together"), [(20, True), (20_000, False)])
def test_the_first_step_of_a_new_table_holds_fewer_partitions_where_texts_are_long(
    score, basics, tmp_path, length, together
):
    """Nothing is measured yet: by documents alone all of them would be a step of a tenth of a second."""
    words = random.Random(0)
    for day in DAYS[:4]:
        folder = tmp_path / "long" / f"dt={day}"
        folder.mkdir(parents=True)
        text = "".join(words.choices(string.ascii_lowercase + " ", k=length))
        pq.write_table(pa.table({"doc_id": [day], "text": [text]}), folder / "a.parquet")
    run = score(basics | {"input.path": str(tmp_path / "long"), "commit_every.minutes": 0.1 / 60})
    assert run.result["steps"][0]["partitions"] == (4 if together else 1)


def test_runs_and_ledger_are_tables_for_sql(score, nightly):
    score(nightly)
    job = f"{nightly['output.path']}.job"
    documents = duckdb.sql(f"SELECT sum(documents) FROM read_json('{job}/ledger/*.jsonl')").fetchall()
    assert documents == [(72,)]
    assert duckdb.sql(f"SELECT job FROM read_json('{job}/runs/*.json')").fetchall() == [("score",)]


def test_flags_and_settings_that_make_no_sense(score, nightly):
    for change, words in (
        ({"output.table": "db.scores; --"}, "Hive takes letters, digits and _"),
        ({"output.format": "iceberg", "output.table": "scores"}, "write it as namespace.table"),
        ({"on_model_change": "maybe"}, "on_model_change 'maybe'"),
        ({"commit_every": 5}, "commit_every 5: must be a section"),
    ):
        with pytest.raises(SettingsError, match=words):
            score(nightly | change)


def test_a_run_that_was_killed_is_noticed_by_the_next_one(score, nightly):
    """By its record, which says that it was never ended."""
    score(nightly)
    job = Path(f"{nightly['output.path']}.job")
    dead = "20260101T000000Z-dead00"
    (job / "runs" / f"{dead}.json").write_text(json.dumps({"run_id": dead, "exit_code": None, "message": "running"}))
    (job / "running").write_text(dead + "\n")
    assert score(nightly).result["plan"]["score"] == []
    record = json.loads((job / "runs" / f"{dead}.json").read_text())
    assert record["exit_code"] is None
    assert record["message"].startswith("ended without a word")
