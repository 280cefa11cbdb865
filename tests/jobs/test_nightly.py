"""Night after night: what is new or changed is scored, and nothing else; what can't be, fails alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bigfive_udf.errors import InputError, OutputError, PartitionsFailedError, RefusedError, SettingsError
from bigfive_udf.spark.input import corpus as corpus_module
from bigfive_udf.spark.job.progress import Progress, Standing
from bigfive_udf.tables import opening
from bigfive_udf.tables.filesystem import FileInfo, LocalFileSystem
from bigfive_udf.tables.ledger import Ledger
from corpora import corrupt, write_corpus

DAYS = [f"2026-01-{day:02d}" for day in range(5, 17)]


@pytest.fixture
def nightly(tmp_path: Path, basics: dict[str, Any]) -> dict[str, Any]:
    """Settings of a job on a corpus of twelve days, any share of which may be scored again."""
    corpus = write_corpus(tmp_path / "days", days=12, rows=6)
    return basics | {"input.path": str(corpus), "plan.max_rescored_share": 1.0}


def rows_of(settings: dict[str, Any]) -> pa.Table:
    path = settings["output.path"]
    return duckdb.sql(f"""SELECT * FROM read_parquet('{path}/**/*.parquet', hive_partitioning=true,
        hive_types_autocast=false, union_by_name=true) ORDER BY doc_id""").to_arrow_table()


def runs_by_day(settings: dict[str, Any]) -> dict[str, str]:
    """The run that wrote each day; a day of two runs fails the test."""
    pairs = {(r["dt"], r["run_id"]) for r in rows_of(settings).select(["dt", "run_id"]).to_pylist()}
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


def files_of(directory: str | Path) -> dict[str, tuple[int, int, int]]:
    """Every file with its inode, size and time: what a rerun must leave alone."""
    found = {}
    for path in sorted(Path(directory).rglob("*")):
        status = path.stat()
        found[str(path.relative_to(directory))] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def part(settings: dict[str, Any], day: str, name: str = "part-0.parquet") -> Path:
    return Path(settings["input.path"]) / f"dt={day}" / name


def append(file: Path, like: Path, first: int, rows: int = 2) -> None:
    table = pq.read_table(like, partitioning=None).slice(0, rows)
    ids = pa.array([f"new-{first + i}" for i in range(rows)])
    pq.write_table(table.set_column(0, "doc_id", ids), file)


def ledger_of(settings: dict[str, Any]) -> Ledger:
    return Ledger(LocalFileSystem(), f"{settings['output.path']}.job/ledger")


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
    assert len(rows_of(nightly)) == 12 * 6 + 2


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
    before = rows_of(nightly)
    capsys.readouterr()
    run = score(nightly | {"labels.thresholds": {"O": 0.0, "E": 1.0}})
    after, printed = rows_of(nightly), capsys.readouterr().out
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
    assert set(rows_of(nightly)["label_openness"].to_pylist()) == {True}


def test_a_partition_that_became_empty_is_empty_in_the_table_and_one_that_is_gone_stays_until_it_is_pruned(
    score, nightly, capsys
):
    score(nightly)
    part(nightly, DAYS[0]).unlink()
    shutil.rmtree(part(nightly, DAYS[1]).parent)
    capsys.readouterr()
    score(nightly)
    assert f"1 in the table and gone from the input: dt={DAYS[1]} (--prune removes them)" in capsys.readouterr().out
    assert set(runs_by_day(nightly)) == {*DAYS} - {DAYS[0]}
    assert sorted(os.listdir(f"{nightly['output.path']}/dt={DAYS[0]}")) == ["_SUCCESS"]
    run = score(nightly, "--prune")
    assert run.result["removed_partitions"] == [f"dt={DAYS[1]}"]
    assert set(runs_by_day(nightly)) == {*DAYS} - {DAYS[0], DAYS[1]}
    assert not Path(nightly["output.path"], f"dt={DAYS[1]}").exists()
    assert set(ledger_of(nightly).committed) == {f"dt={d}" for d in DAYS} - {f"dt={DAYS[1]}"}


@pytest.mark.parametrize("flags", [("--rescore",), ("--prune",), ("--rescore", "--prune")])
@pytest.mark.parametrize(
    "narrow",
    ["dt=2026-01-06", "dt=2026-01-0[56]", "*2026-01-0[56]", "*=2026-01-0[^789]", "dt=2026-01-{06,05}/part-0.*"],
)
def test_what_lies_outside_of_a_narrower_input_path_stays_as_it_is(score, nightly, capsys, narrow, flags):
    score(nightly)
    before = files_of(nightly["output.path"])
    capsys.readouterr()
    run = score(nightly | {"input.path": f"{nightly['input.path']}/{narrow}"}, *flags)
    here = {f"dt={day}" for day in (DAYS[1:2] if narrow == "dt=2026-01-06" else DAYS[:2])}
    assert {p["partition"] for p in run.result["plan"]["score"]} == (here if "--rescore" in flags else set())
    assert f"  {12 - len(here)} keep their scores: outside of input.path" in capsys.readouterr().out
    after = files_of(nightly["output.path"])
    assert all(after[name] == before[name] for name in before if name[:13] not in here)
    assert set(runs_by_day(nightly)) == {*DAYS}
    assert run.result["removed_partitions"] == []


def test_a_partition_that_is_being_written_anew_is_not_empty(score, nightly, capsys):
    score(nightly)
    before = rows_of(nightly)
    part(nightly, DAYS[2]).unlink()
    attempt = part(nightly, DAYS[2], "_temporary") / "0" / "_temporary" / "attempt_0"
    attempt.mkdir(parents=True)
    (attempt / "part-0.parquet").write_bytes(b"half of it")
    told = f"1 .*dt={DAYS[2]}: its directory holds no file but what some"
    score(nightly, "--dry-run")
    assert f"can't be judged: dt={DAYS[2]}: its directory holds no file but" in capsys.readouterr().out
    for flags in ((), ("--prune",), ("--rescore",), ("--partition", f"dt={DAYS[2]}")):
        with pytest.raises(PartitionsFailedError, match=told):
            score(nightly, *flags)
        assert rows_of(nightly)["doc_id"].equals(before["doc_id"])
    capsys.readouterr()
    score(nightly, "--rescore", "--since", f"dt={DAYS[11]}")
    assert "1 keep their scores: its directory holds no file but" in capsys.readouterr().out
    for day in DAYS:
        part(nightly, day, "_READY").write_text("")
    ready = nightly | {"input.ready_file": "_READY"}
    with pytest.raises(PartitionsFailedError, match=told):
        score(ready)  # that it was once ready does not say when
    part(nightly, DAYS[2], "_READY").unlink()
    for _ in range(2):
        run = score(ready, "--prune")
        assert run.result["plan"]["kept"] == {f"dt={DAYS[2]}": "there is no file yet, nor the ready file"}
        assert rows_of(nightly)["doc_id"].equals(before["doc_id"])
        shutil.rmtree(part(nightly, DAYS[2], "_temporary"), ignore_errors=True)  # the second time it is empty
    score(nightly)
    assert set(runs_by_day(nightly)) == {*DAYS} - {DAYS[2]}


def test_one_that_was_replaced_while_the_corpus_was_listed_is_not_empty(score, nightly, monkeypatch):
    """The listing falls between the removal of its directory and its return."""
    score(nightly)
    before = rows_of(nightly)
    real, listed = LocalFileSystem.files, []

    def files(self: LocalFileSystem, root: str) -> Iterator[FileInfo]:
        listed.append(root)
        corpus = root == nightly["input.path"]
        return (f for f in real(self, root) if not corpus or f"dt={DAYS[2]}" not in f.path)

    monkeypatch.setattr(LocalFileSystem, "files", files)
    with pytest.raises(PartitionsFailedError, match=f"1 of 1 partition failed: dt={DAYS[2]}: its directory"):
        score(nightly)
    assert nightly["input.path"] in listed
    assert rows_of(nightly).equals(before)
    monkeypatch.undo()
    assert score(nightly).result["plan"]["up_to_date"] == 12


def test_directories_above_those_of_the_partitions_hide_nothing(score, basics, tmp_path):
    """Partition directories do not count from the nearest one that is called column=value."""
    corpus = write_corpus(tmp_path / "env=prod" / "texts", days=4)
    settings = basics | {"input.path": str(corpus)}
    score(settings)
    shutil.rmtree(corpus / "dt=2026-01-05")
    (corpus / "dt=2026-01-06" / "part-0.parquet").unlink()
    (corpus / "dt=2026-01-07" / "part-0.parquet").rename(corpus / "dt=2026-01-07" / "_temporary")
    with pytest.raises(PartitionsFailedError, match="1 of 2 partitions failed: dt=2026-01-07: its directory holds no"):
        score(settings | {"plan.max_rescored_share": 1.0}, "--prune")
    assert set(runs_by_day(settings)) == {"2026-01-07", "2026-01-08"}
    assert set(ledger_of(settings).committed) == {"dt=2026-01-06", "dt=2026-01-07", "dt=2026-01-08"}


def test_a_directory_that_is_not_named_as_spark_would_is_still_looked_at(score, basics, tmp_path):
    folder = tmp_path / "cities" / "city=K%C3%B6ln"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"doc_id": [1], "text": ["one text"]}), folder / "a.parquet")
    settings = basics | {"input.path": str(folder), "plan.max_rescored_share": 1.0}
    score(settings)
    pq.write_table(pa.table({"doc_id": [1, 2], "text": ["one text", "two"]}), folder / "a.parquet")
    assert score(settings).result["documents_out"] == 2


def test_files_that_the_path_does_not_name_make_no_partition_empty(score, nightly):
    score(nightly)
    part(nightly, DAYS[1]).rename(part(nightly, DAYS[1], "other.parquet"))
    run = score(nightly | {"input.path": f"{nightly['input.path']}/dt=*/part-*.parquet"}, "--prune")
    assert run.result["plan"]["kept"] == {f"dt={DAYS[1]}": "outside of input.path"}
    assert set(runs_by_day(nightly)) == {*DAYS}


def test_so_is_one_below_a_directory_that_is_being_written_anew(score, basics, tmp_path):
    root = tmp_path / "nested"
    for day in (1, 2):
        for country in ("be", "nl"):
            folder = root / f"day={day}" / f"country={country}"
            folder.mkdir(parents=True)
            pq.write_table(pa.table({"doc_id": [f"{day}{country}"], "text": ["one text"]}), folder / "a.parquet")
    settings = basics | {"input.path": str(root)}
    score(settings)
    shutil.rmtree(root / "day=1")
    (root / "day=1" / "_temporary").mkdir(parents=True)
    with pytest.raises(
        PartitionsFailedError, match="2 of 2 partitions failed: day=1/country=be: its directory holds no file"
    ):
        score(settings, "--prune")
    assert len(rows_of(settings)) == 4
    (root / "day=1" / "_temporary").rmdir()
    score(settings, "--prune")
    assert rows_of(settings)["doc_id"].to_pylist() == ["2be", "2nl"]


def test_labels_of_what_is_gone_are_computed_again_and_its_damage_is_told(score, nightly, capsys):
    score(nightly)
    for day in DAYS[:2]:
        shutil.rmtree(part(nightly, day).parent)
    score(nightly | {"labels.thresholds": {"O": 0.0}})
    labels = rows_of(nightly).select(["dt", "label_openness"]).to_pylist()
    assert {row["label_openness"] for row in labels} == {True}
    assert len(labels) == 72
    (file,) = Path(nightly["output.path"], f"dt={DAYS[0]}").glob("*.parquet")
    file.unlink()
    told = rf"1 of \d+ partitions? failed: dt={DAYS[0]}: the table no longer holds what was .*--prune"
    for settings in (nightly | {"labels.thresholds": {"O": 0.0}}, nightly):
        with pytest.raises(PartitionsFailedError, match=told):
            score(settings)
    assert len(rows_of(nightly)) == 66
    score(nightly, "--prune")
    assert set(runs_by_day(nightly)) == {*DAYS} - {*DAYS[:2]}


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


def test_pruning_keeps_to_the_partitions_that_are_asked_for(score, nightly):
    score(nightly)
    for day in DAYS[:3]:
        shutil.rmtree(part(nightly, day).parent)
    with pytest.raises(InputError, match=f"--partition dt={DAYS[1]} is not in the input"):
        score(nightly, "--partition", f"dt={DAYS[1]}")
    score(nightly, "--prune", "--partition", f"dt={DAYS[1]}")
    assert set(runs_by_day(nightly)) == {*DAYS} - {DAYS[1]}


def test_only_partitions_that_hold_the_ready_file_are_seen(score, nightly, capsys):
    for day in DAYS[:3]:
        part(nightly, day, "_READY").write_text("")
    ready = nightly | {"input.ready_file": "_READY"}
    score(ready)
    assert set(runs_by_day(nightly)) == {*DAYS[:3]}
    with pytest.raises(InputError, match="does not hold the ready file yet"):
        score(ready, "--partition", f"dt={DAYS[5]}")
    part(nightly, DAYS[0], "_READY").unlink()
    append(part(nightly, DAYS[0], "half-written.parquet"), part(nightly, DAYS[0]), 0)
    capsys.readouterr()
    score(ready, "--prune")
    assert "10 not ready" in capsys.readouterr().out
    assert set(runs_by_day(nightly)) == {*DAYS[:3]}, "what is being written anew upstream is neither scored nor removed"


def test_a_damaged_table_is_mended(score, nightly):
    score(nightly)
    whole = rows_of(nightly)
    for file in Path(nightly["output.path"], f"dt={DAYS[4]}").glob("*.parquet"):
        file.unlink()
    run = score(nightly | {"plan.max_rescored_share": 0.0})
    assert [(p["partition"], p["why"]) for p in run.result["plan"]["score"]] == [
        (f"dt={DAYS[4]}", "damaged in the table")
    ]
    assert rows_of(nightly)["doc_id"].equals(whole["doc_id"])


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
    models = {(r["dt"], r["model_id"]) for r in rows_of(nightly).select(["dt", "model_id"]).to_pylist()}
    assert len(models) == 13
    assert len({model for _, model in models}) == 2
    score(other | {"on_model_change": "rescore"})
    assert len(set(rows_of(nightly)["model_id"].to_pylist())) == 1


def test_another_kept_column_is_refused_rescored_or_new_ones_only(score, nightly):
    score(nightly)
    wider = nightly | {"input.author_column": "author"}
    with pytest.raises(RefusedError, match="columns doc_id, the settings carry doc_id, author: set on_schema_change"):
        score(wider)
    part(nightly, "2026-02-01").parent.mkdir()
    append(part(nightly, "2026-02-01"), part(nightly, DAYS[0]), 50)
    score(wider | {"on_schema_change": "only_new"})
    assert {r["dt"] for r in rows_of(nightly).to_pylist() if r["author"] is not None} == {"2026-02-01"}
    score(wider | {"on_schema_change": "rescore"})
    assert None not in rows_of(nightly)["author"].to_pylist()
    assert score(wider).result["plan"]["up_to_date"] == 13


# --- what can't be scored fails alone ---


def test_partitions_of_another_schema_fail_and_the_others_are_committed(score, nightly):
    score(nightly, "--until", f"dt={DAYS[2]}")
    before = rows_of(nightly)
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
    after = rows_of(nightly)
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
    rows = rows_of(nightly).num_rows
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
        before = rows_of(settings)
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        with pytest.raises(OutputError, match=r"Read-only file system.*check the path"):
            score(settings)
        assert rows_of(settings).equals(before)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


# --- groups of files ---


@pytest.fixture
def groups_of_two(monkeypatch):
    monkeypatch.setattr(corpus_module, "grouped", partial(corpus_module.grouped, max_files=2))


def test_a_corpus_without_partition_columns_is_scored_group_by_group(score, basics, tmp_path, groups_of_two):
    flat = tmp_path / "flat dir"
    flat.mkdir()
    for i in range(5):
        table = pa.table({"doc_id": [10 * i, 10 * i + 1], "text": [f"one text {i}", None]})
        pq.write_table(table, flat / f"a%20b {i}é.parquet")
    settings = basics | {"input.path": str(flat), "plan.max_rescored_share": 1.0}
    first = score(settings).run_id
    names = {f"group-{n:06d}.parquet" for n in (1, 2, 3)}
    assert {p.name for p in Path(settings["output.path"]).glob("*.parquet")} == names
    os.utime(flat / "a%20b 2é.parquet", (1.7e9, 1.7e9))
    pq.write_table(pa.table({"doc_id": [99], "text": ["new"]}), flat / "0.parquet")
    second = score(settings).run_id
    table = duckdb.sql(f"SELECT doc_id, run_id FROM '{settings['output.path']}/*.parquet'").fetchall()
    assert sorted(i for i, _ in table) == sorted([10 * i + j for i in range(5) for j in (0, 1)] + [99])
    assert {i for i, run in table if run == second} == {20, 21, 30, 31, 99}
    assert {run for _, run in table} == {first, second}


def test_a_corpus_without_partition_columns_waits_for_its_ready_file_as_a_whole(score, basics, tmp_path, capsys):
    flat = tmp_path / "flat"
    flat.mkdir()
    pq.write_table(pa.table({"doc_id": [1, 2], "text": ["one text", "two texts"]}), flat / "a.parquet")
    settings = basics | {"input.path": str(flat), "input.ready_file": "_READY"}
    score(settings)
    assert "the corpus is not ready" in capsys.readouterr().out
    (flat / "_READY").write_text("")
    score(settings)
    (flat / "_READY").unlink()
    pq.write_table(pa.table({"doc_id": [3], "text": ["half of it"]}), flat / "b.parquet")
    capsys.readouterr()
    run = score(settings, "--prune")
    assert "the corpus is not ready" in capsys.readouterr().out
    assert (run.result["plan"]["remove"], run.result["plan"]["gone"], run.result["plan"]["score"]) == ([], [], [])
    assert duckdb.sql(f"SELECT count(*) FROM '{settings['output.path']}/*.parquet'").fetchall() == [(2,)]


def test_files_that_are_written_anew_under_other_names_stand_once(score, basics, tmp_path, groups_of_two):
    flat = tmp_path / "flat"
    flat.mkdir()
    for i in range(6):
        pq.write_table(pa.table({"doc_id": [i], "text": [f"text {i}"]}), flat / f"{i}.parquet")
    settings = basics | {"input.path": str(flat)}
    score(settings)
    for i in range(2):  # one group of three
        (flat / f"{i}.parquet").rename(flat / f"moved-{i}.parquet")
    with pytest.raises(RefusedError, match="2 of the table's 6 documents would be taken out"):
        score(settings)
    score(settings | {"plan.max_rescored_share": 1.0})
    rows = duckdb.sql(f"SELECT doc_id FROM '{settings['output.path']}/*.parquet' ORDER BY 1").fetchall()
    assert rows == [(i,) for i in range(6)]


def write_flat(flat: Path, files: int = 6) -> None:
    flat.mkdir()
    for i in range(files):
        pq.write_table(pa.table({"doc_id": [i], "text": [f"text {i}"]}), flat / f"{i}.parquet")


def scored_and_moved(score: Any, basics: dict[str, Any], flat: Path) -> dict[str, Any]:
    """Settings of a table of three groups, the first of which has lost a file to a new name, the second both."""
    write_flat(flat)
    settings = basics | {"input.path": str(flat), "plan.max_rescored_share": 1.0}
    score(settings)
    for i in (1, 2, 3):
        (flat / f"{i}.parquet").rename(flat / f"moved-{i}.parquet")
    return settings


def flat_ids(settings: dict[str, Any]) -> list[int]:
    rows = duckdb.sql(f"SELECT doc_id FROM '{settings['output.path']}/*.parquet' ORDER BY 1").fetchall()
    return [i for (i,) in rows]


def test_groups_that_are_more_than_a_step_are_committed_in_several_and_no_text_stands_twice(
    score, basics, tmp_path, groups_of_two
):
    flat = tmp_path / "flat"
    settings = scored_and_moved(score, basics, flat)
    file = flat / "0.parquet"
    whole = file.read_bytes()
    corrupt(file)
    small = settings | {"commit_every.partitions": 1}
    with pytest.raises(PartitionsFailedError, match="not committed where one of the others can't be"):
        score(small)
    assert flat_ids(settings) == list(range(6)), "what has lost a file could not be read, so nothing new is shown"
    file.write_bytes(whole)
    limited = score(small, "--limit", "1")
    assert limited.result["removed_partitions"] == ["group-000002"]
    assert flat_ids(settings) == [0, 4, 5], "the rest is left for later"
    run = score(small)
    assert flat_ids(settings) == list(range(6))
    assert len({e.commit for e in ledger_of(settings).committed.values() if e.run_id == run.run_id}) == 2


@pytest.mark.parametrize("broken", ["old", "new"])
@pytest.mark.parametrize("how", ["rows", "footer"])
def test_where_files_have_moved_between_groups_all_is_committed_or_nothing(
    score, basics, tmp_path, groups_of_two, broken, how
):
    """One group has lost a file, whose text is in a new one; another is gone whole. Then one of them can't be read."""
    flat = tmp_path / "flat"
    settings = scored_and_moved(score, basics, flat)
    pq.write_table(pa.table({"doc_id": [4], "text": ["another text"]}), flat / "4.parquet")
    file = flat / ("0.parquet" if broken == "old" else "moved-3.parquet")
    whole = file.read_bytes()
    corrupt(file) if how == "rows" else file.write_bytes(whole[:-9])
    with pytest.raises(PartitionsFailedError, match="it is not committed where one of the others can't be"):
        score(settings)
    assert flat_ids(settings) == list(range(6)), "no text twice and none lost"
    texts = {e.partition: e.run_id for e in ledger_of(settings).committed.values()}
    assert len(texts) == 3 and texts["group-000003"] != texts["group-000001"], "what none has moved to is committed"
    file.write_bytes(whole)
    run = score(settings)
    assert flat_ids(settings) == list(range(6))
    assert run.result["removed_partitions"] == ["group-000002"]
    assert len({e.commit for e in ledger_of(settings).committed.values() if e.run_id == run.run_id}) == 1


