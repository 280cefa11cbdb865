"""What stands in a score table and beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.tables.ledger import Ledger


def table_of(path: str | Path, order: str = "doc_id", union_by_name: bool = False) -> pa.Table:
    """The whole score table as DuckDB reads it, which knows nothing of Spark."""
    query = f"""SELECT * FROM read_parquet('{path}/**/*.parquet', hive_partitioning=true, hive_types_autocast=false,
                union_by_name={union_by_name}) ORDER BY {order}"""
    return duckdb.sql(query).to_arrow_table()


def files_of(directory: str | Path) -> dict[str, tuple[int, int, int]]:
    """Every file with its inode, size and time: what a rerun must leave alone."""
    found = {}
    for path in sorted(Path(directory).rglob("*")):
        status = path.stat()
        found[str(path.relative_to(directory))] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def ledger_of(settings: dict[str, Any]) -> Ledger:
    return Ledger(LocalFileSystem(), f"{settings['output.path']}.job/ledger")
