"""How guides score texts on Spark: the documented recipe, and Spark's own predict_batch_udf.

The recipe follows the pandas-UDF guides for Hugging Face pipelines: an iterator pandas UDF, one pipeline per iterator,
texts in batches of 32, in the order of arrival. transformers' own guide advises against batches on a CPU, where padding
may cost more than they save, so the recipe is also measured text by text. All have one thread for each one-core task,
as our engine has, dynamic padding, truncation at the model's length and sigmoids. bf16 takes one more argument, which
guides for GPUs have and those for CPUs do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import Column
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.types import ArrayType, FloatType

from bigfive_udf.traits import TRAITS

BATCH_SIZE = 32


def recipe_udf(path: str, dtype: str = "float32", batch_size: int = BATCH_SIZE) -> Callable[[Column], Column]:
    """A column function: text -> struct of the five probabilities."""

    def recipe(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        import torch
        from transformers import pipeline

        torch.set_num_threads(1)
        classify = pipeline(
            "text-classification", model=path, device=-1, dtype=dtype, top_k=None, function_to_apply="sigmoid",
            truncation=True,
        )  # fmt: skip
        for batch in batches:
            answers: list[list[dict[str, Any]]] = classify(batch.tolist(), batch_size=batch_size)  # type: ignore[assignment]
            yield pd.DataFrame([{score["label"]: score["score"] for score in answer} for answer in answers])[
                list(TRAITS)
            ]

    recipe.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[pd.DataFrame]}
    returns = ",".join(f"{trait} float" for trait in TRAITS)
    udf: Callable[[Column], Column] = pandas_udf(recipe, returnType=returns)  # type: ignore[call-overload]
    return udf


def predict_batch(path: str) -> Callable[[Column], Column]:
    """A column function: text -> array of the five probabilities, by padded forward passes of `BATCH_SIZE` texts."""

    def make() -> Callable[[np.ndarray], np.ndarray]:
        import torch
        import transformers

        torch.set_num_threads(1)
        tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()

        @torch.inference_mode()
        def predict(texts: np.ndarray) -> np.ndarray:
            batch = tokenizer(list(map(str, texts)), padding=True, truncation=True, return_tensors="pt")
            return torch.sigmoid(model(**batch).logits).numpy()

        return predict

    udf: Callable[[Column], Column] = predict_batch_udf(make, return_type=ArrayType(FloatType()), batch_size=BATCH_SIZE)
    return udf
