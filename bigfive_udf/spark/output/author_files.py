"""The view by author, computed once and kept in files, for tables on which every query of it would take minutes.

<output>.job/by_author/<sequence>-<run_id>/    the view's rows as Parquet; as long as trash is kept, so are the previous
                                               rows, for queries that still read them

The view then reads those files, so that a query finds the old rows or the new ones, whichever run wrote them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bigfive_udf.spark.output.catalog_statements import create_view
from bigfive_udf.spark.storage import as_uri, quoted
from bigfive_udf.tables.by_author import sequence_of
from bigfive_udf.tables.score_table import ScoreTable
from bigfive_udf.tables.views import View

OF = "bigfive.of"
"""The property of the view that says which state of the table its files were computed from."""


def keep_in_files(
    ask: Callable[[str], Any], name: str, view: View, table: ScoreTable, directory: str, properties: dict[str, str]
) -> None:
    """Compute the view, whose quoted name is `name`, into files and redefine it to read them.

    `directory` is the name that `by_author.directory_of` gives.
    """
    place = as_uri(table.fs, f"{table.job_path}/by_author/{directory}")
    ask(view.sql).write.mode("overwrite").parquet(place)
    ask(create_view(name, replace(view, sql=f"SELECT * FROM parquet.{quoted(place)}"), properties))


def forget_older(table: ScoreTable, keep: int) -> None:
    """Delete all computed rows but those of the last `keep` times; they do not go to the trash."""
    folder = f"{table.job_path}/by_author"
    names = sorted(table.fs.names(folder), key=sequence_of)
    for older in names[: max(0, len(names) - keep)]:
        table.fs.delete(f"{folder}/{older}")
