"""A score table as somebody sees it who trusts nobody: its rows by DuckDB or pyiceberg, its files by os.walk."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bigfive_udf.tables.commit import Commit
from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.tables.ledger import Entry, Ledger
from bigfive_udf.traits import TRAITS

PROBABILITIES = [f"prob_{t}" for t in TRAITS]
OF_A_RUN = ("run_id", "scored_at")
"""The columns that two runs with the same scores do not share."""
_MANIFESTS: dict[str, dict[str, int]] = {}
"""What manifests say, which are never changed, by their path."""


@dataclass(frozen=True)
class Seen:
    """The table at `output`, of one kind, with or without partition columns."""

    kind: str
    output: Path
    columns: tuple[str, ...] = ("dt",)

    @property
    def job(self) -> Path:
        return Path(f"{self.output}.job")

    @property
    def settings(self) -> dict[str, Any]:
        return {"output.path": str(self.output), "output.format": self.kind}

    def entries(self) -> dict[str, Entry]:
        """What the ledger says that the table has."""
        return Ledger(LocalFileSystem(), str(self.job / "ledger")).committed

    def journal(self) -> Commit | None:
        """What a run that died had announced and not finished."""
        path = self.job / "commit.json"
        return Commit.parse(path.read_text()) if path.exists() else None

    def rows(self) -> pa.Table:
        """The whole table, by document; the partition column last."""
        if self.kind == "iceberg":
            table = iceberg_table(self.output)
            if table is None:
                return pa.table({"doc_id": pa.array([], pa.string())})
            return table.scan().to_arrow().sort_by("doc_id")
        if not any(self.output.rglob("*.parquet")):
            return pa.table({"doc_id": pa.array([], pa.string())})
        return duckdb.sql(f"SELECT * FROM {parquet_of(self.output)} ORDER BY doc_id").to_arrow_table()

    def save(self, aside: Path) -> None:
        """Copy the table and what belongs to it to `aside`."""
        for path in (self.output, self.job):
            if path.exists():
                shutil.copytree(path, aside / path.name)

    def restore(self, aside: Path) -> None:
        """Make the table what it was when it was copied, at the place where it was: Iceberg knows paths."""
        for path in (self.output, self.job):
            shutil.rmtree(path, ignore_errors=True)
            if (aside / path.name).exists():
                shutil.copytree(aside / path.name, path)


def parquet_of(output: Path) -> str:
    """The table function of DuckDB that reads a table of plain directories, as docs and README show it."""
    return f"read_parquet('{output}/**/*.parquet', hive_partitioning=true, hive_types_autocast=false)"


def iceberg_table(output: Path) -> Any:
    """The table as any program opens it that has pyiceberg; None where there is none yet."""
    from pyiceberg.catalog import load_catalog
    from pyiceberg.exceptions import NoSuchTableError

    catalog_file = Path(f"{output}.job/catalog.db")
    if not catalog_file.exists():
        return None
    catalog = load_catalog("bigfive", type="sql", uri=f"sqlite:///{catalog_file}")
    try:
        return catalog.load_table("bigfive.scores")
    except NoSuchTableError:
        return None
    finally:
        catalog.close()


def check_whole(seen: Seen) -> None:
    """The table is exactly what the ledger says, and nothing lies about that a run should have tidied up."""
    entries, rows = seen.entries(), seen.rows()
    ids = Counter(rows["doc_id"].to_pylist())
    assert not [i for i, n in ids.items() if n > 1], "documents stand twice in the table"
    assert len(rows) == sum(e.documents for e in entries.values())
    if seen.columns:
        name = seen.columns[0]
        there = Counter(rows[name].to_pylist()) if len(rows) else Counter()
        assert there == {e.values[name]: e.documents for e in entries.values() if e.documents}
        runs = set(zip(rows[name].to_pylist(), rows["run_id"].to_pylist(), strict=True)) if len(rows) else set()
        assert runs == {(e.values[name], e.run_id) for e in entries.values() if e.documents}
    check_files(seen, entries)
    assert not (seen.job / "commit.json").exists()
    assert not list((seen.job / "staging").glob("*")), "a step is left in staging"


def check_files(seen: Seen, entries: dict[str, Entry]) -> None:
    """Nothing lies under output but what the ledger's entries name, in the sizes that they say, and what marks it."""
    found = sizes_below(seen.output)
    if seen.kind == "iceberg":
        _check_iceberg_files(seen, entries, found)
        return
    expected: dict[str, int] = {}
    allowed: set[str] = set() if seen.columns or not entries else {"_SUCCESS"}
    for entry in entries.values():
        folder = f"{entry.partition}/" if seen.columns else ""
        expected |= {folder + name: size for name, size in entry.files}
        allowed |= {f"{folder}_SUCCESS"} if seen.columns else set()
        allowed |= {f"{folder}.{name}.crc" for name, _ in entry.files}
    assert {name: size for name, size in found.items() if name not in allowed} == expected
    if seen.columns:
        assert all(f"{name}/_SUCCESS" in found for name in entries), "a committed partition has no _SUCCESS"


