"""Every Parquet file's footer, read before its partition is scored.

Spark takes the schema from one file and reads a column that another file lacks as null: a renamed text column would
be scored as a partition of empty texts. So the columns are checked file by file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from bigfive_udf.errors import InputError
from bigfive_udf.redaction import column_names, first_line
from bigfive_udf.tables.filesystem import FileSystem

Columns = dict[str, str]
"""Top-level column -> its type, as the file stores it."""


_FOOTER_BYTES = 64 << 10
_MOST_BYTES = 64 << 20
"""No footer is longer: a file that says so is damaged."""
_COMPRESSED = re.compile(r"\.(gz|bz2|zst|zstd|lz4|snappy|deflate)$")


@dataclass(frozen=True)
class Footer:
    """A file's columns and, where they are known, its number of rows and the compressed bytes of its text column."""

    columns: Columns
    rows: int | None = None
    text_bytes: int | None = None


def not_parquet(path: str, reason: str) -> InputError:
    """The error for a file that should be Parquet but is not, with the likeliest cure."""
    ending = _COMPRESSED.sub("", path.lower()).rpartition(".")[2]
    kind = {"csv": "csv", "tsv": "csv", "json": "json", "jsonl": "json", "ndjson": "json"}.get(ending)
    cure = f"it is called {ending}, so set input.format={kind}" if kind else "restore it or move it away"
    return InputError(f"{path} can't be read as Parquet ({reason}): {cure}")


def footer_of(fs: FileSystem, path: str, text_column: str | None = None) -> Footer:
    """The footer of a Parquet file, with the compressed bytes of the text column if the file has that column.

    Raises:
        InputError: the file is not a complete Parquet file, or can't be read.
    """
    try:
        about = pq.read_metadata(pa.BufferReader(_end_of(fs, path)))
        schema = about.schema
    except (pa.ArrowException, OSError) as error:
        raise not_parquet(path, (first_line(str(error)) or type(error).__name__)) from None
    names = schema.to_arrow_schema().names
    columns: Columns = {}
    text_bytes = None
    for i in range(len(schema)):
        column = schema.column(i)
        # Leaves come in the order of the columns; a dot may part a struct from its field or be part of a name.
        while not f"{column.path}.".startswith(f"{names[0]}."):
            del names[0]
        name, inner = names[0], column.path[len(names[0]) + 1 :]
        stored = f"{inner} {_stored(column)}".lstrip()
        columns[name] = f"{columns[name]}, {stored}" if name in columns else stored
        if name == text_column:
            text_bytes = sum(about.row_group(g).column(i).total_compressed_size for g in range(about.num_row_groups))
    return Footer(columns, about.num_rows, text_bytes)


def _end_of(fs: FileSystem, path: str) -> bytes:
    """The end of a file, with all of its footer: mostly one read, because footers have some kilobytes."""
    end = fs.tail(path, _FOOTER_BYTES)
    size = int.from_bytes(end[-8:-4], "little") + 8  # the footer, its length, and PAR1
    longer = end.endswith(b"PAR1") and len(end) == _FOOTER_BYTES < size <= _MOST_BYTES
    return fs.tail(path, size) if longer else end


def _stored(column: pq.ColumnSchema) -> str:
    """A leaf's type; two types that Spark reads as one have one name, because writers differ in spelling them."""
    logical = json.loads(column.logical_type.to_json())
    kind = logical["Type"]
    if kind == "None":
        return "TIMESTAMP" if column.physical_type == "INT96" else str(column.physical_type)
    if kind == "Int":
        return f"{'' if logical['isSigned'] else 'U'}INT{logical['bitWidth']}"
    if kind == "Decimal":
        return f"DECIMAL({logical['precision']},{logical['scale']})"
    if kind == "Timestamp":
        zone = "" if logical["isAdjustedToUTC"] else " without time zone"
        return f"TIMESTAMP{zone}{' in ns' if logical['timeUnit'] == 'nanoseconds' else ''}"
    return str(kind).upper()


def read_footers(files: Sequence[str], read: Callable[[str], Footer]) -> dict[str, Footer | InputError]:
    """The footer of each file, or the error if it can't be read."""

    def one(path: str) -> Footer | InputError:
        try:
            return read(path)
        except InputError as error:
            return error

    with ThreadPoolExecutor(max_workers=8) as pool:
        return dict(zip(files, pool.map(one, files), strict=True))


def check_columns(footers: Mapping[str, Footer | InputError], needed: Sequence[str]) -> Columns:
    """The needed columns and their types, which every file must have alike.

    Raises:
        InputError: a file lacks a needed column, has it in another type than the first file, or could not be read.
    """
    first: tuple[str, Columns] | None = None
    for path, footer in footers.items():
        if isinstance(footer, InputError):
            raise footer
        missing = [c for c in needed if c not in footer.columns]
        if missing:
            others = column_names(footer.columns)
            raise InputError(
                f"{path} has no column {missing[0]}, its columns are {others}: correct the settings or the file"
            )
        if first is None:
            first = path, footer.columns
        for name in needed:
            if footer.columns[name] != first[1][name]:
                raise InputError(
                    f"{path} has column {name} as {footer.columns[name]}, {first[0]} as {first[1][name]}: "
                    "write both in one type"
                )
    return {name: first[1][name] for name in needed} if first else {}
