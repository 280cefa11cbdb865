"""The documented recipe: an iterator pandas UDF around a transformers pipeline, batch 32.

It follows the pandas-UDF guides for Hugging Face pipelines on Spark: one pipeline per iterator, texts in batches of
32. It gets what we get: one thread for each one-core task, dynamic padding, truncation at the model's length, sigmoids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
from pyspark.sql import Column
from pyspark.sql.pandas.functions import pandas_udf

from bigfive_udf.traits import TRAITS

BATCH_SIZE = 32


def recipe_udf(path: str) -> Callable[[Column], Column]:
    """A column function: text -> struct of the five probabilities."""

    def recipe(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        import torch
        from transformers import pipeline

        torch.set_num_threads(1)
        classify = pipeline(
            "text-classification", model=path, device=-1, top_k=None, function_to_apply="sigmoid", truncation=True
        )
        for batch in batches:
            answers: list[list[dict[str, Any]]] = classify(batch.tolist(), batch_size=BATCH_SIZE)  # type: ignore[assignment]
            yield pd.DataFrame([{score["label"]: score["score"] for score in answer} for answer in answers])[
                list(TRAITS)
            ]

    recipe.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[pd.DataFrame]}
    returns = ",".join(f"{trait} float" for trait in TRAITS)
    udf: Callable[[Column], Column] = pandas_udf(recipe, returnType=returns)  # type: ignore[call-overload]
    return udf
