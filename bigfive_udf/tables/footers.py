"""Every Parquet file's footer, read before anything is scored.

Spark takes the schema from one file and reads a column that another file lacks as null: a renamed text column would
be scored as a partition of empty texts. So the columns are checked file by file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from bigfive_udf.errors import InputError

Columns = dict[str, str]
"""Top-level column -> its type, as the file stores it."""


def local_columns(path: str) -> Columns:
    """The columns of a Parquet file on a local disk.

    Raises:
        InputError: the file is no whole Parquet file, or can't be read.
    """
    try:
        schema = pq.read_metadata(path).schema
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} can't be read as Parquet ({_first_line(error)}): restore it or move it away"
        ) from None
    names = schema.to_arrow_schema().names
    columns: Columns = {}
    for i in range(len(schema)):
        column = schema.column(i)
        # Leaves come in the order of the columns; a dot may part a struct from its field or be part of a name.
        while not f"{column.path}.".startswith(f"{names[0]}."):
            del names[0]
        name, inner = names[0], column.path[len(names[0]) + 1 :]
        stored = f"{inner} {_stored(column)}".lstrip()
        columns[name] = f"{columns[name]}, {stored}" if name in columns else stored
    return columns


def _stored(column: pq.ColumnSchema) -> str:
    """A leaf's type, in one word for what Spark reads as one type: writers spell some types in two ways."""
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


def check_columns(files: Iterable[str], needed: Sequence[str], read: Callable[[str], Columns] = local_columns) -> None:
    """Make sure that every file has the needed columns, of one type.

    Raises:
        InputError: a file lacks one, has it in another type than the first file, or can't be read.
    """
    first: tuple[str, Columns] | None = None
    with ThreadPoolExecutor(max_workers=8) as pool:
        paths = list(files)
        for path, columns in zip(paths, pool.map(read, paths), strict=True):
            missing = [c for c in needed if c not in columns]
            if missing:
                others = ", ".join(columns)
                raise InputError(
                    f"{path} has no column {missing[0]}, its columns are {others}: correct the settings or the file"
                )
            if first is None:
                first = path, columns
            for name in needed:
                if columns[name] != first[1][name]:
                    raise InputError(
                        f"{path} has column {name} as {columns[name]}, {first[0]} as {first[1][name]}: "
                        "write both in one type"
                    )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:160]
