"""The corpus as a DataFrame and as partitions."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import and_

from pyspark.sql import Column, DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F

from bigfive_udf.errors import InputError, SettingsError
from bigfive_udf.settings.score import InputSettings
from bigfive_udf.spark.storage import as_pattern, as_uri, locate, quoted
from bigfive_udf.spark.udf import check_text_column
from bigfive_udf.tables import footers
from bigfive_udf.tables.filesystem import FileInfo, FileSystem, LocalFileSystem
from bigfive_udf.tables.partitions import (
    Layout,
    Partition,
    Selection,
    Values,
    is_hidden,
    layout_of,
    partition_name,
    select,
)
from bigfive_udf.traits import SCORE_FIELDS

_FOREIGN_TABLES = {"_delta_log": "Delta", "metadata": "Iceberg", ".hoodie": "Hudi"}
_NUMERIC = ("tinyint", "smallint", "int", "bigint", "float", "double", "decimal")


@dataclass(frozen=True)
class Corpus:
    """What is to be scored: rows with the carried columns, the text and the partition columns; and the partitions."""

    frame: DataFrame
    layout: Layout
    source: str
    """the table, or the path as its file system spells it"""

    def selected(self, selection: Selection) -> Corpus:
        """The corpus narrowed to the partitions that the command line asks for."""
        types = dict(self.frame.dtypes)
        numeric = frozenset(c for c in self.layout.columns if types[c].startswith(_NUMERIC))
        chosen = select(self.layout, replace(selection, numeric_columns=numeric))
        if len(chosen) == len(self.layout.partitions):
            return self
        frame = self.frame.where(_any_of(self.layout.columns, [p.values for p in chosen]))
        return replace(self, frame=frame, layout=replace(self.layout, partitions=chosen))

    def count(self) -> dict[Values, int]:
        """Rows of every partition, zero where `input.where` leaves none; without a condition only footers are read."""
        counts: dict[Values, int] = {p.values: 0 for p in self.layout.partitions}
        found = grouped_counts(self.frame, self.layout.columns)
        if new := sorted(partition_name(self.layout.columns, values) for values in set(found) - set(counts)):
            raise InputError(f"{new[0]} appeared while {self.source} was being read: run it again")
        return counts | found


def grouped_counts(frame: DataFrame, columns: Sequence[str]) -> dict[Values, int]:
    """Rows by partition values, as strings."""
    groups = frame.groupBy(*[F.col(quoted(c)).cast("string").alias(c) for c in columns]).count()
    return {tuple(row[: len(columns)]): int(row["count"]) for row in groups.collect() if row["count"]}


def open_corpus(spark: SparkSession, settings: InputSettings) -> Corpus:
    """Find the corpus, check the columns of every file, and make the DataFrame; no row is read yet.

    Raises:
        InputError: it is missing, empty, of another format, or lacks a column.
        SettingsError: input.where is no condition, or input.partition_columns are not the corpus's.
    """
    if settings.table is not None:
        frame, layout = _open_table(spark, settings)
    else:
        frame, layout = _open_path(spark, settings)
    needed = [*settings.carried_columns, settings.text_column]
    for column in needed:
        if column not in frame.columns:
            raise InputError(f"{settings.source} has no column {column}; its columns are {', '.join(frame.columns)}")
    if clash := {c.lower() for c in needed} & {c.lower() for c in layout.columns}:
        raise SettingsError(f"{sorted(clash)[0]} is a partition column already: leave it out of the kept columns")
    if taken := {c.lower() for c in layout.columns} & {f.name for f in SCORE_FIELDS}:
        raise SettingsError(
            f"partition column {sorted(taken)[0]} has the name of a score column: rename its directories"
        )
    check_text_column(frame, settings.text_column)
    if settings.where is not None:
        frame = _where(frame, settings.where)
    columns = dict.fromkeys([*needed, *layout.columns])
    source = settings.table or locate(spark, settings.source)[1]
    return Corpus(frame.select(*[F.col(quoted(c)) for c in columns]), layout, source)


def _open_path(spark: SparkSession, settings: InputSettings) -> tuple[DataFrame, Layout]:
    assert settings.path is not None
    fs, path = locate(spark, settings.path)
    try:
        roots = fs.expand(path)
        if not roots:
            raise InputError(f"input.path {settings.path} is not there: correct it, or load the corpus first")
        base = _base_of(path, roots)
        files = [f for root in roots for f in fs.files(root)]
        if base in roots and any(f.path == base for f in files):
            base = os.path.dirname(base)  # a single file: Spark wants a directory for its basePath
    except OSError as error:
        raise InputError(
            f"input.path {settings.path} can't be listed ({error.strerror}): check the path and its permissions"
        ) from None
    _refuse_foreign_table(base, files)
    data = [f for f in files if not is_hidden(_relative(f.path, base))]
    if not data:
        raise InputError(
            f"input.path {settings.path} has no data files in it: load the corpus first, or correct the path"
        )
    found = layout_of(base, data)
    layout = _checked_layout(settings, found)
    in_files = [c for c in (*settings.carried_columns, settings.text_column) if c not in found.columns]
    reader = spark.read.format(settings.format).option("basePath", as_uri(fs, base))
    if settings.format == "csv":
        # FAILFAST: by default Spark reads a malformed line as a row of nulls.
        # enforceSchema: by default it takes the columns of all files in the order of one file's header.
        reader = reader.options(header=True, multiLine=True, escape='"', mode="FAILFAST", enforceSchema=False)
    elif settings.format == "json":
        reader = reader.options(mode="FAILFAST")
    if not found.columns:
        reader = reader.option("recursiveFileLookup", True)  # or files in plain subdirectories are passed over
    footers.check_columns([f.path for f in data], in_files, _columns_reader(spark, fs, settings.format, reader))
    frame = reader.load([as_pattern(fs, root) for root in roots])
    for column in layout.columns:  # a column of nulls alone comes without a type
        if dict(frame.dtypes)[column] != "string":
            frame = frame.withColumn(column, F.col(quoted(column)).cast("string"))
    return frame, layout


def _open_table(spark: SparkSession, settings: InputSettings) -> tuple[DataFrame, Layout]:
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
    found = (
        frame.select(*[F.col(quoted(c)).cast("string").alias(c) for c in columns]).distinct().collect()
        if columns
        else [()]
    )
    types = dict(frame.dtypes)
    numeric = [types[c].startswith(_NUMERIC) for c in columns]
    values = sorted(
        (tuple(row) for row in found),
        key=lambda v: tuple(
            (x is None, (float(x), "") if n and x else (0.0, x or "")) for x, n in zip(v, numeric, strict=True)
        ),
    )
    return frame, Layout(tuple(columns), tuple(Partition(v) for v in values))


def _checked_layout(settings: InputSettings, found: Layout) -> Layout:
    """The layout by the columns that the settings name, which must be the first of those of the directories."""
    if settings.partition_columns is None:
        return found
    wanted = tuple(settings.partition_columns)
    if wanted != found.columns[: len(wanted)]:
        have = ", ".join(found.columns) or "none"
        raise SettingsError(
            f"input.partition_columns {list(wanted)}: the directories under {settings.path} have {have}; "
            "name them in that order, or write the corpus with partitionBy"
        )
    groups: dict[Values, list[FileInfo]] = {}
    for partition in found.partitions:
        groups.setdefault(partition.values[: len(wanted)], []).extend(partition.files)
    return Layout(wanted, tuple(Partition(values, tuple(files)) for values, files in groups.items()))


def _refuse_foreign_table(base: str, files: Sequence[FileInfo]) -> None:
    for file in files:
        for part in _relative(file.path, base).split("/")[:-1]:
            kind = _FOREIGN_TABLES.get(part)
            if kind is None or (kind == "Iceberg" and not file.path.endswith((".metadata.json", ".avro"))):
                continue
            raise InputError(
                f"{base} is a {kind} table, whose files hold deleted rows too: "
                "register it in the catalog and set input.table"
            )


def _base_of(path: str, roots: Sequence[str]) -> str:
    """The directory from which partition directories count: above any glob and any column=value."""
    parts = (path if len(roots) != 1 or roots[0] != path else roots[0]).rstrip("/").split("/")
    for i, part in enumerate(parts):
        if "=" in part or set(part) & set("*?[{"):
            return "/".join(parts[:i]) or "/"
    return "/".join(parts)


def _relative(path: str, base: str) -> str:
    return path.removeprefix(base.rstrip("/") + "/") if path != base else os.path.basename(path)


def _columns_reader(
    spark: SparkSession, fs: FileSystem, kind: str, reader: DataFrameReader
) -> Callable[[str], footers.Columns]:
    """How to learn the columns of one file; of JSON and CSV without types, which Spark settles over all files."""
    if kind == "parquet" and isinstance(fs, LocalFileSystem):
        return footers.local_columns

    def over_spark(path: str) -> footers.Columns:
        try:
            if kind == "parquet":
                return dict(spark.read.parquet(as_pattern(fs, path)).dtypes)
            return dict.fromkeys(reader.load(as_pattern(fs, path)).columns, "")
        except Exception as error:
            first_line = next(iter(str(error).splitlines()), "")
            raise InputError(
                f"{path} can't be read as {kind} ({first_line[:160]}): restore it or move it away"
            ) from None

    return over_spark


def _where(frame: DataFrame, condition: str) -> DataFrame:
    try:
        return frame.where(condition)
    except Exception as error:
        first_line = next(iter(str(error).splitlines()), "")
        raise SettingsError(
            f"input.where {condition!r} is no condition on the corpus's columns ({first_line[:160]})"
        ) from None


def _one_of(conditions: Sequence[Column]) -> Column:
    """One of many conditions, as a tree of little depth: a chain of thousands overflows the JVM's stack."""
    if len(conditions) <= 1:
        return conditions[0] if conditions else F.lit(False)
    half = len(conditions) // 2
    return _one_of(conditions[:half]) | _one_of(conditions[half:])


def _any_of(columns: Sequence[str], chosen: Sequence[Values]) -> Column:
    """Rows of the chosen partitions; conditions on partition columns alone, so that Spark lists no other files."""
    if len(columns) == 1:
        column = F.col(quoted(columns[0])).cast("string")
        known = [v[0] for v in chosen if v[0] is not None]
        condition = column.isin(known) if known else F.lit(False)
        return condition | column.isNull() if len(known) < len(chosen) else condition
    equal = [
        [F.col(quoted(c)).cast("string").eqNullSafe(F.lit(v)) for c, v in zip(columns, values, strict=True)]
        for values in chosen
    ]
    return _one_of([reduce(and_, conditions) for conditions in equal])
