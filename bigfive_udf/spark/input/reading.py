"""Reading partitions of the corpus: what their files hold, checked file by file, and the rows as a DataFrame."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Any

from pyspark.errors import ParseException
from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StringType, StructField, StructType

from bigfive_udf.errors import InputError, SettingsError
from bigfive_udf.redaction import column_names, first_line, told
from bigfive_udf.settings.score import InputSettings
from bigfive_udf.spark.failures import MALFORMED_RECORD, spark_failures
from bigfive_udf.spark.input.corpus import Corpus
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
_SAMPLED_PARTITIONS = 8
_WITH_PSEUDONYMS = r"(string|(var)?char\(|(tiny|small|big)?int$)"

Types = tuple[tuple[str, str], ...]
"""The needed columns of a file and their types, as the file stores them."""


@dataclass(frozen=True)
class Readable:
    """The partitions whose files are fit to be read together, and for each of the others the reason why not."""

    layout: Layout
    columns: Mapping[str, str]
    """the carried columns and their Spark types"""
    unfit: Mapping[Values, str]
    _load: Callable[[Sequence[Partition]], DataFrame] = field(repr=False)
    _rows: Mapping[Values, int] = field(default_factory=dict, repr=False)
    """rows to read by partition, where the footers give them"""
    _text_bytes: Mapping[Values, int] = field(default_factory=dict, repr=False)
    """compressed bytes of the texts by partition, where the footers give them; for a catalog table, of whole files"""
    _stored: Mapping[Values, int] = field(default_factory=dict, repr=False)
    """rows in the files by partition, where the footers give them; `input.where` may leave some out"""

    def frame(self, partitions: Sequence[Partition]) -> DataFrame:
        """The rows of some partitions: carried columns, text, and the columns that identify the partition."""
        return self._load(partitions)

    def text_bytes(self, partition: Partition, rows: int) -> int:
        """Roughly the stored bytes of `rows` texts of a partition, a measure of the work.

        If the size of the texts is not known, the size of the partition's files is used.
        """
        size = self._text_bytes.get(partition.values, partition.size)
        stored = self._stored.get(partition.values, 0)
        return size * rows // stored if stored > rows else size

    def sample(self, text_column: str, number: int, with_empty: bool = True) -> list[str]:
        """About `number` texts: the first ones of some fit partitions, evenly chosen; a null text becomes empty."""
        fit = [p for p in self.layout.partitions if p.size or p.version]
        chosen = fit[:: -(-len(fit) // _SAMPLED_PARTITIONS)] if fit else []
        text = F.coalesce(F.col(quoted(text_column)), F.lit(""))
        wanted = F.lit(True) if with_empty else text.rlike(r"\S")
        texts: list[str] = []
        # The largest partitions come last: they make up for texts that the others lack.
        for k, partition in enumerate(sorted(chosen, key=lambda p: p.size)):
            each = -(-(number - len(texts)) // (len(chosen) - k))
            # A partition that can't be read is reported when it is to be scored.
            with contextlib.suppress(InputError), spark_failures():
                rows = self._load([partition]).where(wanted).select(text.cast("binary")).limit(each)
                texts += [bytes(row[0]).decode("utf-8", errors="replace") for row in rows.collect()]
        return texts

    def counted(self) -> tuple[Readable, dict[Values, int]]:
        """Count the rows of every partition; a partition whose rows can't be read is no longer fit."""
        if not self.layout.partitions:
            return self, {}
        rows: dict[Values, int] = {}
        unfit = dict(self.unfit)
        pending = [self.layout.partitions]
        while pending:
            some = pending.pop()
            try:
                rows |= self._count(some)
            except InputError as error:
                # One file that can't be read fails the whole Spark job: halve until it is found.
                half = len(some) // 2
                if half:
                    pending += [some[half:], some[:half]]
                else:
                    unfit[some[0].values] = str(error)
        fit = tuple(p for p in self.layout.partitions if p.values in rows)
        return replace(self, layout=replace(self.layout, partitions=fit), unfit=unfit), rows

    @spark_failures()
    def _count(self, partitions: Sequence[Partition]) -> dict[Values, int]:
        """Rows of each partition, zero if `input.where` leaves none; by a Spark job if the footers do not give them."""
        if all(p.values in self._rows for p in partitions):
            return {p.values: self._rows[p.values] for p in partitions}
        keys = self.layout.keys
        groups = self.frame(partitions).groupBy(*[F.col(quoted(c)).cast("string").alias(c) for c in keys]).count()
        found = {tuple(row[: len(keys)]): int(row["count"]) for row in groups.collect()}
        return {p.values: found.get(p.values, 0) for p in partitions}


