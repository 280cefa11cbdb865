"""The Iceberg table: what readers find in it before, between and after, and what is left of a run that was killed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigfive_udf.errors import BigFiveError, OutputError, RefusedError, SettingsError
from bigfive_udf.tables.commit import Commit
from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.tables.iceberg_table import IcebergTable
from bigfive_udf.tables.ledger import COMMITTED, REMOVED, Entry
from bigfive_udf.tables.partitions import GROUP, HIVE_NULL, Values, partition_name
from bigfive_udf.tables.score_table import staged_files
from support.postgres import postgres_server

pytest.importorskip("pyiceberg")
from pyiceberg.catalog import load_catalog
from pyiceberg.expressions import EqualTo, IsNull
from sqlalchemy import URL

NAME = "bigfive.scores"
MOMENT = datetime(2026, 11, 22, tzinfo=timezone.utc)
REMOVE = "remove"
Rows = Mapping[Any, Any]
"""Rows by the value of their partition: document ids, or a whole Arrow table; none: empty; REMOVE: to be removed."""


class Job:
    """A table and what a ledger says of it, with as much of a run as it takes to write steps."""

    def __init__(self, path: Path, columns: tuple[str, ...] = ("dt",), fs: Any = None, **catalog: str) -> None:
        self.table = IcebergTable(fs or LocalFileSystem(), str(path), catalog, NAME, columns)
        self.entries: dict[str, Entry] = {}
        self.steps = 0
        self.statistics = True

    def stage(self, rows: Rows) -> Commit:
        """Write the files of a step as Spark would, with what Spark leaves behind, and say what is to be committed."""
        self.steps += 1
        commit = f"20261122T000000Z-abc123-{self.steps:04d}"
        staging = self.table.staging(commit)
        keys = self.table.columns or (GROUP,)
        data: dict[Values, Any] = {v if isinstance(v, tuple) else (v,): content for v, content in rows.items()}
        for values, content in data.items():
            if isinstance(content, str) or not len(content):
                continue
            copies = tuple(f"__bigfive_key_{key}" for key in keys) if self.table.columns else (GROUP,)
            directory = Path(staging, partition_name(copies, values))
            directory.mkdir(parents=True)
            there = dict(zip(self.table.columns, values, strict=True)) if self.table.columns else {}
            if not isinstance(content, pa.Table):
                content = scores(content, **there)
            pq.write_table(content, directory / "part-00000.c000.zstd.parquet", write_statistics=self.statistics)
            (directory / ".part-00000.c000.zstd.parquet.crc").write_bytes(b"crc")
        if os.path.isdir(staging):
            Path(staging, "_SUCCESS").touch()
            Path(staging, "_temporary/0").mkdir(parents=True)
        staged = staged_files(self.table.fs, staging)
        entries = []
        for values, content in data.items():
            name = partition_name(self.table.columns, values)
            entries.append(
                Entry(
                    name,
                    dict(zip(keys, values, strict=True)),
                    REMOVED if isinstance(content, str) else COMMITTED,
                    self.steps,
                    commit,
                    "run",
                    MOMENT.isoformat(),
                    files=self.table.table_files(commit, name, staged.get(values, ())),
                )
            )
        return Commit(commit, staging, tuple(entries))

    def enter(self, commit: Commit) -> None:
        for entry in commit.entries:
            self.entries.pop(entry.partition, None)
            if entry.state == COMMITTED:
                self.entries[entry.partition] = entry

    def finish(self, commit: Commit) -> None:
        self.table.publish(commit, self.entries)
        self.enter(commit)
        self.table.discard(commit)

    def step(self, rows: Rows) -> Commit:
        commit = self.stage(rows)
        self.finish(commit)
        return commit

    def opened(self) -> Any:
        """The table as a reader opens it."""
        uri = URL.create("sqlite", database=f"{self.table.job_path}/catalog.db").render_as_string()
        catalog = dict(self.table.catalog) or {"type": "sql", "uri": uri}
        return load_catalog("bigfive", **catalog).load_table(NAME)

    def found(self, where: Any = None) -> dict[Any, list[int]]:
        """The documents that a reader finds, by partition."""
        scan = self.opened().scan() if where is None else self.opened().scan(row_filter=where)
        found: dict[Any, list[int]] = {}
        for row in scan.to_arrow().to_pylist():
            values = tuple(row[c] for c in self.table.columns)
            found.setdefault(values[0] if len(values) == 1 else values, []).append(row["doc_id"])
        return {key: sorted(ids) for key, ids in found.items()}

    def files(self) -> set[str]:
        """Every file and every empty directory below the table."""
        root = self.table.path
        return {
            os.path.relpath(os.path.join(directory, name), root)
            for directory, folders, names in os.walk(root)
            for name in (names or ([] if folders else ["(empty)"]))
        }

    def known(self) -> set[str]:
        """The files that the table's metadata name."""
        opened = self.opened()
        names = {opened.metadata_location, *(entry.metadata_file for entry in opened.metadata.metadata_log)}
        for snapshot in opened.snapshots():
            names.add(snapshot.manifest_list)
            for manifest in snapshot.manifests(opened.io):
                names.add(manifest.manifest_path)
                names |= {e.data_file.file_path for e in manifest.fetch_manifest_entry(opened.io)}
        return {os.path.relpath(name.removeprefix("file://"), self.table.path) for name in names}

    def check_tidy(self) -> None:
        assert self.files() == self.known()
        assert self.table.unfinished() == []
        beside = Path(self.table.job_path)
        assert {p.name for p in beside.iterdir()} - {"commit.json", "entries.json"} == {"catalog.db", "staging"}