def test_a_narrower_path_to_files_without_partitions_takes_nothing_out_unasked(score, basics, tmp_path, groups_of_two):
    write_flat(tmp_path / "flat")
    settings = basics | {"input.path": str(tmp_path / "flat")}
    score(settings)
    run = score(settings | {"input.path": f"{tmp_path}/flat/[01].parquet"}, "--rescore", "--prune")
    assert [p["partition"] for p in run.result["plan"]["score"]] == ["group-000001"]
    assert set(run.result["plan"]["kept"].values()) == {"outside of input.path"}
    assert flat_ids(settings) == list(range(6))
    with pytest.raises(
        PartitionsFailedError, match=r"1 of 2 .*: group-000002: input\.path names only some of its files"
    ):
        score(settings | {"input.path": f"{tmp_path}/flat/{{0,1,2}}.parquet"}, "--rescore", "--prune")
    assert flat_ids(settings) == list(range(6))


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
    assert "by the ledger's last 3 partitions" in printed
    assert "tokens" in printed
    assert "hours" in printed


def test_steps_are_committed_one_by_one(score, nightly):
    run = score(nightly | {"commit_every.partitions": 5})
    assert [s["partitions"] for s in run.result["steps"]] == [5, 5, 2]
    assert len({e.commit for e in ledger_of(nightly).committed.values()}) == 3
    log = Path(f"{nightly['output.path']}.job/runs/{run.run_id}.log").read_text().splitlines()
    events = [json.loads(line) for line in log]
    assert [e["event"] for e in events] == ["committed"] * 3
    assert {e["run_id"] for e in events} == {run.run_id}


def test_a_slow_corpus_is_committed_by_the_clock(score, nightly):
    run = score(nightly | {"commit_every.minutes": 0.0001}, "--limit", "4")
    assert len(run.result["steps"]) == 4


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
