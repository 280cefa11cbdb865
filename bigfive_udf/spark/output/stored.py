"""The rows of some partitions of a score table, read from the files that the ledger names."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession

from bigfive_udf.spark.input.reading import with_groups
from bigfive_udf.spark.storage import as_pattern, as_uri
from bigfive_udf.tables.filesystem import FileInfo
from bigfive_udf.tables.ledger import Entry
from bigfive_udf.tables.partitions import Partition
from bigfive_udf.tables.score_table import ScoreTable


def stored_rows(spark: SparkSession, table: ScoreTable, entries: Sequence[Entry]) -> DataFrame | None:
    """The rows of `entries`, with the columns that identify the partition; None if there are no files.

    A column that only some entries carry is null in the rows of the others.
    """
    fs = table.fs
    holders = [
        Partition(tuple(e.values.values()), tuple(FileInfo(path, 0, 0.0) for path in table.paths(e))) for e in entries
    ]
    paths = [as_pattern(fs, f.path) for p in holders for f in p.files]
    if not paths:
        return None
    how = {"mergeSchema": "true"} if len({tuple(e.columns) for e in entries}) > 1 else {}
    # Files that hold the partition columns themselves lie in directories of their commits, which add no columns.
    how |= {"recursiveFileLookup": "true"} if table.keeps_keys_in_files else {}
    rows = spark.read.options(basePath=as_uri(fs, table.path), **how).parquet(*paths)
    return with_groups(spark, fs, rows, holders) if not table.columns else rows
