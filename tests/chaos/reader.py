"""Somebody who reads the whole table again and again while it is written, and counts what must not be seen."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from chaos.tables import iceberg_table, parquet_of

Row = tuple[str, str, str]
"""Partition, document and run; the document's id says which version of the partition it is of, and of how many rows."""
Version = tuple[str, str, str]
"""Partition, version, run."""


@dataclass
class Sight:
    """What a reader saw: reads that came to an end, and how many partitions were not as they should be in one."""

    reads: int = 0
    rows: int = 0
    versions: int = 0
    """how many different states of a partition were seen"""
    partial: int = 0
    """fewer rows than the partition has, or rows of two versions"""
    duplicated: int = 0
    absent: int = 0
    """a partition that is always there was not, or was a directory without files"""
    overlooked: int = 0
    """a partition that was there in one listing of its directory, of which a query found no file all the same"""
    gone: int = 0
    """reads that failed because a listed file was no longer there"""
    errors: list[str] = field(default_factory=list)
    """reads that failed for another reason"""

    def look(self, rows: Iterable[Row], always: Sequence[str], known: set[Version]) -> None:
        """Count one read; `always` are partitions that must be there, `known` the versions that were seen before."""
        documents: dict[str, Counter[str]] = {}
        versions: dict[str, set[Version]] = {}
        for partition, document, run_id in rows:
            documents.setdefault(partition, Counter())[document] += 1
            versions.setdefault(partition, set()).add((partition, document.split(" ")[1], run_id))
        for partition, found in documents.items():
            self.duplicated += found.total() > len(found)
            self.partial += len(versions[partition]) > 1 or {int(d.rpartition(" ")[2]) for d in found} != {len(found)}
            self.rows += found.total()
            known |= versions[partition]
        self.overlooked += len(set(always) - documents.keys())
        self.versions = len(known)
        self.reads += 1


def read_on(kind: str, output: str, always: Sequence[str], stop: Any, answer: str) -> None:
    """Read until `stop` is set, and write what was seen to the file `answer`."""
    sight, known = Sight(), set[Version]()
    while True:
        last = stop.is_set()
        sight.absent += sum(not has_files(Path(output) / f"dt={day}") for day in always if kind == "parquet")
        try:
            sight.look(_rows(kind, Path(output)), always, known)
        except (duckdb.IOException, FileNotFoundError) as error:
            # DuckDB: "Cannot open file ...: No such file or directory", or no file at all under the glob.
            sight.gone += 1
            if "No such file" not in str(error) and "No files found" not in str(error):
                sight.errors.append(str(error))
        except Exception as error:
            sight.errors.append(f"{type(error).__name__}: {error}")
        if last:
            break
    Path(f"{answer}.tmp").write_text(json.dumps(asdict(sight)))
    os.replace(f"{answer}.tmp", answer)


def has_files(directory: Path) -> bool:
    """Whether a directory holds files, by one listing of it.

    A query asks the path of each listed file once more (DuckDB), so it may miss those of a directory that is exchanged
    meanwhile. Whoever looks once finds the old files or the new ones.
    """
    while True:
        try:
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return False
        try:
            if any(name.endswith(".parquet") for name in os.listdir(handle)):
                return True
            if os.path.samestat(os.fstat(handle), os.stat(directory)):
                return False
        except FileNotFoundError:
            return False
        finally:
            os.close(handle)
        # else it was replaced and thrown away between the two lines


def _rows(kind: str, output: Path) -> list[Row]:
    if kind == "parquet":
        return duckdb.sql(f"SELECT dt, doc_id, run_id FROM {parquet_of(output)}").fetchall()
    found = iceberg_table(output).scan(selected_fields=("dt", "doc_id", "run_id")).to_arrow()
    return list(zip(*(found[c].to_pylist() for c in ("dt", "doc_id", "run_id")), strict=True))


@contextmanager
def reading(context: Any, kind: str, output: Path, always: Sequence[str], directory: Path) -> Iterator[Sight]:
    """Let a process read while the block runs; what it saw is there afterwards."""
    sight, stop, answer = Sight(), context.Event(), directory / "sight.json"
    process = context.Process(target=read_on, args=(kind, str(output), tuple(always), stop, str(answer)))
    process.start()
    try:
        yield sight
    finally:
        stop.set()
        process.join(60)
    for name, value in json.loads(answer.read_text()).items():
        setattr(sight, name, value)
