"""The table as directories: what readers find in it before, between and after commits."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from bigfive_udf.errors import OutputError
from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.tables.ledger import Ledger
from bigfive_udf.tables.parquet_table import ParquetTable
from bigfive_udf.tables.partitions import HIVE_NULL
from support.nights import night

DT = ("dt",)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "scores")


def rows_of(path: str) -> set[tuple[object, ...]]:
    """What DuckDB finds under the table's directory, each row once or it is told."""
    options = "hive_partitioning = true, hive_types_autocast = false"
    found = duckdb.sql(f"FROM read_parquet('{path}/**/*.parquet', {options})").fetchall()
    assert len(found) == len(set(found)), "a row stands twice"
    return set(found)


def ledger_of(path: str) -> Ledger:
    return Ledger(LocalFileSystem(), f"{path}.job/ledger")


def test_a_new_partition_appears_beside_the_others(path):
    night(path, DT, {("2026-11-21",): [1]})
    night(path, DT, {("2026-11-22",): [2, 3], (None,): [4], ("a/b: 100%",): [5]}, number=2)
    assert rows_of(path) == {(1, "2026-11-21"), (2, "2026-11-22"), (3, "2026-11-22"), (4, None), (5, "a/b: 100%")}
    assert sorted(os.listdir(path)) == ["dt=2026-11-21", "dt=2026-11-22", f"dt={HIVE_NULL}", "dt=a%2Fb%3A 100%25"]


def test_a_replaced_partition_holds_the_new_rows_and_none_of_the_old(path):
    night(path, DT, {("1",): [1, 2, 3], ("2",): [4]})
    Path(path, "dt=1", "part-9.parquet").write_bytes(Path(path, "dt=1", "part-1.parquet").read_bytes())
    night(path, DT, {("1",): [9]}, number=2)
    assert rows_of(path) == {(4, "2"), (9, "1")}


def test_a_partition_that_became_empty_loses_its_rows(path):
    night(path, DT, {("1",): [1], ("2",): [2]})
    night(path, DT, {("1",): []}, number=2)
    assert rows_of(path) == {(2, "2")}
    assert os.listdir(f"{path}/dt=1") == ["_SUCCESS"]


def test_a_removed_partition_is_gone_from_table_and_ledger(path):
    night(path, DT, {("1",): [1], ("2",): [2]})
    night(path, DT, {("1",): None}, number=2)
    assert rows_of(path) == {(2, "2")}
    assert os.listdir(path) == ["dt=2"]
    assert list(ledger_of(path).committed) == ["dt=2"]


def test_every_committed_partition_holds_an_empty_success_file(path):
    columns = ("dt", "country")
    night(path, columns, {("1", "nl"): [1], ("1", None): [2], ("2", "be"): []})
    found = {str(p.parent.relative_to(path)): p.stat().st_size for p in Path(path).rglob("_SUCCESS")}
    assert found == {"dt=1/country=nl": 0, f"dt=1/country={HIVE_NULL}": 0, "dt=2/country=be": 0}


def test_groups_are_a_file_each_that_is_replaced_or_removed_alone(path):
    night(path, (), {("group-000001",): [1, 2], ("group-000002",): [3], ("group-000003",): [4]})
    night(path, (), {("group-000002",): [30, 31], ("group-000003",): [], ("group-000001",): None}, number=2)
    assert {row[0] for row in rows_of(path)} == {30, 31}
    assert sorted(n for n in os.listdir(path) if not n.startswith(".")) == ["_SUCCESS", "group-000002.parquet"]
    assert set(ledger_of(path).groups) == {"group-000001", "group-000002", "group-000003"}


def test_what_was_replaced_lies_in_the_trash_until_it_is_old_enough(path):
    night(path, DT, {("1",): [1]})
    night(path, DT, {("1",): [2]}, number=2)
    trash = Path(f"{path}.job/trash/20260101T000002Z-abcdef-0001")
    assert pq.read_table(trash / "dt=1" / "part-1.parquet")["doc_id"].to_pylist() == [1]
    table, commits = ParquetTable(LocalFileSystem(), path, DT), ledger_of(path).commits
    table.clean(datetime(2026, 1, 1, 0, 30, tzinfo=timezone.utc), commits)
    assert trash.exists(), "it was replaced at half past, whenever its run began"
    table.clean(datetime(2026, 1, 1, 0, 30, 1, tzinfo=timezone.utc), commits)
    assert not trash.exists()
    assert rows_of(path) == {(2, "1")}


