"""The input and the output of a report: a table that is only read, and two files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bigfive_udf.errors import InputError, OutputError, SettingsError
from bigfive_udf.settings.score import OutputSettings
from bigfive_udf.tables.failures import as_output_error
from bigfive_udf.tables.filesystem import FileSystem
from bigfive_udf.tables.ledger import Ledger
from bigfive_udf.tables.opening import make_table
from bigfive_udf.tables.score_table import ScoreTable, described


def page_maker() -> Callable[[Mapping[str, Any]], str]:
    """The function that makes a page from figures; its libraries are optional, since scoring does without them.

    Raises:
        SettingsError: a library is missing.
    """
    try:
        from bigfive_udf.reporting.page import page_of
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"the report needs {error.name}, which is not installed: pip install 'bigfive-udf[report]'"
        ) from None
    return page_of


def open_to_read(fs: FileSystem, path: str) -> tuple[ScoreTable, Ledger]:
    """The table at `path` and its ledger; nothing is locked or written, so a run may go on meanwhile.

    Raises:
        InputError: there is no table, or what lies beside it can't be read.
    """
    try:
        there = described(fs, path)
        if there is None or not fs.exists(path):
            raise InputError(
                f"table.path {path}: no score table is there; set it to output.path of the score job, beside which "
                f"{path.rstrip('/').rpartition('/')[2]}.job must lie"
            )
        kind, columns = there
        table = make_table(fs, path, OutputSettings(path=path, format=kind), columns)  # type: ignore[arg-type]
        return table, Ledger(fs, f"{table.job_path}/ledger")
    except FileNotFoundError:
        raise InputError(f"table.path {path} was changed by a run while it was read: make the report again") from None
    except OutputError as error:  # the table is the output of the score job, but the input here
        raise InputError(f"table.path {path} can't be read: {error}") from error


def write_report(fs: FileSystem, path: str, page: str, numbers: str) -> tuple[str, str]:
    """Write the page, and its numbers beside it; returns where both are.

    Raises:
        OutputError: they can't be written.
    """
    beside = (path[: -len(".html")] if path.endswith(".html") else path) + ".json"
    with as_output_error(path):
        fs.put(beside, numbers)
        fs.put(path, page)
    return path, beside