def scores(ids: Any, **columns: Any) -> pa.Table:
    table = {
        "doc_id": pa.array(list(ids), pa.int64()),
        "prob_openness": pa.array([i / 1000 for i in ids], pa.float32()),
        "scored_at": pa.array([MOMENT + timedelta(seconds=i) for i in ids], pa.timestamp("us", tz="UTC")),
    }
    for name, value in columns.items():
        table[name] = (
            value if isinstance(value, pa.Array) else pa.array([value] * len(ids), None if value else pa.string())
        )
    return pa.table(table)


def line_of(kind: type[BigFiveError], action: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        action()
    assert type(caught.value) is kind
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path / "scores")


# --- publish ---


def test_a_step_adds_replaces_empties_and_removes_partitions_in_one_snapshot(job, tmp_path):
    job.step({"a": [1, 2], "b": [3], "c": [4], "d": []})
    assert job.found() == {"a": [1, 2], "b": [3], "c": [4]}
    second = job.step({"a": [5], "b": [], "c": REMOVE, "d": [], "e": [6, 7]})
    assert job.found() == {"a": [5], "e": [6, 7]}
    snapshots = job.opened().snapshots()
    assert [s.summary["bigfive.commit"] for s in snapshots] == ["20261122T000000Z-abc123-0001", second.commit]
    assert [s.summary.operation.value for s in snapshots] == ["append", "overwrite"]
    assert snapshots[-1].summary["total-records"] == "3"
    assert job.table.damaged(job.entries) == frozenset()
    job.check_tidy()
    assert {p.name for p in tmp_path.iterdir()} == {"scores", "scores.job"}


def test_the_first_snapshot_comes_with_the_table_so_that_no_reader_finds_it_without_rows(job):
    job.step({"a": [1]})
    opened = job.opened()
    assert len(opened.snapshots()) == 1
    assert len(opened.metadata.metadata_log) == 0
    assert opened.format_version == 2
    assert opened.location() == f"file://{job.table.path}"
    assert [(f.name, str(f.transform)) for f in opened.spec().fields] == [("dt", "identity")]


@pytest.mark.parametrize("rows", [{"a": []}, {"a": REMOVE}, {}])
def test_a_step_without_rows_makes_no_table_and_no_snapshot(job, rows):
    job.step(rows)
    assert not os.path.exists(job.table.path)
    assert job.table.damaged(job.entries) == frozenset()
    job.step({"b": [1]})
    job.step(rows)
    assert len(job.opened().snapshots()) == 1
    assert job.found() == {"b": [1]}


def test_publishing_again_changes_nothing(job):
    job.step({"a": [1], "b": [2]})
    commit = job.stage({"a": [3], "b": REMOVE, "c": [4]})
    job.table.publish(commit, job.entries)
    files, location = job.files(), job.opened().metadata_location
    job.table.publish(commit, job.entries)  # died before the ledger
    job.enter(commit)
    job.table.publish(commit, job.entries)  # died after it
    assert (job.files(), job.opened().metadata_location) == (files, location)
    job.table.discard(commit)
    job.table.discard(commit)
    assert job.found() == {"a": [3], "c": [4]}
    job.check_tidy()


STEP = st.dictionaries(st.sampled_from(["a", "b/c", None]), st.sampled_from([1, 2, 0, REMOVE]), max_size=3)
EVENTS = st.lists(st.one_of(STEP, st.sampled_from(["abandon", "again", "clean", "forgotten"])), min_size=1, max_size=6)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EVENTS)
def test_the_table_is_always_what_was_committed_last(events):
    with tempfile.TemporaryDirectory() as directory:
        job, expected, last, number = Job(Path(directory) / "scores"), {}, None, 0
        for event in events:
            if event == "abandon":
                job.table.abandon(job.stage({"a": [999]}).commit)
            elif event == "again" and last:
                job.table.publish(last, job.entries)
            elif event == "forgotten" and last:  # died between the ledger and the end of the commit
                job.table.staging(last.commit)
                job.table.abandon(last.commit)
            elif event == "clean":
                job.table.clean(datetime.now(timezone.utc))
            elif isinstance(event, dict):
                rows: dict[Any, Any] = {}
                for value, size in event.items():
                    number += 10
                    rows[value] = size if size == REMOVE else list(range(number, number + size))
                    expected[value] = [] if size == REMOVE else rows[value]
                last = job.step(rows)
            if any(expected.values()) or (last and os.path.exists(f"{job.table.path}/metadata")):
                assert job.found() == {value: ids for value, ids in expected.items() if ids}
                assert job.table.damaged(job.entries) == frozenset()
                if event != "clean":  # which leaves the metadata log naming what is gone
                    assert job.known() >= job.files()