def examine_files(
    spark: SparkSession,
    corpus: Corpus,
    settings: InputSettings,
    partitions: Sequence[Partition],
    table_columns: Mapping[str, str] | None,
    strict: bool,
) -> Readable:
    """Look at the files of the partitions that a run is to score; only JSON is read in full for it.

    Every file must have the needed columns, and all files of a run must have them in the same types. With `strict`
    these are the types in `table_columns`, the columns that the table carries by now, if there are any. A partition
    that does not comply is unfit.

    Raises:
        InputError: no partition is fit, and there are no `table_columns` either.
        SettingsError: input.where is no condition on the corpus's columns.
    """
    assert corpus.fs is not None
    reader = _reader(spark, corpus, settings)
    paths = [f.path for p in partitions for f in p.files]
    footer_of = footers.read_footers(paths, _footer_reader(corpus.fs, settings, reader))
    types, unfit = _checked_files(corpus, settings, partitions, footer_of)
    if unfit and not types and table_columns is None:  # then it is the settings that are wrong
        raise InputError(next(iter(unfit.values())))

    sample = {types[p.values]: p.files[0].path for p in reversed(partitions) if p.values in types and p.files}
    fit_paths = [f.path for p in partitions if p.values in types for f in p.files]
    schemas: dict[Types, StructType] = {}
    carried: dict[Types, dict[str, str]] = {}
    for t, path in sample.items():
        try:
            schema = _schema(reader, corpus, path, settings, fit_paths)
            if settings.format == "json" and table_columns is not None:
                schema = _as_in_table(spark, corpus, settings, table_columns, strict, schema)
            carried[t], schemas[t] = carried_types(settings, schema), schema
        except InputError as error:
            if len(sample) == 1 and table_columns is None:
                raise
            unfit |= {values: str(error) for values, own in types.items() if own == t}
    types = {values: t for values, t in types.items() if t in carried}
    chosen = _chosen_types(types, carried, table_columns, strict)
    for partition in partitions:
        if partition.values in unfit:
            continue
        if partition.files and (other := types.get(partition.values, chosen)) not in (chosen, None):
            unlike = (
                f"{_difference(dict(other), dict(chosen or ()))} in {sample[chosen or other]}: write both in one type"
            )
            reason = other_type(carried[other], table_columns) or unlike
            unfit[partition.values] = f"{partition.files[0].path} has {reason}"

    schema = schemas[chosen] if chosen is not None else StructType()

    def header_of(path: str) -> tuple[str, ...] | None:
        # Spark reads CSV columns by position, and their order may differ from file to file.
        footer = footer_of[path] if settings.format == "csv" else None
        return tuple(footer.columns) if isinstance(footer, Footer) else None

    def load(some: Sequence[Partition]) -> DataFrame:
        return _load(spark, corpus, settings, reader, schema, header_of, some)

    fit = tuple(p for p in partitions if p.values not in unfit)
    columns = carried[chosen] if chosen is not None else dict(table_columns or {})
    rows = _known_rows(settings, fit, footer_of)
    text_bytes = _sums(fit, footer_of, lambda footer: footer.text_bytes)
    stored = _sums(fit, footer_of, lambda footer: footer.rows)
    readable = Readable(Layout(corpus.layout.columns, fit), columns, unfit, load, rows, text_bytes, stored)
    if chosen is not None:
        check_text_column(readable.frame(fit[:1]), settings.text_column)
    return readable


def _checked_files(
    corpus: Corpus,
    settings: InputSettings,
    partitions: Sequence[Partition],
    footer_of: Mapping[str, Footer | InputError],
) -> tuple[dict[Values, Types], dict[Values, str]]:
    """The types of the needed columns in each partition whose files agree on them, and why the others are unfit."""
    needed = [*settings.carried_columns, settings.text_column]
    named: list[str] = []
    if settings.where is not None:  # a column that only the condition names must not silently be null either
        # Spark ignores case in names. Of several spellings, the most frequent one is used.
        names = Counter(name for f in footer_of.values() if isinstance(f, Footer) for name in f.columns)
        usual = {name.lower(): name for name, _ in reversed(names.most_common())}
        named = sorted(n for n in usual.values() if _is_named(n, settings.where))
    if settings.format == "json":  # JSON writers leave out null values, so a file may lack any other column
        needed = [c for c in (settings.id_column, settings.text_column) if c is not None]
    else:
        needed += [n for n in named if n.lower() not in {c.lower() for c in needed}]
    in_files = [c for c in needed if c not in corpus.directory_columns]
    types: dict[Values, Types] = {}
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


def _is_named(column: str, condition: str) -> bool:
    """Whether a condition names a column; a name before a bracket is the name of a function."""
    return re.search(rf"(?<!\w){re.escape(column)}(?!\w|\s*\()", condition, re.IGNORECASE) is not None