def test_trash_of_a_commit_that_the_ledger_has_forgotten_is_as_old_as_its_run(path):
    night(path, DT, {("1",): [1]})
    night(path, DT, {("1",): [2]}, number=2)
    table = ParquetTable(LocalFileSystem(), path, DT)
    table.clean(datetime(2026, 1, 1, 0, 0, 2, tzinfo=timezone.utc), {})
    assert os.listdir(f"{path}.job/trash")
    table.clean(datetime(2026, 1, 1, 0, 0, 3, tzinfo=timezone.utc), {})
    assert not os.listdir(f"{path}.job/trash")


def test_nothing_but_the_table_lies_under_its_path(path):
    night(path, DT, {("1",): [1]})
    night(path, DT, {("1",): [2]}, number=2)
    files = {str(p.relative_to(path)) for p in Path(path).rglob("*") if p.is_file()}
    assert files == {"dt=1/part-2.parquet", "dt=1/.part-2.parquet.crc", "dt=1/_SUCCESS"}
    assert sorted(os.listdir(Path(path).parent)) == ["scores", "scores.job"]
    assert not os.path.exists(f"{path}.job/commit.json")
    assert os.listdir(f"{path}.job/staging") == []


def test_a_table_that_cannot_be_written_is_told_and_the_next_run_finishes(path):
    columns = ("dt", "country")
    night(path, columns, {("1", "nl"): [1]})
    Path(path, "dt=2").write_text("a file in the way of a partition")
    with pytest.raises(OutputError) as refused:
        night(path, columns, {("2", "nl"): [2]}, number=2)
    assert str(refused.value).startswith(f"{path}/dt=2/country=nl can't be written (")
    assert rows_of(path + "/dt=1") == {(1, "nl", "1")}
    os.unlink(f"{path}/dt=2")
    assert night(path, columns, {("3", "nl"): [3]}, number=3) == [
        "finished dt=2/country=nl, which a run that died had begun to commit"
    ]
    assert rows_of(path) == {(1, "nl", "1"), (2, "nl", "2"), (3, "nl", "3")}


# --- is the table what the ledger says? ---


def damaged(path: str, columns: tuple[str, ...] = DT) -> set[str]:
    return set(ParquetTable(LocalFileSystem(), path, columns).damaged(ledger_of(path).committed))


def test_a_table_that_nobody_touched_is_whole(path):
    night(path, DT, {("1",): [1], ("2",): [], ("3",): [3]})
    assert damaged(path) == set()


def test_a_lost_a_changed_and_an_added_file_damage_their_partition(path):
    night(path, DT, {(str(n),): [n] for n in range(6)})
    os.unlink(f"{path}/dt=1/part-1.parquet")
    with open(f"{path}/dt=2/part-1.parquet", "ab") as file:
        file.write(b"x")
    Path(path, "dt=3", "more.parquet").write_bytes(b"x")
    for file in Path(path, "dt=4").iterdir():
        file.unlink()
    Path(path, "dt=4").rmdir()
    assert damaged(path) == {"dt=1", "dt=2", "dt=3", "dt=4"}


def test_a_partition_that_no_run_has_written_is_refused(path):
    night(path, DT, {("1",): [1]})
    Path(path, "dt=9").mkdir()
    Path(path, "dt=9", "x.parquet").write_bytes(b"x")
    with pytest.raises(OutputError, match=r"dt=9/x\.parquet was written by no run of this job: move it away"):
        damaged(path)


def test_a_group_whose_file_was_lost_is_damaged_and_an_unknown_file_is_refused(path):
    night(path, (), {("group-000001",): [1], ("group-000002",): [2]})
    os.unlink(f"{path}/group-000002.parquet")
    assert damaged(path, ()) == {"group-000002"}
    Path(path, "mine.parquet").write_bytes(b"x")
    with pytest.raises(OutputError, match=r"mine\.parquet was written by no run"):
        damaged(path, ())