# --- partitions, columns, statistics ---

ODD = [
    " ",
    "a b",
    "a/b",
    "é",
    "日本",
    "%41",
    "%",
    "x" * 100,
    "é" * 60,
    "null",
    "None",
    "nan",
    "true",
    "0042",
    "2026-11-22",
]
ODD += [
    "it's",
    'a"b',
    "a=b",
    "a\\b",
    "\x01",
    "tab\tand\nline",
    "a;b&c+d,e~|<>",
    "_x",
    ".x",
    "-1",
    "1e5",
    "\U0001f600",
    "#",
    "?",
]
ODD += ["[x]", "{y}", "*", "a:b", "\u200b", "A", "a", "x" * 100 + "y"]


def test_partition_values_are_kept_to_the_letter_and_found_by_filters(tmp_path):
    columns = ("dt", "de taal.é")
    job = Job(tmp_path / "scores", columns)
    rows: dict[Any, Any] = {(value, None if i % 3 else "nl"): [i] for i, value in enumerate(ODD)}
    rows[(None, None)] = [1000]
    for _ in range(2):  # the second replaces the first: every old file must be found
        job.step(rows)
    assert job.found() == rows
    for i, value in enumerate(ODD):
        assert list(job.found(EqualTo("dt", value)).values()) == [[i]], value
    assert job.found(IsNull("dt")) == {(None, None): [1000]}
    assert job.table.damaged(job.entries) == frozenset()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], min_codepoint=1), min_size=1, max_size=20), unique=True)
)
def test_any_text_is_a_partition_value(values):
    # Spark passes over files that are being copied, and has a name of its own for null.
    values = [v for v in values if not v.endswith("._COPYING_") and v != HIVE_NULL]
    values = [v for v in values if len(partition_name(("__bigfive_key_dt",), (v,)).encode()) < 255]
    with tempfile.TemporaryDirectory() as directory:
        job = Job(Path(directory) / "scores")
        for _ in range(2 if values else 0):
            job.step({value: [i] for i, value in enumerate(values)})
            assert job.found() == {value: [i] for i, value in enumerate(values)}
            assert job.found(EqualTo("dt", values[-1])) == {values[-1]: [len(values) - 1]}


@pytest.mark.parametrize("value", [42, -7, True, 1.5, date(2026, 11, 22), MOMENT])
def test_partition_columns_of_a_catalog_table_keep_their_types(job, value):
    kind = pa.array([value]).type
    for ids in ([1], [2, 3]):
        job.step(
            {str(value): scores(ids, dt=pa.array([value] * len(ids))), None: scores([9], dt=pa.array([None], kind))}
        )
    literal = value.isoformat() if isinstance(value, date) else value
    assert list(job.found(EqualTo("dt", literal)).values()) == [[2, 3]]
    assert list(job.found(IsNull("dt")).values()) == [[9]]


def test_a_partition_is_found_where_its_files_keep_no_statistics(job):
    job.statistics = False
    for ids in ([1], [2]):
        job.step({"a": ids, "b": [3], None: [4]})
    assert job.found() == {"a": [2], "b": [3], None: [4]}
    assert job.found("dt = 'a'") == {"a": [2]}
    assert job.found("prob_openness < 0.01 and dt is null") == {None: [4]}


def test_filters_on_columns_find_their_rows(job):
    job.step({"a": range(0, 500), "b": range(500, 1000)})
    assert job.found("prob_openness > 0.7495") == {"b": list(range(750, 1000))}
    assert job.found("doc_id = 3") == {"a": [3]}
    assert job.found("scored_at >= '2026-11-22T00:16:39+00:00'") == {"b": [999]}
    files = list(job.opened().scan(row_filter="prob_openness < 0.1").plan_files())
    assert len(files) == 1, "statistics must keep a reader from files without matches"
    assert job.opened().scan(row_filter="prob_openness < 0.1").count() == 100


