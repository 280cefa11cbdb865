"""What stands in a score table."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa


def table_of(path: str | Path, order: str = "doc_id") -> pa.Table:
    """The whole score table as DuckDB reads it, which knows nothing of Spark."""
    query = f"""SELECT * FROM read_parquet('{path}/**/*.parquet', hive_partitioning=true, hive_types_autocast=false)
                ORDER BY {order}"""
    return duckdb.sql(query).to_arrow_table()
