"""Replacing ids and authors by pseudonyms on the executors, before the rows are shuffled for the first time.

The key travels inside the function, like the function's code. Spark would show a literal in its plans, its UI and its
event log, and write a Python broadcast to disk. Of a function it shows only the name.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from pyspark.sql import Column
from pyspark.sql.pandas.functions import pandas_udf

from bigfive_udf.pseudonyms import pseudonym


def pseudonym_column(key: bytes) -> Callable[[Column], Column]:
    """A column function: strings or whole numbers -> their pseudonyms, null for null."""

    def bigfive_pseudonym(values: pd.Series) -> pd.Series:
        return values.map(lambda value: None if value is None else pseudonym(bytes(value), key))

    # Postponed annotations are strings, which pyspark can't resolve for a nested function.
    bigfive_pseudonym.__annotations__ = {"values": pd.Series, "return": pd.Series}
    udf = pandas_udf(bigfive_pseudonym, returnType="string")  # type: ignore[call-overload]
    # As bytes, like the texts: a value that is not valid UTF-8 has a pseudonym too.
    return lambda column: udf(column.cast("string").cast("binary"))