def test_nested_columns_timestamps_and_nulls_are_read_as_they_were_written(job):
    table = pa.table(
        {
            "doc_id": pa.array([1, 2], pa.int64()),
            "tags": pa.array([["x", None], None], pa.list_(pa.string())),
            "origin": pa.array([{"host": "h", "at": [{"k": 1}]}, None]),
            "counts": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int32())),
            "a.b": pa.array([None, "dot"]),
            "price": pa.array([None, None], pa.decimal128(10, 2)),
            "day": pa.array([date(2026, 1, 1), None]),
            "label_openness": pa.array([True, None]),
            "scored_at": pa.array([MOMENT, None], pa.timestamp("us", tz="UTC")),
            "dt": ["a", "a"],
        },
    )
    job.step({"a": table})
    job.step({"b": table.set_column(table.num_columns - 1, "dt", pa.array(["b", "b"]))})
    read = job.opened().scan(row_filter="dt = 'a'").to_arrow()
    assert read.sort_by("doc_id").to_pylist() == table.to_pylist()
    assert read.schema.field("scored_at").type == pa.timestamp("us", tz="UTC")


def test_a_further_column_is_null_in_old_rows_and_a_missing_one_in_new_rows(job):
    first = scores([1], dt="a", topic="x")
    job.step({"a": first.cast(pa.schema([field.with_nullable(False) for field in first.schema]))})
    job.step({"b": scores([2], dt="b", lang="nl")})
    columns = ["doc_id", "topic", "lang"]
    assert job.opened().scan().select(*columns).to_arrow().sort_by("doc_id").to_pylist() == [
        {"doc_id": 1, "topic": "x", "lang": None},
        {"doc_id": 2, "topic": None, "lang": "nl"},
    ]
    assert [s.schema_id for s in job.opened().snapshots()] == [0, 1]
    job.step({"c": scores([3], dt="c", lang="nl")})
    assert len(job.opened().schemas()) == 2
    assert job.found("lang = 'nl'") == {"b": [2], "c": [3]}


def test_a_wider_type_is_taken_and_another_one_refused_with_the_table_as_it_was(job):
    job.step({"a": scores([1], dt="a", kept=pa.array([1], pa.int32()))})
    job.step({"b": scores([2], dt="b", kept=pa.array([2**40], pa.int64()))})
    job.step({"c": scores([3], dt="c", kept=pa.array([3], pa.int32()))})
    assert sorted(job.opened().scan().to_arrow()["kept"].to_pylist()) == [1, 3, 2**40]
    commit = job.stage({"d": scores([4], dt="d", kept="text")})
    message = line_of(OutputError, lambda: job.table.publish(commit, job.entries))
    assert message.startswith("bigfive.scores can't take the new rows (") and "kept" in message
    assert "choose another output.path" in message
    assert job.found() == {"a": [1], "b": [2], "c": [3]}


def test_groups_of_a_table_without_partition_columns_are_told_apart_by_their_files(tmp_path):
    job = Job(tmp_path / "scores", ())
    job.step({"group-000001": [1, 2], "group-000002": [3]})
    job.step({"group-000001": [4], "group-000003": [5]})
    job.step({"group-000003": REMOVE})
    assert job.found() == {(): [3, 4]}
    assert job.opened().spec().is_unpartitioned()
    os.unlink(job.table.paths(job.entries["group-000002"])[0])
    assert job.table.damaged(job.entries) == {"group-000002"}


def test_many_partitions_are_replaced_in_one_step(job):
    ids = {f"d{i:04d}": [i] for i in range(400)}
    job.step(ids)
    job.step(ids)
    assert job.found() == ids
    assert len(job.opened().snapshots()) == 2


def test_manifests_are_merged_when_there_are_many_and_their_files_still_replaced(job, monkeypatch):
    monkeypatch.setattr("bigfive_udf.tables.iceberg_table._MOST_MANIFESTS", 3)
    job.step({"a": [1]})
    for i in range(7):
        job.step({f"b{i}": [i]})
        job.check_tidy()
    opened = job.opened()
    assert len(opened.current_snapshot().manifests(opened.io)) <= 3
    job.step({"a": [5], "b2": REMOVE})
    assert job.found() == {"a": [5]} | {f"b{i}": [i] for i in range(7) if i != 2}
    job.check_tidy()


# --- damaged ---


def test_a_partition_whose_files_are_gone_changed_or_not_in_the_snapshot_is_damaged(job):
    job.step({"a": [1], "b": [2], "c": [3], "d": [4]})
    assert job.table.damaged(job.entries) == frozenset()
    os.unlink(job.table.paths(job.entries["dt=a"])[0])
    with open(job.table.paths(job.entries["dt=b"])[0], "ab") as file:
        file.write(b"x")
    opened = job.opened()
    assert job.table.damaged(job.entries) == {"dt=a", "dt=b"}
    opened.delete("dt = 'c'")
    assert job.table.damaged(job.entries) == {"dt=a", "dt=b", "dt=c"}
    entry = job.entries["dt=b"]
    grown = {"dt=b": replace(entry, files=tuple((name, size + 1) for name, size in entry.files))}
    assert job.table.damaged(job.entries | grown) == {"dt=a", "dt=b", "dt=c"}, "the snapshot has another size"
    job.step({"a": [5], "b": [6], "c": [7]})
    assert job.table.damaged(job.entries) == frozenset()
    assert job.found() == {"a": [5], "b": [6], "c": [7], "d": [4]}


