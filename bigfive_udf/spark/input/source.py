"""The corpus wherever it is: files under input.path, or the table input.table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import SparkSession

from bigfive_udf.settings.score import InputSettings
from bigfive_udf.spark.input.corpus import Corpus, find_files
from bigfive_udf.spark.input.reading import Readable, examine_files
from bigfive_udf.spark.input.table import examine_table, find_table
from bigfive_udf.tables.partitions import Partition


def find(spark: SparkSession, settings: InputSettings, groups: Mapping[str, Sequence[str]]) -> Corpus:
    """Find the corpus and its partitions; `groups` are the groups of files that the ledger knows."""
    return find_table(spark, settings, groups) if settings.table is not None else find_files(spark, settings, groups)


def examine(
    spark: SparkSession,
    corpus: Corpus,
    settings: InputSettings,
    partitions: Sequence[Partition],
    table_columns: Mapping[str, str] | None,
    strict: bool,
) -> Readable:
    """What the partitions of a run hold, and which of them are fit to be scored: see input/reading.py."""
    look = examine_table if corpus.fs is None else examine_files
    return look(spark, corpus, settings, partitions, table_columns, strict)
