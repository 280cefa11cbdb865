"""Big Five personality traits of millions of texts, every night.

    bigfive_udf.load_artifact(path).predict(texts)                 # a list of texts -> pandas, no Spark
    bigfive_udf.score_dataframe(df, path, text_column="text")      # Spark DataFrame -> Spark DataFrame
    bigfive_udf.score_udf(spark, path)                             # a column function for select and withColumn

Importing this package loads neither torch nor pyspark; the functions do, when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bigfive_udf.model.artifact import load_artifact
    from bigfive_udf.spark.udf import score_dataframe, score_udf

__version__ = "0.1.0"
__all__ = ["__version__", "load_artifact", "score_dataframe", "score_udf"]

_HOME = {
    "load_artifact": "bigfive_udf.model.artifact",
    "score_dataframe": "bigfive_udf.spark.udf",
    "score_udf": "bigfive_udf.spark.udf",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