def test_a_table_that_is_not_there_has_lost_what_has_files(job):
    job.step({"a": [1], "b": []})
    Path(job.table.job_path, "catalog.db").unlink()
    assert job.table.damaged(job.entries) == {"dt=a"}
    assert job.table.damaged({}) == frozenset()
    assert not Path(job.table.job_path, "catalog.db").exists(), "looking must write nothing"
    job.step({"a": [2]})
    assert job.found() == {"a": [2]}


def test_rows_that_somebody_else_has_committed_are_reported(job):
    job.step({"a": [1]})
    job.opened().append(scores([2], dt="z"))
    message = line_of(OutputError, lambda: job.table.damaged(job.entries))
    assert "was committed by no run of this job: delete its rows from bigfive.scores" in message


# --- stages of a step ---


def test_a_step_that_is_not_committed_leaves_nothing(job):
    job.step({"a": [1]})
    commit = job.stage({"a": [2], "b": [3]})
    assert job.table.unfinished() == [commit.commit]
    job.table.abandon(commit.commit)
    assert job.found() == {"a": [1]}
    job.check_tidy()


def test_a_step_whose_mark_outlived_its_commit_keeps_its_rows_when_it_is_abandoned(job):
    commit = job.stage({"a": [1], "b": [2]})
    job.table.publish(commit, job.entries)
    job.enter(commit)  # and died before discard
    assert job.table.unfinished() == [commit.commit]
    job.table.abandon(commit.commit)
    assert job.found() == {"a": [1], "b": [2]}
    job.check_tidy()


def test_files_that_no_entry_has_do_not_stay_in_the_table(job):
    commit = job.stage({"a": [1], "b": [2]})
    job.finish(Commit(commit.commit, commit.staging, commit.entries[:1]))
    assert job.found() == {"a": [1]}
    job.check_tidy()


def test_a_staged_file_that_was_lost_or_changed_is_not_committed(job):
    job.step({"a": [1]})
    commit = job.stage({"a": [2], "b": [3]})
    path = Path(job.table.path, commit.entries[1].files[0][0])
    content = path.read_bytes()
    for damage in (lambda: path.write_bytes(content + b"x"), path.unlink):
        damage()
        message = line_of(OutputError, lambda: job.table.publish(commit, job.entries))
        assert message.startswith(f"{path} is not what was to be committed: move {job.table.job_path}/commit.json away")
    assert job.found() == {"a": [1]}
    path.write_bytes(content)
    job.finish(commit)
    assert job.found() == {"a": [2], "b": [3]}
    job.check_tidy()


# --- clean ---


def test_clean_keeps_what_was_current_at_that_time_or_later_and_removes_all_else(job):
    readers, moments = [], []
    for i in range(6):
        job.step({"a": [i], "b": [i + 10]} if i < 3 else {"a": [i]})
        readers.append(job.opened().scan())
        time.sleep(0.005)
        moments.append(datetime.now(timezone.utc))
        time.sleep(0.005)
    files = job.files()
    job.table.clean(moments[0] - timedelta(days=1))
    assert job.files() == files, "nothing is as old as that"
    job.table.clean(moments[3])  # when the fourth state was current
    for i, reader in enumerate(readers):
        if i < 3:
            with pytest.raises(FileNotFoundError):
                reader.to_arrow()
        else:
            assert sorted(reader.to_arrow()["doc_id"].to_pylist()) == [i, 12]
    assert len(job.opened().snapshots()) == 3
    assert len([f for f in job.files() if f.endswith(".parquet")]) == 4
    assert len([f for f in job.files() if f.endswith(".metadata.json")]) == 4
    assert job.files() <= job.known()
    files = job.files()
    job.table.clean(moments[3])
    assert job.files() == files, "nothing more is due"
    job.table.clean(datetime.now(timezone.utc) + timedelta(seconds=1))
    assert job.found() == {"a": [5], "b": [12]}
    assert len(job.opened().snapshots()) == 1
    assert len([f for f in job.files() if f.endswith(".parquet")]) == 2
    assert len([f for f in job.files() if f.endswith(".metadata.json")]) == 1
    assert job.table.damaged(job.entries) == frozenset()


def test_clean_spares_a_step_under_way_and_a_tagged_snapshot(job):
    job.step({"a": [1]})
    job.opened().manage_snapshots().create_tag(job.opened().current_snapshot().snapshot_id, "report").commit()
    job.step({"a": [2]})
    job.step({"a": [3]})
    under_way = job.stage({"a": [4]})
    job.table.clean(datetime.now(timezone.utc) + timedelta(seconds=1))
    assert job.opened().scan(snapshot_id=job.opened().refs()["report"].snapshot_id).to_arrow()[
        "doc_id"
    ].to_pylist() == [1]
    job.finish(under_way)
    assert job.found() == {"a": [4]}


