"""A corpus that is a table of Spark's catalog.

A Spark job finds out what its partitions hold. If the table is made of files, the job lists them; of Parquet files
it reads only the footers and any partition columns inside. For any other table (a view, a table of another system) it
computes a digest of every row's columns. A table without partition columns is divided into groups of its files, like a
corpus under a path; without files it is one group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import and_
from typing import Any
from urllib.parse import unquote

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from bigfive_udf.errors import InputError, SettingsError
from bigfive_udf.redaction import column_names, first_line
from bigfive_udf.settings.score import InputSettings
from bigfive_udf.spark.input.columns import TableColumns, carried_types
from bigfive_udf.spark.input.corpus import Corpus
from bigfive_udf.spark.input.readable import Readable, Sizes, with_condition
from bigfive_udf.spark.local_rows import local_rows
from bigfive_udf.spark.output.catalog_statements import describe
from bigfive_udf.spark.storage import locate, quoted
from bigfive_udf.spark.udf import check_text_column
from bigfive_udf.tables import footers
from bigfive_udf.tables.filesystem import FileInfo
from bigfive_udf.tables.groups import grouped
from bigfive_udf.tables.partitions import GROUP, Layout, Partition, Values

_NUMERIC = ("tinyint", "smallint", "int", "bigint", "float", "double", "decimal")
_TYPED = ("date", "tinyint", "smallint", "int", "bigint")
"""Types of partition columns that are compared without a cast, so that Spark can push the condition to the source."""
_WHOLE = "group-000001"
"""the only group of a table that has neither partition columns nor files"""
_FILE = "__bigfive_file"
_MOST_NAMED = 20_000
"""The most files that a query names: each one costs a call to the JVM and makes the query longer."""


@dataclass(frozen=True, kw_only=True)
class CatalogCorpus(Corpus):
    """A table or view of the catalog."""

    spark: SparkSession = field(repr=False)
    settings: InputSettings

    def examine(self, partitions: Sequence[Partition], table: TableColumns) -> Readable:
        """Look at the columns that the catalog tells, and into the files where the table consists of Parquet files.

        Each Parquet file must have the id and the text: Spark reads a missing column as null.

        Raises:
            InputError: the table can't be read, lacks a column, or its texts are no strings.
        """
        frame, _ = _opened(self.spark, self.settings)
        check_text_column(frame, self.settings.text_column)
        columns = carried_types(self.settings, frame.schema)
        sharing = Counter(f.path for p in partitions for f in p.files)  # a file may hold rows of several partitions
        sizes = {p.values: round(sum(f.size / sharing[f.path] for f in p.files)) for p in partitions}
        unfit: dict[Values, str] = {}
        if table.strict and (other := table.other_type(columns)) is not None:
            unfit = {p.values: f"{self.source} has {other}" for p in partitions}
        elif _is_parquet(self.spark, self.settings):
            unfit = _lacking(self.spark, self.settings, partitions, self.layout.columns)
        fit = Layout(self.layout.columns, tuple(p for p in partitions if p.values not in unfit))
        return Readable(fit, columns, unfit, partial(self._load, frame), Sizes(text_bytes=sizes))

    def sees(self, path: str) -> bool:
        return True

    def without_files(self, names: Collection[str]) -> dict[str, str]:
        return {}  # a partition is there if Spark finds rows of it

    def _load(self, frame: DataFrame, partitions: Sequence[Partition]) -> DataFrame:
        keys = self.layout.columns
        if keys:
            rows = frame.where(any_of(frame, keys, [p.values for p in partitions]))
        elif any(p.files for p in partitions):
            rows = _of_groups(self.spark, frame, partitions)
        else:
            rows = frame.withColumn(GROUP, F.lit(_WHOLE))
        wanted = dict.fromkeys([*self.settings.carried_columns, self.settings.text_column, *self.layout.keys])
        return with_condition(rows, self.settings.where).select(*[F.col(quoted(c)) for c in wanted])


def find_table(spark: SparkSession, settings: InputSettings, groups: Mapping[str, Sequence[str]]) -> CatalogCorpus:
    """Find the corpus input.table; `groups` are the ledger's groups of files, if there are no partition columns.

    Raises:
        InputError: the table can't be read or lacks a column.
        SettingsError: input.partition_columns names a column that the table does not have.
    """
    frame, columns = _opened(spark, settings)
    types = dict(frame.dtypes)
    numeric = [types[c].startswith(_NUMERIC) for c in columns]
    found = _by_files(frame, columns, groups)
    if found is None:
        found = _by_content(frame, settings, columns)

    if empty := next((c for p in found for c, v in zip(columns, p.values, strict=False) if v == ""), None):
        raise InputError(
            f"{settings.table} has rows whose {empty} is an empty text, which no partition can be called: make it null "
            f"in a view, with nullif({empty}, ''), and set input.table to that"
        )

    def order(partition: Partition) -> tuple[Any, ...]:
        pairs = zip(partition.values, numeric or [False], strict=True)
        return tuple((x is None, (float(x), "") if n and x else (0.0, x or "")) for x, n in pairs)

    layout = Layout(columns, tuple(sorted(found, key=order)))
    numbers = frozenset(c for c, n in zip(columns, numeric, strict=True) if n)
    return CatalogCorpus(
        layout=layout, source=str(settings.table), numeric_columns=numbers, spark=spark, settings=settings
    )


def _is_parquet(spark: SparkSession, settings: InputSettings) -> bool:
    """Whether the table consists of plain Parquet files, in which columns have the same names as in the catalog."""
    try:
        parts = spark._jsparkSession.sessionState().sqlParser().parseMultipartIdentifier(settings.table)
        name = ".".join(quoted(parts.apply(i)) for i in range(parts.size()))
        told = spark.sql(describe(name)).collect()
    except Exception:  # a temporary view, or a catalog that can't describe it
        return False
    about = {row["col_name"]: str(row["data_type"]).lower() for row in told}
    return about.get("Provider") == "parquet" or "parquet" in about.get("InputFormat", "")


def _lacking(
    spark: SparkSession, settings: InputSettings, partitions: Sequence[Partition], in_directories: Sequence[str]
) -> dict[Values, str]:
    """The partitions that have a file without text or id, or one that can't be read; maps each to the reason."""
    needed = [c for c in (settings.id_column, settings.text_column) if c is not None and c not in in_directories]

    def footer(uri: str) -> footers.Footer:
        return footers.footer_of(*locate(spark, unquote(uri)))

    found = footers.read_footers([f.path for p in partitions for f in p.files], footer)
    unfit: dict[Values, str] = {}
    for partition in partitions:
        for file in partition.files:
            about = found[file.path]
            if isinstance(about, InputError):
                unfit[partition.values] = str(about)
                continue
            known = {c.lower() for c in about.columns}
            if missing := [c for c in needed if c.lower() not in known]:
                unfit[partition.values] = (
                    f"{file.path} has no column {missing[0]}, its columns are {column_names(about.columns)}: Spark "
                    "would read it as null; write the file anew"
                )
    return unfit


