"""A corpus that is a table of Spark's catalog.

What its partitions hold is told by a Spark job: by the files behind a table that is made of files, where only their
footers are read, or else (a view, a table of another system) by a digest of every row's columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from bigfive_udf.errors import InputError, SettingsError
from bigfive_udf.settings.score import InputSettings
from bigfive_udf.spark.corpus import Corpus
from bigfive_udf.spark.reading import Readable, any_of, carried_types, other_type, with_condition
from bigfive_udf.spark.storage import quoted
from bigfive_udf.spark.udf import check_text_column
from bigfive_udf.tables.filesystem import FileInfo
from bigfive_udf.tables.footers import named
from bigfive_udf.tables.partitions import GROUP, Layout, Partition, Values

_NUMERIC = ("tinyint", "smallint", "int", "bigint", "float", "double", "decimal")
_WHOLE = "group-000001"
"""a table without partition columns is one group"""


def find_table(spark: SparkSession, settings: InputSettings) -> Corpus:
    """Find the corpus input.table.

    Raises:
        InputError: it can't be read or lacks a column.
        SettingsError: input.partition_columns are not the table's.
    """
    frame, columns = _opened(spark, settings)
    types = dict(frame.dtypes)
    numeric = [types[c].startswith(_NUMERIC) for c in columns]
    found = _by_files(frame, columns) or _by_content(frame, settings, columns)

    def order(partition: Partition) -> tuple[Any, ...]:
        pairs = zip(partition.values, numeric or [False], strict=True)
        return tuple((x is None, (float(x), "") if n and x else (0.0, x or "")) for x, n in pairs)

    layout = Layout(columns, tuple(sorted(found, key=order)))
    numbers = frozenset(c for c, n in zip(columns, numeric, strict=True) if n)
    return Corpus(layout, str(settings.table), numeric_columns=numbers)


def examine_table(
    spark: SparkSession,
    corpus: Corpus,
    settings: InputSettings,
    partitions: Sequence[Partition],
    table_columns: Mapping[str, str] | None,
    strict: bool,
) -> Readable:
    """The same for a table as `reading.examine_files` does for files: the catalog answers for its columns."""
    frame, _ = _opened(spark, settings)
    check_text_column(frame, settings.text_column)
    columns = carried_types(settings, frame.schema)

    def load(some: Sequence[Partition]) -> DataFrame:
        keys = corpus.layout.columns
        rows = frame.where(any_of(keys, [p.values for p in some])) if keys else frame.withColumn(GROUP, F.lit(_WHOLE))
        if settings.where is not None:
            rows = with_condition(rows, settings.where)
        wanted = dict.fromkeys([*settings.carried_columns, settings.text_column, *corpus.layout.keys])
        return rows.select(*[F.col(quoted(c)) for c in wanted])

    if strict and (other := other_type(columns, table_columns)) is not None:
        unfit = {p.values: f"{settings.table} has {other}" for p in partitions}
        return Readable(Layout(corpus.layout.columns, ()), columns, unfit, load)
    return Readable(Layout(corpus.layout.columns, tuple(partitions)), columns, {}, load)


def _opened(spark: SparkSession, settings: InputSettings) -> tuple[DataFrame, tuple[str, ...]]:
    assert settings.table is not None
    try:
        frame = spark.table(settings.table)
        described = {c.name: c.isPartition for c in spark.catalog.listColumns(settings.table)}
    except Exception as error:
        first_line = next(iter(str(error).splitlines()), "")
        raise InputError(
            f"input.table {settings.table} can't be read ({first_line[:160]}): check its name and the catalog"
        ) from None
    columns = settings.partition_columns
    if columns is None:
        columns = [name for name, is_partition in described.items() if is_partition]
    if unknown := [c for c in columns if c not in frame.columns]:
        raise SettingsError(f"input.partition_columns {unknown[0]}: {settings.table} has no such column")
    for column in (*settings.carried_columns, settings.text_column):
        if column not in frame.columns:
            raise InputError(f"{settings.table} has no column {column}; its columns are {named(frame.columns)}")
    return frame, tuple(columns)


def _by_files(frame: DataFrame, columns: Sequence[str]) -> list[Partition] | None:
    """The partitions of a table that is made of files; None where it is not."""
    about = [F.col(f"_metadata.{name}") for name in ("file_path", "file_size", "file_modification_time")]
    try:
        rows = frame.select(*_values(columns), *about).distinct().collect()
    except AnalysisException:
        return None
    files: dict[Values, list[FileInfo]] = {}
    for row in rows:
        path, size, modified = row[-3:]
        values = tuple(row[: len(columns)]) if columns else (_WHOLE,)
        files.setdefault(values, []).append(FileInfo(path, int(size), modified.timestamp()))
    return [Partition(values, tuple(some)) for values, some in files.items()]


def _by_content(frame: DataFrame, settings: InputSettings, columns: Sequence[str]) -> list[Partition]:
    """The partitions of any table, and a digest of their rows in any order."""
    if settings.where is not None:
        frame = with_condition(frame, settings.where)
    used = [F.col(quoted(c)).cast("string") for c in (*settings.carried_columns, settings.text_column)]
    digest = F.xxhash64(*used)
    sums = [F.count("*"), F.sum(digest.cast("decimal(38,0)")), F.bit_xor(digest)]
    rows = frame.groupBy(*_values(columns)).agg(*sums).collect()
    n = len(columns)
    return [
        Partition(tuple(row[:n]) if columns else (_WHOLE,), version=":".join(str(x) for x in row[n:])) for row in rows
    ]


def _values(columns: Sequence[str]) -> list[Any]:
    return [F.col(quoted(c)).cast("string").alias(c) for c in columns]