def test_clean_before_the_first_commit_does_nothing(job):
    job.table.clean(MOMENT)
    assert not os.path.exists(job.table.job_path)


# --- kills ---

KILLER = """
import json, os, signal, sys
import pyarrow.parquet, pyiceberg.catalog.sql, pyiceberg.expressions.parser, sqlalchemy.event
from pyiceberg.io.pyarrow import PyArrowFile
from sqlalchemy.engine import Engine
from datetime import datetime, timezone
from bigfive_udf.tables.commit import Commit
from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.tables.iceberg_table import IcebergTable
from bigfive_udf.tables.ledger import Entry

def work(path, action, kill_at):
    passed = 0
    def tick(*_):
        nonlocal passed
        passed += 1
        if passed == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    def around(kind, name):
        plain = getattr(kind, name)
        def ticking(*arguments, **options):
            tick()
            try:
                return plain(*arguments, **options)
            finally:
                tick()
        setattr(kind, name, ticking)
    around(LocalFileSystem, "put")
    around(LocalFileSystem, "delete")
    around(PyArrowFile, "create")
    around(PyArrowFile, "open")
    for event in ("before_cursor_execute", "after_cursor_execute", "commit"):
        sqlalchemy.event.listen(Engine, event, tick)
    table = IcebergTable(LocalFileSystem(), path, {}, "bigfive.scores", ("dt",))
    if action == "clean":
        table.clean(datetime.now(timezone.utc))
    else:
        with open(path + ".job/commit.json") as journal, open(path + ".job/entries.json") as ledger:
            commit, entries = Commit.parse(journal.read()), [Entry.parse(line) for line in ledger]
        table.publish(commit, {e.partition: e for e in entries})
        table.discard(commit)
    print(f"passed {passed}", flush=True)

for request in sys.stdin:
    child = os.fork()
    if not child:
        work(*json.loads(request))
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture(scope="module")
def killer() -> Iterator[Callable[..., int]]:
    """Publish or clean a table in a process of its own, which SIGKILLs itself at an operation on storage or catalog."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdin and process.stdout

    def work(path: str, action: str, kill_at: int) -> int:
        """The number of operations, 0 if it was killed."""
        process.stdin.write(json.dumps([path, action, kill_at]) + "\n")
        answer = process.stdout.readline().split()
        if answer[0] == "passed":
            assert process.stdout.readline().strip() == "0"
            return int(answer[1])
        assert answer == [str(int(signal.SIGKILL))]
        return 0

    yield work
    process.stdin.close()
    assert process.wait(60) == 0