def check_ledger_is_last(seen: Seen) -> None:
    """Whatever has died: what the ledger names is in the table, but for what a commit under way has replaced."""
    journal = seen.journal()
    under_way = {e.partition for e in journal.entries} if journal else set()
    there = set(_files_of_the_table(seen).items())
    for name, entry in seen.entries().items():
        if name not in under_way or (journal and entry.commit == journal.commit):
            folder = f"{name}/" if seen.kind == "parquet" and seen.columns else ""
            assert {(folder + file, size) for file, size in entry.files} <= there, f"{name} is in the ledger only"


def _files_of_the_table(seen: Seen) -> dict[str, int]:
    if seen.kind == "parquet":
        return sizes_below(seen.output)
    table = iceberg_table(seen.output)
    return _data_files(seen, table, table.current_snapshot()) if table is not None else {}


def _data_files(seen: Seen, table: Any, snapshot: Any) -> dict[str, int]:
    """The files that a snapshot has, and their sizes."""
    found: dict[str, int] = {}
    for manifest in snapshot.manifests(table.io) if snapshot else []:
        if manifest.manifest_path not in _MANIFESTS:
            live = [e.data_file for e in manifest.fetch_manifest_entry(table.io, discard_deleted=True)]
            _MANIFESTS[manifest.manifest_path] = {f.file_path: f.file_size_in_bytes for f in live}
        found |= {_below(seen, uri): size for uri, size in _MANIFESTS[manifest.manifest_path].items()}
    return found


def _below(seen: Seen, uri: str) -> str:
    return os.path.relpath(uri.removeprefix("file://"), seen.output)


def _check_iceberg_files(seen: Seen, entries: dict[str, Entry], found: dict[str, int]) -> None:
    table = iceberg_table(seen.output)
    if table is None:
        assert not {name for e in entries.values() for name, _ in e.files}
        assert not found
        return
    known = _data_files(seen, table, table.current_snapshot())
    assert known == {name: size for e in entries.values() for name, size in e.files}
    metadata = {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
    for snapshot in table.snapshots():
        known |= _data_files(seen, table, snapshot)
        metadata |= {snapshot.manifest_list, *(m.manifest_path for m in snapshot.manifests(table.io))}
    data = {name: size for name, size in found.items() if name.startswith("data/")}
    assert data == known, "files that no snapshot has, or snapshots that lack files"
    assert found.keys() - data.keys() == {_below(seen, uri) for uri in metadata}, "metadata of nobody, or missing"


def check_labels(rows: pa.Table, entries: dict[str, Entry]) -> None:
    """Every label is what the probability and the thresholds of its run make of it, as SQL would compare them."""
    by_run = {e.run_id: e.thresholds for e in entries.values() if e.documents}
    for run_id, thresholds in by_run.items():
        some = rows.filter(pc.equal(rows["run_id"], run_id))
        for trait in TRAITS:
            probability = some[f"prob_{trait}"].to_numpy().astype(np.float64)
            expected = None if thresholds[trait] is None else probability >= thresholds[trait]
            assert expected is None or some[f"label_{trait}"].to_pylist() == expected.tolist()


def sizes_below(directory: Path) -> dict[str, int]:
    """Every file below a directory, and its size; an empty directory counts as a file of none."""
    found: dict[str, int] = {}
    for folder, folders, files in os.walk(directory):
        for name in files:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, directory)] = os.path.getsize(path)
        if not folders and not files and Path(folder) != directory:
            found[os.path.relpath(folder, directory) + "/"] = 0
    return found


def same_rows(one: pa.Table, two: pa.Table) -> None:
    """Two tables have the same rows, all columns but those that name the run."""
    assert one.schema.names == two.schema.names
    assert one["doc_id"].to_pylist() == two["doc_id"].to_pylist()
    for column in one.schema.names:
        if column in PROBABILITIES:
            np.testing.assert_allclose(one[column].to_numpy(), two[column].to_numpy(), atol=1e-5)
        elif column not in OF_A_RUN:
            assert one[column].to_pylist() == two[column].to_pylist(), column
