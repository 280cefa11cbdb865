"""A corpus without partition columns: its files are scored in groups, between which they may move."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bigfive_udf.errors import PartitionsFailedError, RefusedError
from bigfive_udf.spark.input import files as files_module
from support.corpora import corrupt
from support.models import overflowing
from support.scores import ledger_of


@pytest.fixture
def groups_of_two(monkeypatch):
    monkeypatch.setattr(files_module, "grouped", partial(files_module.grouped, max_files=2))


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
@pytest.mark.parametrize("how", ["rows", "footer", "scores"])
def test_where_files_have_moved_between_groups_all_is_committed_or_nothing(
    score, basics, tmp_path, groups_of_two, checkpoint, broken, how
):
    """One group has lost a file, whose text is in a new one; another is gone whole. Then one of them fails."""
    flat = tmp_path / "flat"
    model = overflowing(checkpoint(), tmp_path / "narrow", "like")
    settings = scored_and_moved(score, basics | {"model.path": str(model)}, flat)
    pq.write_table(pa.table({"doc_id": [4], "text": ["another text"]}), flat / "4.parquet")
    file = flat / ("0.parquet" if broken == "old" else "moved-3.parquet")
    whole = file.read_bytes()
    if how == "rows":
        corrupt(file)
    elif how == "footer":
        file.write_bytes(whole[:-9])
    else:
        pq.write_table(pq.read_table(file).set_column(1, "text", pa.array(["I like it"])), file)
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


@pytest.mark.parametrize("path", ["*", "*/dt=*", "*/dt=*/*.parquet", "v1", "v1/dt=*", "v1/dt=2026-01-05/*"])
def test_groups_of_files_in_directories_of_columns_are_known_again(score, basics, tmp_path, path):
    """The directories that a pattern matches are part of a file's name in its group."""
    folder = tmp_path / "all" / "v1" / "dt=2026-01-05"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"doc_id": [1], "text": ["one text"]}), folder / "a.parquet")
    settings = basics | {"input.path": f"{tmp_path}/all/{path}", "input.partition_columns": []}
    score(settings)
    assert score(settings).result["plan"]["up_to_date"] == 1
