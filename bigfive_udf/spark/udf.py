"""The public interface for notebooks and jobs: a column function, and a DataFrame with the score columns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pandas as pd
from pyspark import Accumulator
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from bigfive_udf.errors import InputError, SettingsError
from bigfive_udf.model import hardware
from bigfive_udf.model.artifact import Artifact, load_artifact
from bigfive_udf.model.evidence import evidence_of
from bigfive_udf.model.scores import ScoringOptions
from bigfive_udf.spark import machines, session
from bigfive_udf.spark.output.comments import label_fields, probability_fields
from bigfive_udf.spark.storage import quoted
from bigfive_udf.spark.workers.tally import Tally, tally_accumulator
from bigfive_udf.spark.workers.worker import RemoteModel, score_batches
from bigfive_udf.traits import (
    MODEL_FIELDS,
    PREDICTION_FIELDS,
    TEXT_FIELDS,
    TRAITS,
    UDF_FIELDS,
    Field,
    probability_column,
)

_STRUCT = "__bigfive"


@dataclass(frozen=True)
class SparkModel:
    """An artifact that is broadcast to the executors once, for all DataFrames that it scores."""

    artifact: Artifact
    placement: hardware.Placement
    remote: RemoteModel
    column: Callable[[Column | str], Column] = field(repr=False)

    @property
    def tally(self) -> Accumulator[Tally]:
        return self.remote.tally

    def close(self) -> None:
        """Free the executors' and the driver's copy of the broadcast."""
        self.remote.files.destroy()


def spark_model(
    spark: SparkSession,
    artifact: Artifact,
    *,
    options: ScoringOptions | None = None,
    device: str = "auto",
    precision: str = "auto",
    log_texts: bool = False,
) -> SparkModel:
    """Decide the precision for the executors at hand, pack the artifact in it, and broadcast it.

    Raises:
        SettingsError: the session is one of Spark Connect, or the executors lack what the settings ask for.
    """
    session.require_classic(spark)
    found = machines.executors_hardware(spark, device)
    placement = hardware.decide(device, precision, found)
    if placement.precision == "int8":
        artifact.check_int8_on(found)
    machines.warn_of_crowd(spark, placement.device)
    return model_at(spark, artifact, placement, options or artifact.options(), log_texts)


def model_at(
    spark: SparkSession,
    artifact: Artifact,
    placement: hardware.Placement,
    options: ScoringOptions,
    log_texts: bool = False,
) -> SparkModel:
    """Pack and broadcast an artifact for a placement that is known to suit the executors."""
    bundle = artifact.pack(placement.precision)
    context = spark.sparkContext
    remote = RemoteModel(
        digest=bundle.digest,
        files=context.broadcast(bundle.files),
        options=options,
        placement=placement,
        tally=tally_accumulator(context),
        log_texts=log_texts,
    )
    return SparkModel(artifact, placement, remote, _column_function(remote))


def score_udf(
    spark: SparkSession,
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    precision: str = "auto",
    options: ScoringOptions | None = None,
) -> Callable[[Column | str], Column]:
    """A column function: text -> struct of prob_<trait>, n_tokens, n_windows, truncated, status, status_reason.

        score = bigfive_udf.score_udf(spark, "models/default")
        df.select("id", score("text").alias("scores")).select("id", "scores.*")

    It is evaluated once per row, also where the result is filtered or used twice. `precision` auto is bf16 where every
    executor has it, else fp32 on CPUs and fp16 on GPUs; `options` are those of `Artifact.options`.

    Raises:
        ArtifactError: the model is missing, damaged or of the wrong kind.
        SettingsError: the executors lack `device` or `precision`, or the session is one of Spark Connect.
    """
    artifact = load_artifact(path)
    return spark_model(spark, artifact, device=device, precision=precision, options=options).column


def score_dataframe(
    df: DataFrame,
    path: str | os.PathLike[str],
    text_column: str = "text",
    *,
    device: str = "auto",
    precision: str = "auto",
    options: ScoringOptions | None = None,
) -> DataFrame:
    """The DataFrame with the score columns appended: probabilities, labels, token counts, status, model and precision.

    `device`, `precision` and `options` are those of `score_udf`.

    Raises:
        InputError: there is no such column, or it holds no strings.
        SettingsError: a column of the DataFrame has the name of a score column, or as for `score_udf`.
        ArtifactError: the model is missing, damaged or of the wrong kind.
    """
    session.require_classic(df.sparkSession)
    check_text_column(df, text_column)
    taken = {c.lower() for c in df.columns} & {f.name for f in PREDICTION_FIELDS}
    if taken:
        raise SettingsError(f"the DataFrame has a column {sorted(taken)[0]}, which scoring adds: drop or rename it")
    artifact = load_artifact(path)
    model = spark_model(df.sparkSession, artifact, device=device, precision=precision, options=options)
    return with_scores(df, model, text_column, artifact.thresholds)


def with_scores(
    df: DataFrame, model: SparkModel, text_column: str, thresholds: Mapping[str, float | None]
) -> DataFrame:
    """Append the columns of `PREDICTION_FIELDS`. A trait whose threshold is None gets a null label."""
    kept = [F.col(quoted(name)) for name in df.columns]
    scored = df.withColumn(_STRUCT, model.column(F.col(quoted(text_column))))
    constants = {"model_id": model.artifact.model_id, "precision": model.placement.precision}
    return scored.select(
        *kept,
        *[_described(F.col(f"{_STRUCT}.{f.name}"), f) for f in probability_fields([evidence_of(model.artifact)])],
        *label_columns(model.artifact, thresholds, f"{_STRUCT}."),
        *[_described(F.col(f"{_STRUCT}.{f.name}"), f) for f in TEXT_FIELDS],
        *[_described(F.lit(constants[f.name]), f) for f in MODEL_FIELDS],
    )


def label_columns(artifact: Artifact, thresholds: Mapping[str, float | None], prefix: str = "") -> list[Column]:
    """The label of every trait, computed from the probability columns; `prefix` precedes their names."""
    return [
        _described(label(F.col(f"{prefix}{probability_column(trait)}"), thresholds[trait]), f)
        for trait, f in zip(TRAITS, label_fields([evidence_of(artifact)], [thresholds]), strict=True)
    ]


def label(probability: Column, threshold: float | None) -> Column:
    """prob >= threshold, the FLOAT widened to double, so that SQL on the table agrees; null where prob is null."""
    if threshold is None:
        return F.lit(None).cast("boolean")
    return probability.cast("double") >= F.lit(float(threshold))


def check_text_column(df: DataFrame, text_column: str) -> None:
    if text_column not in df.columns:
        raise InputError(f"there is no column {text_column}; the columns are {', '.join(df.columns)}")
    found = df.schema[text_column].dataType.simpleString()
    if not found.startswith(("string", "varchar", "char")):
        raise InputError(f"the text column {text_column} is of type {found}, it must be string")


def _column_function(remote: RemoteModel) -> Callable[[Column | str], Column]:
    returns = "struct<" + ",".join(f"{f.name}:{f.sql_type}" for f in UDF_FIELDS) + ">"

    def bigfive_scores(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        return score_batches(remote, batches)

    # Postponed annotations are strings, which pyspark can't resolve for a nested function.
    bigfive_scores.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[pd.DataFrame]}
    # Nondeterministic, so that Spark evaluates it once, whatever the query around it.
    udf = pandas_udf(bigfive_scores, returnType=returns).asNondeterministic()  # type: ignore[call-overload]

    def column(text: Column | str) -> Column:
        return udf((F.col(text) if isinstance(text, str) else text).cast("binary"))

    return column


def _described(column: Column, about: Field) -> Column:
    return column.alias(about.name, metadata={"comment": about.comment})