def kill_everywhere(
    job: Job, killer: Callable[..., int], action: str, points: int, check: Callable[[], None], mend: Callable[[], None]
) -> None:
    """Kill the action at many points, each time from the same state on; check what readers find, mend, check again."""
    kept = Path(job.table.path + ".kept")
    places = [p for p in (job.table.path, job.table.job_path) if os.path.exists(p)]
    for place in places:
        shutil.copytree(place, kept / os.path.basename(place))

    def restore() -> None:
        for place in (job.table.path, job.table.job_path):
            shutil.rmtree(place, ignore_errors=True)
        for place in places:
            shutil.copytree(kept / os.path.basename(place), place)

    total = killer(job.table.path, action, 0)
    assert total > points
    for i in range(points):
        restore()
        assert killer(job.table.path, action, 1 + i * total // points) == 0
        check()
        mend()


def journal(job: Job, commit: Commit) -> None:
    Path(job.table.job_path, "commit.json").write_text(commit.text())
    Path(job.table.job_path, "entries.json").write_text("".join(e.line() + "\n" for e in job.entries.values()))


def test_a_kill_at_any_point_of_a_step_leaves_the_old_rows_or_the_new_and_the_next_run_the_new(job, killer):
    old, new = {"a": [1, 2], "b": [3], "c": [4]}, {"a": [5], "b": [3], "d": [6], "e": [7]}
    job.step(old)
    commit = job.stage({"a": [5], "c": REMOVE, "d": [6], "e": scores([7], dt="e", lang="nl")})
    journal(job, commit)
    seen = []

    def check() -> None:
        found = job.found()
        assert found in (old, new)
        seen.append((found == new, any(".avro" in name for name in job.files() - job.known())))

    def mend() -> None:
        job.table.publish(commit, job.entries)
        job.table.discard(commit)
        assert job.found() == new
        assert len(job.opened().snapshots()) == 2
        job.check_tidy()

    kill_everywhere(job, killer, "publish", 30, check, mend)
    assert {(False, False), (False, True), (True, False)} <= set(seen), "kills must have been before, amid and after"


def test_a_kill_at_any_point_of_the_first_step_leaves_no_table_or_all_of_it(job, killer):
    commit = job.stage({"a": [1], "b": [2]})
    journal(job, commit)

    def check() -> None:
        with contextlib.suppress(Exception):
            assert job.found() == {"a": [1], "b": [2]}

    def mend() -> None:
        job.finish(commit)
        assert job.found() == {"a": [1], "b": [2]}
        assert len(job.opened().snapshots()) == 1
        job.check_tidy()

    kill_everywhere(job, killer, "publish", 12, check, mend)


def test_a_kill_at_any_point_of_clean_loses_nothing_and_the_next_clean_removes_the_rest(job, killer):
    for i in range(4):
        job.step({"a": [i], f"b{i}": [10 + i]})
    expected = job.found()

    def check() -> None:
        assert job.found() == expected

    def mend() -> None:
        job.table.clean(datetime.now(timezone.utc))
        assert job.found() == expected
        assert job.files() <= job.known()
        assert len([f for f in job.files() if f.endswith(".parquet")]) == 5
        assert len(job.opened().snapshots()) == 1
        assert not Path(job.table.job_path, "unswept").exists()

    kill_everywhere(job, killer, "clean", 12, check, mend)


READER = """
import sys, collections, select
from pyiceberg.catalog import load_catalog
seen, properties = collections.Counter(), {"type": "sql", "uri": sys.argv[1]}
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        table = load_catalog("bigfive", **properties).load_table("bigfive.scores").scan().to_arrow()
        seen[str(sorted(table["doc_id"].to_pylist()))] += 1
    except Exception as error:
        seen[repr(error)] += 1
    if sum(seen.values()) == 1:
        print("reading", flush=True)
for state, times in seen.items():
    print(times, state)
"""


def test_a_reader_in_another_process_sees_whole_states_and_no_error_during_thirty_steps(job):
    states = [[1, 2, 3, 4]]
    job.step({"a": [1, 2, 3], "b": [4]})
    uri = f"sqlite:///{job.table.job_path}/catalog.db"
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout and reader.stdout.readline() == "reading\n"
    for i in range(30):
        a, b = [i * 10 + 10, i * 10 + 11], [i * 10 + 12] if i % 3 else []
        job.step({"a": a, "b": b})
        states.append(a + b)
        if i % 10 == 9:
            job.table.clean(datetime.now(timezone.utc) - timedelta(seconds=1))
    seen = {line.split(" ", 1)[1] for line in reader.communicate("\n")[0].splitlines()}
    assert seen <= {str(s) for s in states}
    assert len(seen) > 8, "it must have been reading all the time"


# --- what can go wrong ---


class Meddling(LocalFileSystem):
    """The disk, where somebody else does something to the table just before we commit."""

    def __init__(self) -> None:
        self.deeds: list[Callable[[], object]] = []

    def put(self, path: str, content: str, private: bool = False) -> None:
        super().put(path, content, private)
        if path.endswith("/unswept") and self.deeds:
            self.deeds.pop()()


def test_a_step_that_somebody_else_gets_in_the_way_of_is_tried_once_more(tmp_path):
    fs = Meddling()
    job = Job(tmp_path / "scores", fs=fs)
    job.step({"a": [1]})
    for rows in ({"b": [2]}, {"a": [3], "c": [4]}):
        fs.deeds = [lambda: job.opened().append(scores([1000], dt="z"))]
        job.step(rows)
        job.check_tidy()
    assert job.found() == {"a": [3], "b": [2], "c": [4], "z": [1000, 1000]}


def test_a_step_that_somebody_else_gets_in_the_way_of_twice_fails_and_the_next_run_finishes_it(tmp_path):
    fs = Meddling()
    job = Job(tmp_path / "scores", fs=fs)
    job.step({"a": [1]})
    fs.deeds = [lambda: job.opened().append(scores([1000], dt="z"))] * 2
    commit = job.stage({"a": [3], "b": [2]})
    message = line_of(OutputError, lambda: job.table.publish(commit, job.entries))
    assert message.startswith("bigfive.scores in output.catalog was changed by others during the commit (")
    assert job.found() == {"a": [1], "z": [1000, 1000]}
    job.finish(commit)
    assert job.found() == {"a": [3], "b": [2], "z": [1000, 1000]}
    job.check_tidy()


@pytest.mark.parametrize("rows", [{"b": [2]}, {"a": [2]}])
def test_a_step_that_another_run_finishes_at_the_same_moment_is_in_the_table_once(tmp_path, rows):
    fs = Meddling()
    job = Job(tmp_path / "scores", fs=fs)
    job.step({"a": [1]})
    commit = job.stage(rows)
    other = IcebergTable(LocalFileSystem(), job.table.path, {}, NAME, ("dt",))
    fs.deeds = [lambda: other.publish(commit, job.entries)]
    job.finish(commit)
    assert job.found() == {"a": [1]} | rows
    job.check_tidy()


def test_iceberg_without_pyiceberg_is_refused_with_the_command_that_installs_it(job, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiceberg.catalog", None)
    for action in (lambda: job.table.staging("x"), lambda: job.table.damaged({})):
        assert line_of(SettingsError, action) == (
            "output.format iceberg needs pyiceberg, which is not installed: pip install 'bigfive-udf[iceberg]'"
        )


def test_the_embedded_catalog_is_for_local_tables_only():
    table = IcebergTable(LocalFileSystem(), "s3a://bucket/scores", {}, NAME, ("dt",))
    message = line_of(SettingsError, lambda: table.staging("x"))
    assert message.startswith("output.catalog is empty, and output.path s3a://bucket/scores is not a local directory")


def test_a_path_that_no_uri_can_name_is_refused(tmp_path):
    table = IcebergTable(LocalFileSystem(), str(tmp_path / "scores#1"), {}, NAME, ("dt",))
    assert "holds ? or #" in line_of(SettingsError, lambda: table.staging("x"))


def test_a_path_with_spaces_percents_and_accents_works(tmp_path):
    job = Job(tmp_path / "a b%20c é;&=" / "scores")
    job.step({"a": [1]})
    job.step({"a": [2]})
    assert job.found() == {"a": [2]}
    assert job.table.damaged(job.entries) == frozenset()


def test_the_table_of_another_path_or_with_other_partition_columns_is_refused(tmp_path):
    uri = f"sqlite:///{tmp_path}/shared.db"
    first = Job(tmp_path / "one", type="sql", uri=uri)
    first.step({"a": [1]})
    second = Job(tmp_path / "two", type="sql", uri=uri)
    assert line_of(SettingsError, lambda: second.step({"a": [2]})) == (
        f"output.table bigfive.scores of output.catalog lies in file://{tmp_path}/one, output.path is {tmp_path}/two: "
        "choose another output.table, or set output.path to it"
    )
    other = Job(tmp_path / "one", (), type="sql", uri=uri)
    assert "is partitioned by dt, the corpus by nothing" in line_of(RefusedError, lambda: other.table.damaged({}))
    assert first.found() == {"a": [1]}


@pytest.mark.parametrize(
    ("catalog", "kind", "reason"),
    [
        ({"type": "sql", "uri": "sqlite:////nowhere/at/all.db"}, OutputError, "unable to open database file"),
        ({"type": "sql", "uri": "postgresql+psycopg2://u:hush@127.0.0.1:1/db"}, OutputError, "Connection refused"),
        ({"type": "rest", "uri": "http://u:hush@127.0.0.1:1", "token": "hush"}, OutputError, "Connection"),
        ({"type": "sql"}, SettingsError, "URI"),
        ({"type": "nonsense", "uri": "x"}, SettingsError, "nonsense"),
        ({"type": "sql", "uri": "nonsense://u:hush@h/db"}, SettingsError, "nonsense"),
        ({"type": "is-hush", "uri": "x://u:hush@h/db"}, SettingsError, "is-***"),
        ({"type": "is-hush", "token": "hush"}, SettingsError, "is-***"),
    ],
)
def test_a_catalog_that_cannot_be_used_is_named_with_the_reason_and_no_secret(tmp_path, catalog, kind, reason):
    table = IcebergTable(LocalFileSystem(), str(tmp_path / "scores"), catalog, NAME, ("dt",))
    message = line_of(kind, lambda: table.damaged({}))
    assert message.startswith("output.catalog can't be used (") and reason in message
    assert "hush" not in message


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    table = IcebergTable(LocalFileSystem(), str(tmp_path / "file" / "scores"), {}, NAME, ("dt",))
    assert line_of(OutputError, lambda: table.staging("x")).startswith(f"{tmp_path}/file/scores.job can't be written (")


# --- PostgreSQL ---


@pytest.fixture(scope="module")
def postgres() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The URI of a database, and its server."""
    with postgres_server() as (address, server):
        yield f"postgresql+psycopg2://job:hush-hush@{address}/postgres", server


def test_postgresql_is_a_catalog_as_well(postgres, tmp_path):
    uri, server = postgres
    job = Job(tmp_path / "scores", type="sql", uri=uri)
    job.step({"a": [1], "b": [2]})
    commit = job.stage({"a": [3], "b": REMOVE, "c": [4]})
    job.table.publish(commit, job.entries)
    job.finish(commit)
    assert job.found() == {"a": [3], "c": [4]}
    assert job.table.damaged(job.entries) == frozenset()
    job.table.clean(datetime.now(timezone.utc) + timedelta(seconds=1))
    assert len(job.opened().snapshots()) == 1
    assert os.listdir(job.table.job_path) == ["staging"]
    wrong = Job(tmp_path / "scores", type="sql", uri=uri.replace("hush-hush", "hush-wrong"))
    message = line_of(OutputError, lambda: wrong.table.damaged({}))
    assert "password authentication failed" in message and "hush" not in message
    commit = job.stage({"a": [5]})
    server.send_signal(signal.SIGINT)
    server.wait(30)
    message = line_of(OutputError, lambda: job.table.publish(commit, job.entries))
    assert message.startswith("output.catalog can't be used (") and "hush" not in message