def _opened(spark: SparkSession, settings: InputSettings) -> tuple[DataFrame, tuple[str, ...]]:
    assert settings.table is not None
    try:
        frame = spark.table(settings.table)
        described = {c.name: c.isPartition for c in spark.catalog.listColumns(settings.table)}
    except Exception as error:
        raise InputError(
            f"input.table {settings.table} can't be read ({first_line(str(error))}): check its name and the catalog"
        ) from None
    columns = settings.partition_columns
    if columns is None:
        columns = [name for name, is_partition in described.items() if is_partition]
    if unknown := [c for c in columns if c not in frame.columns]:
        raise SettingsError(f"input.partition_columns {unknown[0]}: {settings.table} has no such column")
    for column in (*settings.carried_columns, settings.text_column):
        if column not in frame.columns:
            raise InputError(f"{settings.table} has no column {column}; its columns are {column_names(frame.columns)}")
    return frame, tuple(columns)


def _one_of(conditions: Sequence[Column]) -> Column:
    """True if any condition is, as a shallow tree of ORs: a chain of thousands overflows the JVM's stack."""
    if len(conditions) <= 1:
        return conditions[0] if conditions else F.lit(False)
    half = len(conditions) // 2
    return _one_of(conditions[:half]) | _one_of(conditions[half:])


def any_of(frame: DataFrame, columns: Sequence[str], chosen: Sequence[Values]) -> Column:
    """Condition for the rows of these partitions, on partition columns alone, so that Spark lists no other files."""
    types = dict(frame.dtypes)

    def column(name: str) -> Column:
        return F.col(quoted(name)) if types[name] in _TYPED else F.col(quoted(name)).cast("string")

    def value(name: str, text: str | None) -> Column:
        return F.lit(text).cast(types[name]) if types[name] in _TYPED else F.lit(text)

    if len(columns) == 1:
        name = columns[0]
        known = [value(name, v[0]) for v in chosen if v[0] is not None]
        condition = column(name).isin(known) if known else F.lit(False)
        return condition | column(name).isNull() if len(known) < len(chosen) else condition
    equal = [[column(c).eqNullSafe(value(c, v)) for c, v in zip(columns, values, strict=True)] for values in chosen]
    return _one_of([reduce(and_, conditions) for conditions in equal])


def _of_groups(spark: SparkSession, frame: DataFrame, groups: Sequence[Partition]) -> DataFrame:
    """The rows of some groups' files with the column that names the group."""
    owners = [(f.path, p.values[0]) for p in groups for f in p.files]
    rows = frame.withColumn(_FILE, F.col("_metadata.file_path"))
    if len(owners) <= _MOST_NAMED:  # Spark reads no other files then
        rows = rows.where(F.col(_FILE).isin([path for path, _ in owners]))
    return rows.join(F.broadcast(local_rows(spark, owners, {_FILE: "string", GROUP: "string"})), _FILE)


def _by_files(frame: DataFrame, columns: Sequence[str], groups: Mapping[str, Sequence[str]]) -> list[Partition] | None:
    """The partitions of a table that is made of files; None for any other table."""
    about = [F.col(f"_metadata.{name}") for name in ("file_path", "file_size", "file_modification_time")]
    try:
        rows = frame.select(*_values(columns), *about).distinct().collect()
    except AnalysisException:
        return None
    files: dict[Values, list[FileInfo]] = {}
    for row in rows:
        path, size, modified = row[-3:]
        files.setdefault(tuple(row[: len(columns)]), []).append(FileInfo(path, int(size), modified.timestamp()))
    if not columns:
        return list(grouped(files.get((), ()), "", groups).partitions)
    return [Partition(values, tuple(some)) for values, some in files.items()]


def _by_content(frame: DataFrame, settings: InputSettings, columns: Sequence[str]) -> list[Partition]:
    """The partitions of any table, each with a digest of its rows that does not depend on their order."""
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
