"""Reading the files of a corpus: what they hold, checked file by file, and their rows as a DataFrame."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any

from pyspark.errors import ParseException
from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StringType, StructField, StructType

from bigfive_udf.errors import InputError
from bigfive_udf.redaction import first_line, told
from bigfive_udf.settings.score import InputSettings
from bigfive_udf.spark.failures import MALFORMED_RECORD
from bigfive_udf.spark.input.columns import TableColumns, carried_types
from bigfive_udf.spark.input.readable import Readable, Sizes, with_condition
from bigfive_udf.spark.local_rows import local_rows
from bigfive_udf.spark.storage import as_pattern, as_uri, quoted
from bigfive_udf.spark.udf import check_text_column
from bigfive_udf.tables import footers
from bigfive_udf.tables.filesystem import FileSystem
from bigfive_udf.tables.footers import Footer
from bigfive_udf.tables.partitions import GROUP, Layout, Partition, Values

_PATH = "__bigfive_path"
_MALFORMED = "__bigfive_malformed"
_WITH_RECORDS = ("json", "csv")

_Types = tuple[tuple[str, str], ...]
"""The needed columns of a file and their types, as the file stores them."""
_Looked = Mapping[str, Footer | InputError]
"""By path what each file holds, or why it can't be read."""


@dataclass(frozen=True)
class _Kind:
    """How files with the needed columns in the same types are read; without any file only `carried` says something."""

    schema: StructType
    """all columns, of the files and of the directories"""
    carried: Mapping[str, str]
    """the carried columns and their Spark types in the table"""
    sample: str = ""
    """one of the files"""


