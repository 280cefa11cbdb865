"""Every Parquet file's footer, read before anything is scored.

Spark takes the schema from one file and reads a column that another file lacks as null: a renamed text column would
be scored as a partition of empty texts. So the columns are checked file by file.
"""

from __future__ import annotations

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
    columns: Columns = {}
    for i in range(len(schema)):
        column = schema.column(i)
        name, _, inner = column.path.partition(".")
        kind = column.logical_type.type if column.logical_type.type != "NONE" else column.physical_type
        stored = f"{column.physical_type} {kind}" if kind == "INT" else kind
        columns[name] = f"{columns[name]}, {inner} {stored}" if name in columns else stored
    return columns


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
