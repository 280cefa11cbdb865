"""Rows that the driver holds, as a DataFrame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame, SparkSession

_ARROW = "spark.sql.execution.arrow.pyspark.enabled"


def local_rows(spark: SparkSession, rows: Sequence[Sequence[Any]], columns: Mapping[str, str]) -> DataFrame:
    """A DataFrame of `rows`; `columns` maps the name of each column to its SQL type.

    The rows go through Arrow. For a plain list, Spark would map a function over it in a second kind of Python workers,
    beside those that score. Starting these takes seconds and 200 MB.
    """
    spark.conf.set(_ARROW, "true")
    frame = pd.DataFrame(list(rows), columns=list(columns), dtype=object)
    return spark.createDataFrame(frame, ", ".join(f"{name} {kind}" for name, kind in columns.items()))
