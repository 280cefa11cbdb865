"""The view by author, computed once and kept in files, for tables where every query would take minutes over it.

<output>.job/by_author/<run_id>/    its rows as Parquet; the one before is kept for its readers, as long as trash is

The view then reads those files, so that a query finds the old rows or the new ones, whichever run has made them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bigfive_udf.spark.output.catalog_statements import create_view
from bigfive_udf.spark.storage import as_uri, quoted
from bigfive_udf.tables.score_table import ScoreTable
from bigfive_udf.tables.views import View

OF = "bigfive.of"
"""The property of the view that says of which state of the table its files are."""


def keep_in_files(
    ask: Callable[[str], Any], name: str, view: View, table: ScoreTable, run_id: str, properties: dict[str, str]
) -> None:
    """Compute the view, whose quoted name is `name`, and let it read what was computed."""
    folder = f"{table.job_path}/by_author"
    place = as_uri(table.fs, f"{folder}/{run_id}")
    ask(view.sql).write.mode("overwrite").parquet(place)
    ask(create_view(name, replace(view, sql=f"SELECT * FROM parquet.{quoted(place)}"), properties))


def forget_older(table: ScoreTable, keep: int) -> None:
    """Remove for good what was computed before the last `keep` times."""
    folder = f"{table.job_path}/by_author"
    names = table.fs.names(folder)
    for older in names[: max(0, len(names) - keep)]:
        table.fs.delete(f"{folder}/{older}")
