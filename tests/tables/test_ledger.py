"""The ledger: the last entry of a partition counts, whatever the files it stands in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigfive_udf.errors import OutputError
from bigfive_udf.tables import ledger as ledgers
from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.tables.ledger import COMMITTED, REMOVED, Entry, Ledger, removed

ENTRY = Entry("dt=1", {"dt": "1"}, COMMITTED, 1, "run-0001", "run", "2026-01-01T00:00:00.000+00:00")


def opened(directory: Path) -> Ledger:
    return Ledger(LocalFileSystem(), str(directory))


def test_an_entry_is_read_as_it_was_written(tmp_path):
    entry = replace(
        ENTRY,
        partition="dt=é\u2028 %25",
        values={"dt": "é\u2028 %", "hour": None},
        settings={"text.max_windows": None, "input.where": "a = 'b'"},
        columns={"id": "string", "author": "string", "b": "int", "a": "int"},
        thresholds={"openness": None, "extraversion": 0.5},
        documents=3,
        seconds=0.25,
        files=(("part-0.parquet", 12),),
        group=("a.parquet", "b c.parquet"),
    )
    opened(tmp_path).append("run-0001", [entry])
    found = opened(tmp_path).committed
    assert found == {entry.partition: entry}
    assert list(found[entry.partition].columns) == ["id", "author", "b", "a"]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=4, unique_by=lambda x: x[0]),
        max_size=12,
    ),
    st.integers(0, 3),
)
def test_the_last_word_on_a_partition_counts_through_any_commits_and_compactions(commits, most):
    import tempfile

    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledgers, "_MOST_FILES", most)
        expected: dict[str, int] = {}
        for number, changes in enumerate(commits):
            ledger = opened(Path(directory))
            sequence = ledger.sequence + 1
            entries = []
            for key, there in changes:
                entry = replace(ENTRY, partition=f"dt={key}", sequence=sequence, documents=number)
                entries.append(entry if there else removed(entry))
                expected[entry.partition] = number if there else -1
            ledger.append(f"run-{number}", entries)
            ledger.append(f"run-{number}", entries)  # as a run does that finishes another's commit
            if number % 2:
                ledger.compact()
        found = opened(Path(directory))
        assert {n: e.documents for n, e in found.committed.items()} == {n: d for n, d in expected.items() if d >= 0}
        assert found.groups.keys() == expected.keys(), "a group that there was is remembered"


def test_many_files_become_one_and_what_they_say_stays(tmp_path):
    ledger = opened(tmp_path)
    for n in range(40):
        ledger.append(f"run-{n:04d}", [replace(ENTRY, partition=f"dt={n % 7}", sequence=n + 1, documents=n)])
    before = opened(tmp_path).committed
    ledger.compact()
    assert len(list(tmp_path.iterdir())) == 1
    assert opened(tmp_path).committed == before
    ledger.append("run-x", [replace(ENTRY, partition="dt=0", sequence=ledger.sequence + 1, documents=99)])
    assert opened(tmp_path).committed["dt=0"].documents == 99


def test_a_compaction_that_was_cut_short_brings_nothing_back(tmp_path):
    """Old files that a killed compaction has left must not revive what was removed later."""
    ledger = opened(tmp_path)
    ledger.append("run-1", [ENTRY])
    for n in range(2, 40):
        ledger.append(f"run-{n}", [removed(ENTRY, sequence=n)])
    old = {p.name: p.read_text() for p in tmp_path.iterdir()}
    ledger.compact()
    for name, content in old.items():
        (tmp_path / name).write_text(content)
        assert opened(tmp_path).committed == {}


def test_the_ledger_is_a_table_for_sql(tmp_path):
    ledger = opened(tmp_path)
    ledger.append("run-1", [replace(ENTRY, documents=1), replace(ENTRY, partition="dt=2", documents=2)])
    ledger.append(
        "run-2", [replace(ENTRY, sequence=2, documents=10), removed(replace(ENTRY, partition="dt=2"), sequence=2)]
    )
    rows = duckdb.sql(f"""
        SELECT "partition", documents FROM read_json('{tmp_path}/*.jsonl')
        QUALIFY row_number() OVER (PARTITION BY "partition" ORDER BY sequence DESC) = 1 AND state = 'committed'
    """).fetchall()
    assert rows == [("dt=1", 10)]


def test_a_line_of_an_earlier_or_a_later_version_can_be_read():
    entry = Entry("dt=1", {"dt": "1"}, COMMITTED, 1, "c", "r", "2026-01-01", cores=4, device="cpu")
    earlier = {name: value for name, value in json.loads(entry.line()).items() if name not in ("cores", "device")}
    assert Entry.parse(json.dumps(earlier)) == replace(entry, cores=0, device="")
    assert Entry.parse(json.dumps(json.loads(entry.line()) | {"of_a_later_version": 1})) == entry


@pytest.mark.parametrize("content", ["{", "[]\n", '{"partition": "dt=1"}\n', "\x00"])
def test_a_damaged_ledger_is_named(tmp_path, content):
    opened(tmp_path).append("run-1", [ENTRY])
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    with pytest.raises(OutputError, match=r"00000001-run-1\.jsonl is damaged"):
        opened(tmp_path)


def test_a_removed_partition_says_so_in_its_file(tmp_path):
    opened(tmp_path).append("run-1", [removed(ENTRY)])
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["state"] == REMOVED
