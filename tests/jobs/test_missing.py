"""What the input does not show: gone, empty, not ready, being written, or outside of a narrower path."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bigfive_udf.errors import InputError, PartitionsFailedError
from bigfive_udf.tables.filesystem import FileInfo, LocalFileSystem
from support.corpora import write_corpus
from support.days import DAYS, append, part, runs_by_day
from support.scores import files_of, ledger_of, table_of


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


def test_pruning_keeps_to_the_partitions_that_are_asked_for(score, nightly):
    score(nightly)
    for day in DAYS[:3]:
        shutil.rmtree(part(nightly, day).parent)
    with pytest.raises(InputError, match=f"--partition dt={DAYS[1]} is not in the input"):
        score(nightly, "--partition", f"dt={DAYS[1]}")
    score(nightly, "--prune", "--partition", f"dt={DAYS[1]}")
    assert set(runs_by_day(nightly)) == {*DAYS} - {DAYS[1]}


def test_labels_of_what_is_gone_are_computed_again_and_its_damage_is_told(score, nightly, capsys):
    score(nightly)
    for day in DAYS[:2]:
        shutil.rmtree(part(nightly, day).parent)
    score(nightly | {"labels.thresholds": {"O": 0.0}})
    labels = table_of(nightly["output.path"]).select(["dt", "label_openness"]).to_pylist()
    assert {row["label_openness"] for row in labels} == {True}
    assert len(labels) == 72
    (file,) = Path(nightly["output.path"], f"dt={DAYS[0]}").glob("*.parquet")
    file.unlink()
    told = rf"1 of \d+ partitions? failed: dt={DAYS[0]}: the table no longer holds what was .*--prune"
    for settings in (nightly | {"labels.thresholds": {"O": 0.0}}, nightly):
        with pytest.raises(PartitionsFailedError, match=told):
            score(settings)
    assert len(table_of(nightly["output.path"])) == 66
    score(nightly, "--prune")
    assert set(runs_by_day(nightly)) == {*DAYS} - {*DAYS[:2]}


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


def test_a_partition_that_is_being_written_anew_is_not_empty(score, nightly, capsys):
    score(nightly)
    before = table_of(nightly["output.path"])
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
        assert table_of(nightly["output.path"])["doc_id"].equals(before["doc_id"])
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
        assert table_of(nightly["output.path"])["doc_id"].equals(before["doc_id"])
        shutil.rmtree(part(nightly, DAYS[2], "_temporary"), ignore_errors=True)  # the second time it is empty
    score(nightly)
    assert set(runs_by_day(nightly)) == {*DAYS} - {DAYS[2]}


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
    assert len(table_of(settings["output.path"])) == 4
    (root / "day=1" / "_temporary").rmdir()
    score(settings, "--prune")
    assert table_of(settings["output.path"])["doc_id"].to_pylist() == ["2be", "2nl"]


def test_one_that_was_replaced_while_the_corpus_was_listed_is_not_empty(score, nightly, monkeypatch):
    """The listing falls between the removal of its directory and its return."""
    score(nightly)
    before = table_of(nightly["output.path"])
    real, listed = LocalFileSystem.files, []

    def files(self: LocalFileSystem, root: str) -> Iterator[FileInfo]:
        listed.append(root)
        corpus = root == nightly["input.path"]
        return (f for f in real(self, root) if not corpus or f"dt={DAYS[2]}" not in f.path)

    monkeypatch.setattr(LocalFileSystem, "files", files)
    with pytest.raises(PartitionsFailedError, match=f"1 of 1 partition failed: dt={DAYS[2]}: its directory"):
        score(nightly)
    assert nightly["input.path"] in listed
    assert table_of(nightly["output.path"]).equals(before)
    monkeypatch.undo()
    assert score(nightly).result["plan"]["up_to_date"] == 12


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


def test_files_that_the_path_does_not_name_make_no_partition_empty(score, nightly):
    score(nightly)
    part(nightly, DAYS[1]).rename(part(nightly, DAYS[1], "other.parquet"))
    run = score(nightly | {"input.path": f"{nightly['input.path']}/dt=*/part-*.parquet"}, "--prune")
    assert run.result["plan"]["kept"] == {f"dt={DAYS[1]}": "outside of input.path"}
    assert set(runs_by_day(nightly)) == {*DAYS}


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
