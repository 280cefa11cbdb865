"""Rows that the driver holds, as a DataFrame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame, SparkSession

_ARROW = "spark.sql.execution.arrow.pyspark.enabled"


def local_rows(spark: SparkSession, rows: Sequence[Sequence[Any]], columns: Mapping[str, str]) -> DataFrame:
    """A DataFrame of `rows`; `columns` are the names and SQL types of their values.

    By way of Arrow: over a plain list Spark maps a function, in Python workers of another kind than those that score,
    which take seconds to start and 200 MB.
    """
    spark.conf.set(_ARROW, "true")
    frame = pd.DataFrame(list(rows), columns=list(columns), dtype=object)
    return spark.createDataFrame(frame, ", ".join(f"{name} {kind}" for name, kind in columns.items()))
