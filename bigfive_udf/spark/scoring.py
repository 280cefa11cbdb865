"""Corpus in, staged Parquet out: how the rows are spread over the tasks, scored and brought together again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from bigfive_udf.runs import Run
from bigfive_udf.settings.score import OutputSettings, ScoreSettings
from bigfive_udf.spark.corpus import Corpus
from bigfive_udf.spark.storage import quoted
from bigfive_udf.spark.udf import SparkModel, with_scores
from bigfive_udf.tables.partitions import Values, partition_name
from bigfive_udf.traits import FAILED, RUN_FIELDS, SCORE_FIELDS, STATUSES

# Rows of a task: enough to sort by length and to pay for its start, few enough that a lost one costs little, that
# progress is seen, and that no core is left with the last large task.
_TASK_ROWS = 1024
_LEAST_TASK_ROWS = 64
_TEXT = "__bigfive_text"


def score_table(
    corpus: Corpus,
    model: SparkModel,
    settings: ScoreSettings,
    thresholds: Mapping[str, float | None],
    rows: int,
    run: Run,
) -> DataFrame:
    """The rows of the score table, columns in its order, the partition columns last."""
    # The text is no column of the table, so its name may be anything, that of a score column too.
    columns = [F.col(quoted(c)) for c in (*settings.input.carried_columns, *corpus.layout.columns)]
    frame = corpus.frame.select(*columns, F.col(quoted(settings.input.text_column)).alias(_TEXT))
    spread = frame.repartition(task_count(rows, frame.sparkSession.sparkContext.defaultParallelism))
    scored = with_scores(spread, model, _TEXT, thresholds)
    microseconds = int(run.started.timestamp() * 1_000_000)
    constants = {"run_id": F.lit(run.run_id), "scored_at": F.timestamp_micros(F.lit(microseconds))}
    for f in RUN_FIELDS:
        scored = scored.withColumn(f.name, constants[f.name].alias(f.name, metadata={"comment": f.comment}))
    order = (*settings.input.carried_columns, *(f.name for f in SCORE_FIELDS), *corpus.layout.columns)
    return scored.select(*[F.col(quoted(c)) for c in order])


def task_count(rows: int, cores: int) -> int:
    """Spark partitions for so many rows: a multiple of the cores, so that none idles at the end."""
    if rows <= cores * _LEAST_TASK_ROWS:
        return max(1, math.ceil(rows / _LEAST_TASK_ROWS))
    return cores * math.ceil(rows / (cores * _TASK_ROWS))


def write_staged(scores: DataFrame, columns: tuple[str, ...], path: str, output: OutputSettings) -> None:
    """Write the scores below `path`, few files per partition and none much larger than the target."""
    spark = scores.sparkSession
    spark.conf.set("spark.sql.adaptive.advisoryPartitionSizeInBytes", str(output.target_file_mb << 20))
    # Rebalanced after scoring: all cores score to the end, whatever the partitions' sizes, and the files come out even.
    # In SQL, because DataFrame.hint takes column names in Spark 4 only.
    by = ", ".join(quoted(c).replace("{", "{{").replace("}", "}}") for c in columns)
    hint = f"REBALANCE({by})" if columns else "REBALANCE"
    whole = spark.sql(f"SELECT /*+ {hint} */ * FROM {{scores}}", scores=scores)
    whole.write.partitionBy(*columns).option("compression", output.compression).mode("error").parquet(path)


def staged_counts(spark: SparkSession, path: str, columns: tuple[str, ...]) -> dict[Values, dict[str, int]]:
    """What lies in staging, counted from the files: per partition the rows by status, tokens, windows, cut texts."""
    try:
        frame = spark.read.parquet(path)
    except AnalysisException as error:
        if "UNABLE_TO_INFER_SCHEMA" in str(error) or "PATH_NOT_FOUND" in str(error):
            return {}  # no rows, so no file to take a schema from
        raise
    sums: list[Any] = [F.count_if(F.col("status") == status).alias(status) for status in STATUSES]
    sums += [F.count("*").alias("documents"), F.count_if("truncated").alias("truncated")]
    sums += [F.coalesce(F.sum(c), F.lit(0)).alias(c) for c in ("n_tokens", "n_windows")]
    grouped = frame.groupBy(*[F.col(quoted(c)).cast("string").alias(c) for c in columns]).agg(*sums)
    names = [*STATUSES, "documents", "truncated", "n_tokens", "n_windows"]
    return {tuple(row[: len(columns)]): {n: int(row[n]) for n in names} for row in grouped.collect()}


def failed_partitions(
    columns: tuple[str, ...],
    rows: Mapping[Values, int],
    counts: Mapping[Values, Mapping[str, int]],
    max_failed_share: float,
) -> dict[Values, str]:
    """Partitions that must not be published, and why: rows lost or added, or too many that could not be scored."""
    failed = {}
    for values in {**rows, **counts}:
        name = partition_name(columns, values) or "the corpus"
        rows_in, found = rows.get(values, 0), counts.get(values, {})
        rows_out, rows_failed = found.get("documents", 0), found.get(FAILED, 0)
        if rows_in != rows_out:
            failed[values] = (
                f"{name}: {rows_in:,} rows in, {rows_out:,} out (did the input change meanwhile? run it again)"
            )
        elif rows_failed > max_failed_share * rows_out:
            failed[values] = (
                f"{name}: {rows_failed:,} of {rows_out:,} rows could not be scored, more than "
                f"max_failed_share {max_failed_share:g} allows"
            )
    return failed