@dataclass(frozen=True)
class Reader:
    """Reads the files of a corpus."""

    spark: SparkSession = field(repr=False)
    settings: InputSettings
    fs: FileSystem
    root: str
    """the directory below which column=value directories count as partitions"""
    partition_columns: tuple[str, ...]
    """empty where groups of files are the partitions"""
    directory_columns: tuple[str, ...]
    """all columns in directory names; the partition columns are the first of them"""

    def examine(self, partitions: Sequence[Partition], table: TableColumns) -> Readable:
        """Look at the files of the partitions that a run is to score; only JSON is read in full for it.

        Every file must have the needed columns, and all files of a run must have them in the same types: in the
        table's, if it is strict. A partition that does not comply is unfit.

        Raises:
            InputError: no partition is fit, and the table has no columns yet either.
            SettingsError: input.where is no condition on the corpus's columns.
        """
        footer_of = footers.read_footers([f.path for p in partitions for f in p.files], self._footer)
        types, unfit = self._types(partitions, footer_of)
        if unfit and not types and table.types is None:  # then it is the settings that are wrong
            raise InputError(next(iter(unfit.values())))
        kinds, refused = self._kinds(partitions, types, table)
        unfit |= {values: refused[own] for values, own in types.items() if own in refused}
        types = {values: own for values, own in types.items() if own in kinds}
        chosen = _chosen(types.values(), kinds, table)
        unfit |= _unlike(partitions, types, kinds, chosen, table)

        fit = tuple(p for p in partitions if p.values not in unfit)
        kind = kinds[chosen] if chosen is not None else _Kind(StructType(), dict(table.types or {}))
        # Spark reads CSV columns by position, and their order may differ from file to file.
        found = footer_of.items() if self.settings.format == "csv" else ()
        headers = {path: tuple(footer.columns) for path, footer in found if isinstance(footer, Footer)}
        load = partial(self._load, kind.schema, headers)
        readable = Readable(Layout(self.partition_columns, fit), kind.carried, unfit, load, self._sizes(fit, footer_of))
        if chosen is not None:
            check_text_column(readable.load(fit[:1]), self.settings.text_column)
        return readable

    def _footer(self, path: str) -> Footer:
        """One file's columns; for JSON and CSV without types, which depend on all files."""
        if self.settings.format == "parquet":
            return footers.footer_of(self.fs, path, text_column=self.settings.text_column)
        return Footer({name: "" for name in self._inferred([path], path).names if name != _MALFORMED})

    def _types(
        self, partitions: Sequence[Partition], footer_of: _Looked
    ) -> tuple[dict[Values, _Types], dict[Values, str]]:
        """The types of the needed columns in each partition whose files agree on them, and why the others are unfit."""
        settings = self.settings
        needed = [*settings.carried_columns, settings.text_column]
        named = _named_columns(settings.where, footer_of)
        if settings.format == "json":  # JSON writers leave out null values, so a file may lack any other column
            needed = [c for c in (settings.id_column, settings.text_column) if c is not None]
        else:
            needed += [n for n in named if n.lower() not in {c.lower() for c in needed}]
        in_files = [c for c in needed if c not in self.directory_columns]
        types: dict[Values, _Types] = {}
        unfit: dict[Values, str] = {}
        for partition in partitions:
            try:
                found = footers.check_columns({f.path: footer_of[f.path] for f in partition.files}, in_files)
                footers_of = [f for file in partition.files if isinstance(f := footer_of[file.path], Footer)]
                columns = {c.lower() for f in footers_of for c in f.columns}
                if partition.files and (lacking := [n for n in named if n.lower() not in columns]):
                    raise InputError(
                        f"{partition.files[0].path} and those beside it have no column {lacking[0]}, which input.where "
                        "names: correct the settings or the files"
                    )
                types[partition.values] = tuple(found.items())
            except InputError as error:
                unfit[partition.values] = str(error)
        return types, unfit

    def _kinds(
        self, partitions: Sequence[Partition], types: Mapping[Values, _Types], table: TableColumns
    ) -> tuple[dict[_Types, _Kind], dict[_Types, str]]:
        """How Spark reads the files of each of the `types`, and why it can't read those of the others."""
        sample = {types[p.values]: p.files[0].path for p in reversed(partitions) if p.values in types and p.files}
        paths = [f.path for p in partitions if p.values in types for f in p.files]
        kinds: dict[_Types, _Kind] = {}
        refused: dict[_Types, str] = {}
        for own, path in sample.items():
            try:
                # A JSON file may lack columns of another, so all are read; files of the other formats are alike.
                schema = self._schema(paths if self.settings.format == "json" else [path], path)
                if self.settings.format == "json" and table.types is not None:
                    schema = self._as_in_table(table.types, table.strict, schema)
                kinds[own] = _Kind(schema, carried_types(self.settings, schema), path)
            except InputError as error:
                if len(sample) == 1 and table.types is None:
                    raise
                refused[own] = str(error)
        return kinds, refused

    def _sizes(self, partitions: Sequence[Partition], footer_of: _Looked) -> Sizes:
        stored = _sums(partitions, footer_of, lambda footer: footer.rows)
        rows = {p.values: 0 for p in partitions if not p.files}
        if self.settings.where is None:  # else only counting tells how many rows it leaves
            rows |= stored
        return Sizes(rows, stored, _sums(partitions, footer_of, lambda footer: footer.text_bytes))

    def _spark_reader(self) -> DataFrameReader:
        kind = self.settings.format
        reader = self.spark.read.format(kind).option("basePath", as_uri(self.fs, self.root))
        if kind == "csv":
            # By default (enforceSchema) Spark reads the columns of all files in the order of one file's header.
            reader = reader.options(header=True, multiLine=True, escape='"', enforceSchema=False)
        # By default Spark reads a malformed line as a row of nulls, and in mode FAILFAST quotes it in its logs.
        return reader.option("columnNameOfCorruptRecord", _MALFORMED) if kind in _WITH_RECORDS else reader

    def _inferred(self, paths: Sequence[str], sample: str) -> StructType:
        """The columns that Spark finds in files; an error names `sample`, one of them."""
        reader = self._spark_reader()
        try:
            return reader.load([as_pattern(self.fs, path) for path in paths]).schema
        except Exception as error:
            raise InputError(
                f"{sample} can't be read as {self.settings.format} ({first_line(told(error))}): restore it or move it "
                "away"
            ) from None

    def _schema(self, paths: Sequence[str], sample: str) -> StructType:
        """All columns of the files, followed by the columns of the directories as strings."""
        inferred = self._inferred(paths, sample).fields
        in_files = [f for f in inferred if f.name not in (_MALFORMED, *self.directory_columns)]
        malformed = [_MALFORMED] if self.settings.format in _WITH_RECORDS else []
        return StructType([*in_files, *_strings((*malformed, *self.directory_columns))])

    def _text_schema(self, header: Sequence[str]) -> StructType:
        """The columns of a CSV file in their order, then the columns that `_schema` appends; all are strings."""
        in_file = [c for c in header if c not in self.directory_columns]
        return StructType(_strings((*in_file, _MALFORMED, *self.directory_columns)))

    def _as_in_table(self, types: Mapping[str, str], strict: bool, schema: StructType) -> StructType:
        """The schema of JSON files, plus carried columns that only the table has; if `strict`, in the table's types.

        The type that Spark infers for a JSON column depends on the values of one night: whole numbers until one has a
        fraction, strings if all are null. A value that does not fit the type makes its record malformed.
        """
        there = {f.name.lower(): f for f in schema.fields}
        fields = list(schema.fields)
        for name in self.settings.carried_columns:
            kind, found = types.get(name), there.get(name.lower())
            if kind is None or name in self.directory_columns:
                continue
            if found is None:
                fields.insert(0, StructField(name, self._type(kind) or StringType()))
                continue
            own = found.name == name and name not in self.settings.pseudonymised_columns
            if strict and own and found.dataType.simpleString() != kind and (typed := self._type(kind)) is not None:
                fields[fields.index(found)] = StructField(name, typed)
        return StructType(fields)

    def _type(self, kind: str) -> DataType | None:
        """The type of this name; None if one of its fields has a name that would have to be quoted."""
        try:
            return self.spark.createDataFrame([], f"x {kind}").schema["x"].dataType
        except ParseException:
            return None

    def _load(
        self, schema: StructType, headers: Mapping[str, tuple[str, ...]], partitions: Sequence[Partition]
    ) -> DataFrame:
        """Read exactly the files that were found; a file that has come since is left to the next run."""
        by_header: dict[tuple[str, ...] | None, list[str]] = {}
        for path in (f.path for p in partitions for f in p.files):
            by_header.setdefault(headers.get(path), []).append(as_pattern(self.fs, path))
        frames = [
            self._rows(schema if header is None else self._text_schema(header), paths, partitions)
            for header, paths in by_header.items()
        ]
        return reduce(DataFrame.union, frames) if frames else self._rows(schema, [], partitions)

    def _rows(self, schema: StructType, paths: Sequence[str], partitions: Sequence[Partition]) -> DataFrame:
        """The rows of some files of `partitions`, all of one schema; of none if there are no paths."""
        settings = self.settings
        frame = (
            self._spark_reader().schema(schema).load(list(paths)) if paths else self.spark.createDataFrame([], schema)
        )
        if paths and _MALFORMED in schema.names:
            frame = _whole_records(frame, settings.text_column)
        if not self.partition_columns:
            frame = with_groups(self.spark, self.fs, frame, partitions)
        keys = self.partition_columns or (GROUP,)
        wanted = dict.fromkeys([*settings.carried_columns, settings.text_column, *keys])
        return with_condition(frame, settings.where).select(*[F.col(quoted(c)) for c in wanted])