def _known_rows(
    settings: InputSettings, partitions: Sequence[Partition], footer_of: Mapping[str, Footer | InputError]
) -> dict[Values, int]:
    """The rows of each partition whose footers give them; with `input.where`, only of partitions without files."""
    none = {p.values: 0 for p in partitions if not p.files}
    return none if settings.where is not None else none | _sums(partitions, footer_of, lambda footer: footer.rows)


def _sums(
    partitions: Sequence[Partition],
    footer_of: Mapping[str, Footer | InputError],
    number: Callable[[Footer], int | None],
) -> dict[Values, int]:
    """The sum of a number from the footers, for each partition whose footers all give it."""
    sums: dict[Values, int] = {}
    for partition in partitions:
        told = [number(f) for file in partition.files if isinstance(f := footer_of[file.path], Footer)]
        if None not in told and told:
            sums[partition.values] = sum(n for n in told if n is not None)
    return sums


def _chosen_types(
    types: Mapping[Values, Types],
    carried: Mapping[Types, Mapping[str, str]],
    table_columns: Mapping[str, str] | None,
    strict: bool,
) -> Types | None:
    """The types that a run reads: the table's or, unless `strict`, the most frequent; None if no file has them."""
    frequent = [t for t, _ in Counter(types.values()).most_common() if t in carried]
    fitting = [t for t in frequent if other_type(carried[t], table_columns) is None]
    return next(iter(fitting if strict or fitting else frequent), None)


def other_type(columns: Mapping[str, str], table_columns: Mapping[str, str] | None) -> str | None:
    """How the types of carried columns differ from the table's; None if they do not, or if the columns are others."""
    if table_columns is None or list(table_columns) != list(columns):
        return None
    for name, kind in columns.items():
        if kind != table_columns[name]:
            return (
                f"column {name} as {kind}, the table has it as {table_columns[name]}: write it in that type, or set "
                "on_schema_change to only_new"
            )
    return None


def _difference(other: Mapping[str, str], chosen: Mapping[str, str]) -> str:
    name = next(c for c in other if other[c] != chosen.get(c))
    return f"column {name} as {other[name]}, it is {chosen.get(name)}"


def _reader(spark: SparkSession, corpus: Corpus, settings: InputSettings) -> DataFrameReader:
    assert corpus.fs is not None
    reader = spark.read.format(settings.format).option("basePath", as_uri(corpus.fs, corpus.root))
    if settings.format == "csv":
        # By default (enforceSchema) Spark reads the columns of all files in the order of one file's header.
        reader = reader.options(header=True, multiLine=True, escape='"', enforceSchema=False)
    # By default Spark reads a malformed line as a row of nulls, and in mode FAILFAST quotes it in its logs.
    return reader.option("columnNameOfCorruptRecord", _MALFORMED) if settings.format in _WITH_RECORDS else reader


def _schema(
    reader: DataFrameReader, corpus: Corpus, sample: str, settings: InputSettings, files: Sequence[str]
) -> StructType:
    """All columns of the files, followed by the columns of the directories as strings."""
    assert corpus.fs is not None
    # A JSON file may lack columns of another, so all are read; files of the other formats are alike.
    some = files if settings.format == "json" else [sample]
    try:
        found = reader.load([as_pattern(corpus.fs, path) for path in some]).schema
    except Exception as error:
        raise InputError(
            f"{sample} can't be read as {settings.format} ({first_line(told(error))}): restore it or move it away"
        ) from None
    in_files = [f for f in found.fields if f.name not in (_MALFORMED, *corpus.directory_columns)]
    malformed = [StructField(_MALFORMED, StringType())] if settings.format in _WITH_RECORDS else []
    return StructType([*in_files, *malformed, *(StructField(c, StringType()) for c in corpus.directory_columns)])


def _text_schema(corpus: Corpus, header: Sequence[str]) -> StructType:
    """The columns of a CSV file in their order, then the columns that `_schema` appends; all are strings."""
    in_file = [c for c in header if c not in corpus.directory_columns]
    return StructType([StructField(c, StringType()) for c in (*in_file, _MALFORMED, *corpus.directory_columns)])


def _as_in_table(
    spark: SparkSession,
    corpus: Corpus,
    settings: InputSettings,
    table_columns: Mapping[str, str],
    strict: bool,
    schema: StructType,
) -> StructType:
    """The schema of JSON files, plus the carried columns that only the table has; if `strict`, in the table's types.

    The type that Spark infers for a JSON column depends on the values of one night: whole numbers until one has a
    fraction, strings if all are null. A value that does not fit the type makes its record malformed.
    """
    there = {f.name.lower(): f for f in schema.fields}
    fields = list(schema.fields)
    for name in settings.carried_columns:
        kind, found = table_columns.get(name), there.get(name.lower())
        if kind is None or name in corpus.directory_columns:
            continue
        if found is None:
            fields.insert(0, StructField(name, _type_of(spark, kind) or StringType()))
            continue
        own = found.name == name and name not in settings.pseudonymised_columns
        if strict and own and found.dataType.simpleString() != kind and (typed := _type_of(spark, kind)) is not None:
            fields[fields.index(found)] = StructField(name, typed)
    return StructType(fields)


