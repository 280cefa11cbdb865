"""Nights of a table without Spark: rows that a test names are staged as the job stages them, and committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bigfive_udf.runs import Run
from bigfive_udf.settings.score import OutputSettings
from bigfive_udf.tables.commit import Commit
from bigfive_udf.tables.filesystem import FileSystem, LocalFileSystem
from bigfive_udf.tables.ledger import COMMITTED, Entry, removed
from bigfive_udf.tables.opening import open_to_write
from bigfive_udf.tables.partitions import GROUP, Values, partition_name
from bigfive_udf.tables.score_table import staged_files


def stage(staging: str, columns: Sequence[str], values: Values, ids: Sequence[int], name: str = "part-0") -> None:
    """What Spark writes for one partition, hidden files among it."""
    directory = Path(staging) / partition_name(columns or (GROUP,), values)
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"doc_id": list(ids)}), directory / f"{name}.parquet")
    (directory / f".{name}.parquet.crc").write_bytes(b"crc")


def night(
    path: str,
    columns: Sequence[str],
    rows: Mapping[Values, Sequence[int] | None],
    fs: FileSystem | None = None,
    number: int = 1,
    carried: Mapping[str, str] | None = None,
    committed_at: str = "2026-01-01T00:30:00.000+00:00",
) -> list[str]:
    """One run: stage the partitions that have rows, commit all; None removes one. What was mended comes back.

    `carried` is what the ledger says of the columns and their types.
    """
    run = Run("score", run_id=f"20260101T0000{number:02d}Z-abcdef")
    with open_to_write(fs or LocalFileSystem(), path, OutputSettings(path=path), run) as opened:
        table = opened.shaped(columns)
        committer = opened.committer(table)
        commit = f"{run.run_id}-0001"
        staging = table.staging(commit)
        for values, ids in rows.items():
            if ids:
                stage(staging, columns, values, ids, f"part-{number}")
        staged = staged_files(table.fs, staging)
        entries = []
        for values, ids in rows.items():
            name = partition_name(columns, values)
            about = {"sequence": opened.ledger.sequence + 1, "commit": commit, "run_id": run.run_id}
            about["committed_at"] = committed_at
            if ids is None:
                entries.append(removed(opened.ledger.committed[name], **about))
                continue
            keys = dict(zip(columns or (GROUP,), values, strict=True))
            entry = Entry(name, keys, COMMITTED, columns=dict(carried or {}), **about)
            files = table.table_files(commit, name, staged.get(values, ()))
            entries.append(replace(entry, documents=len(ids), files=files))
        committer.commit(Commit(commit, staging, tuple(entries)))
        return opened.mended