def with_groups(spark: SparkSession, fs: FileSystem, frame: DataFrame, partitions: Sequence[Partition]) -> DataFrame:
    """The rows of some groups' files with the column that names the group."""
    if len(partitions) == 1:
        return frame.withColumn(GROUP, F.lit(partitions[0].values[0]))
    path_of: Any = spark._jvm.org.apache.hadoop.fs.Path  # type: ignore[union-attr]
    # Paths are escaped as Spark does it. After the scheme there may be one slash or three.
    slashes = "^([^:/]+):/+"
    rows = [
        (re.sub(slashes, r"\1:", path_of(as_uri(fs, f.path)).toUri().toString()), p.values[0])
        for p in partitions
        for f in p.files
    ]
    groups = local_rows(spark, rows, {_PATH: "string", GROUP: "string"})
    path = F.regexp_replace(F.col("_metadata.file_path"), slashes, "$1:")
    return frame.withColumn(_PATH, path).join(F.broadcast(groups), _PATH, "left")


def _named_columns(condition: str | None, footer_of: _Looked) -> list[str]:
    """The columns of the files that input.where names: in a file that lacks one it must not silently be null."""
    if condition is None:
        return []
    # Spark ignores case in names. Of several spellings, the most frequent one is used.
    names = Counter(name for f in footer_of.values() if isinstance(f, Footer) for name in f.columns)
    usual = {name.lower(): name for name, _ in reversed(names.most_common())}
    return sorted(n for n in usual.values() if _is_named(n, condition))