def _type_of(spark: SparkSession, kind: str) -> DataType | None:
    """The type of this name; None if one of its fields has a name that would have to be quoted."""
    try:
        return spark.createDataFrame([], f"x {kind}").schema["x"].dataType
    except ParseException:
        return None


def carried_types(settings: InputSettings, schema: StructType) -> dict[str, str]:
    """The carried columns and their Spark types in the table; pseudonyms are strings.

    Raises:
        InputError: a column is not there, or has a type that can't be pseudonymised.
    """
    for column in (*settings.carried_columns, settings.text_column):
        if column not in schema.names:
            raise InputError(f"{settings.source} has no column {column}; its columns are {column_names(schema.names)}")
    types = {c: schema[c].dataType.simpleString() for c in settings.carried_columns}
    for column in settings.pseudonymised_columns:
        if not re.match(_WITH_PSEUDONYMS, types[column]):
            raise InputError(
                f"{settings.source} has column {column} as {types[column]}: pseudonyms are made of strings and whole "
                "numbers only; write it as one of them, or leave it out of input.pseudonymise"
            )
        types[column] = "string"
    return types


def _load(
    spark: SparkSession,
    corpus: Corpus,
    settings: InputSettings,
    reader: DataFrameReader,
    schema: StructType,
    header_of: Callable[[str], tuple[str, ...] | None],
    partitions: Sequence[Partition],
) -> DataFrame:
    """Read exactly the files that were found; a file that has come since is left to the next run."""
    fs = corpus.fs
    assert fs is not None
    columns = dict.fromkeys([*settings.carried_columns, settings.text_column, *corpus.layout.keys])

    def like_one_another(schema: StructType, paths: Sequence[str]) -> DataFrame:
        frame = reader.schema(schema).load(list(paths)) if paths else spark.createDataFrame([], schema)
        if paths and _MALFORMED in schema.names:
            frame = _whole_records(frame, settings.text_column)
        if not corpus.layout.columns:
            frame = with_groups(spark, fs, frame, partitions)
        if settings.where is not None:
            frame = with_condition(frame, settings.where)
        return frame.select(*[F.col(quoted(c)) for c in columns])

    by_header: dict[tuple[str, ...] | None, list[str]] = {}
    for path in (f.path for p in partitions for f in p.files):
        by_header.setdefault(header_of(path), []).append(as_pattern(fs, path))
    frames = [
        like_one_another(schema if header is None else _text_schema(corpus, header), paths)
        for header, paths in by_header.items()
    ]
    return reduce(DataFrame.union, frames) if frames else like_one_another(schema, [])


def _whole_records(frame: DataFrame, text_column: str) -> DataFrame:
    """The rows of `frame`; a malformed one raises an error that names its file and quotes nothing from it."""
    # Spark refuses to query the column of malformed records alone, so the text's empty beginning is added.
    nothing = F.coalesce(F.substring(F.col(quoted(text_column)).cast("string"), 0, 0), F.lit(""))
    where = F.concat(F.lit(f"{MALFORMED_RECORD} in "), F.col("_metadata.file_path"), nothing)
    error = F.raise_error(where).cast("boolean")
    return frame.where(F.when(F.col(_MALFORMED).isNotNull(), error).otherwise(F.lit(True)))


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


def _footer_reader(fs: FileSystem, settings: InputSettings, reader: DataFrameReader) -> Callable[[str], Footer]:
    """A function that reads one file's columns; for JSON and CSV without types, which depend on all files."""
    kind = settings.format
    if kind == "parquet":
        return partial(footers.footer_of, fs, text_column=settings.text_column)

    def over_spark(path: str) -> Footer:
        try:
            found = dict.fromkeys(reader.load(as_pattern(fs, path)).columns, "")
        except Exception as error:
            raise InputError(
                f"{path} can't be read as {kind} ({first_line(told(error))}): restore it or move it away"
            ) from None
        return Footer({name: kind for name, kind in found.items() if name != _MALFORMED})

    return over_spark


def with_condition(frame: DataFrame, condition: str) -> DataFrame:
    """The rows that fulfil input.where."""
    try:
        return frame.where(condition)
    except Exception as error:
        raise SettingsError(
            f"input.where {condition!r} is no condition on the corpus's columns ({first_line(str(error))})"
        ) from None