def _is_named(column: str, condition: str) -> bool:
    """Whether a condition names a column; a name before a bracket is the name of a function."""
    return re.search(rf"(?<!\w){re.escape(column)}(?!\w|\s*\()", condition, re.IGNORECASE) is not None


def _chosen(types: Iterable[_Types], kinds: Mapping[_Types, _Kind], table: TableColumns) -> _Types | None:
    """The types that a run reads: the table's or, unless it is strict, the most frequent; None if no file has them."""
    frequent = [own for own, _ in Counter(types).most_common()]
    fitting = [own for own in frequent if table.other_type(kinds[own].carried) is None]
    return next(iter(fitting if table.strict or fitting else frequent), None)


def _unlike(
    partitions: Sequence[Partition],
    types: Mapping[Values, _Types],
    kinds: Mapping[_Types, _Kind],
    chosen: _Types | None,
    table: TableColumns,
) -> dict[Values, str]:
    """The partitions whose files have other types than the chosen ones, each with the reason why it can't be read."""
    unfit: dict[Values, str] = {}
    for partition in partitions:
        own = types.get(partition.values, chosen)
        if partition.files and own is not None and own != chosen:
            reason = table.other_type(kinds[own].carried)
            if reason is None:
                pair = dict(own), dict(chosen or ())
                reason = f"{_difference(*pair)} in {kinds[chosen or own].sample}: write both in one type"
            unfit[partition.values] = f"{partition.files[0].path} has {reason}"
    return unfit


def _difference(other: Mapping[str, str], chosen: Mapping[str, str]) -> str:
    name = next(c for c in other if other[c] != chosen.get(c))
    return f"column {name} as {other[name]}, it is {chosen.get(name)}"


def _sums(
    partitions: Sequence[Partition], footer_of: _Looked, number: Callable[[Footer], int | None]
) -> dict[Values, int]:
    """The sum of a number from the footers, for each partition whose footers all give it."""
    sums: dict[Values, int] = {}
    for partition in partitions:
        told = [number(f) for file in partition.files if isinstance(f := footer_of[file.path], Footer)]
        if None not in told and told:
            sums[partition.values] = sum(n for n in told if n is not None)
    return sums


def _strings(names: Iterable[str]) -> list[StructField]:
    return [StructField(name, StringType()) for name in names]


def _whole_records(frame: DataFrame, text_column: str) -> DataFrame:
    """The rows of `frame`; a malformed one raises an error that names its file and quotes nothing from it."""
    # Spark refuses to query the column of malformed records alone, so the text's empty beginning is added.
    nothing = F.coalesce(F.substring(F.col(quoted(text_column)).cast("string"), 0, 0), F.lit(""))
    where = F.concat(F.lit(f"{MALFORMED_RECORD} in "), F.col("_metadata.file_path"), nothing)
    error = F.raise_error(where).cast("boolean")
    return frame.where(F.when(F.col(_MALFORMED).isNotNull(), error).otherwise(F.lit(True)))
