"""From the corpus to staged Parquet: rows are spread over tasks, scored, and brought together by partition."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from bigfive_udf.model.artifact import Artifact
from bigfive_udf.runs import Run
from bigfive_udf.settings.score import OutputSettings, ScoreSettings
from bigfive_udf.spark.job.pseudonymise import pseudonym_column
from bigfive_udf.spark.storage import quoted
from bigfive_udf.spark.udf import SparkModel, label_columns, with_scores
from bigfive_udf.tables.partitions import GROUP, Values
from bigfive_udf.traits import FAILED, LABEL_FIELDS, PREDICTION_FIELDS, RUN_FIELDS, STATUSES


@dataclass(frozen=True)
class TaskSize:
    """Limits of a task in rows and in bytes of text as the corpus's files hold it; the one reached first counts."""

    rows: int
    bytes: int


# Large enough to sort by length and to pay for the start of a task, which takes milliseconds. Small enough that a lost
# task costs only a minute or two, that progress is seen, and that no core is left alone with the last task.
_TASK = {"cpu": TaskSize(1024, 128 << 10), "cuda": TaskSize(65536, 8 << 20)}
_LEAST_TASK = TaskSize(64, 16 << 10)
# Per step: Spark's driver keeps data about each task, and each task has a block in every file of the shuffle.
_MOST_TASKS = 100_000
_TEXT = "__bigfive_text"
_HASHED = re.compile(
    r"string|(var)?char\(\d+\)|(tiny|small|big)?int|decimal\(\d+,\d+\)|float|double|boolean|binary|date|timestamp(_ntz)?"
)
"""Types of columns by which rows without a text are spread."""
_KEY = "__bigfive_key_"


def scores_of(
    rows: DataFrame,
    model: SparkModel,
    settings: ScoreSettings,
    thresholds: Mapping[str, float | None],
    keys: Sequence[str],
    tasks: int,
    run: Run,
    pseudonym_key: bytes | None = None,
) -> DataFrame:
    """The rows of the score table with the columns in its order; last come the partition columns, `keys`."""
    hashed = pseudonym_column(pseudonym_key) if pseudonym_key is not None else None
    names = settings.input.pseudonymised_columns
    carried = [
        hashed(F.col(quoted(c))).alias(c) if hashed and c in names else F.col(quoted(c))
        for c in settings.input.carried_columns
    ]
    columns = [*carried, *[F.col(quoted(c)) for c in keys]]
    # The text is not a column of the table, so its column may have any name, also the name of a score column.
    frame = rows.select(*columns, F.col(quoted(settings.input.text_column)).alias(_TEXT))
    together = same_together(frame, tasks, _TEXT, model.placement.device)
    scored = with_scores(together, model, _TEXT, thresholds)
    order = (*settings.input.carried_columns, *(f.name for f in PREDICTION_FIELDS))
    return scored.select(*[F.col(quoted(c)) for c in order], *run_columns(run), *[F.col(quoted(c)) for c in keys])


def same_together(frame: DataFrame, tasks: int, column: str, device: str) -> DataFrame:
    """Rows in so many Spark partitions; rows with equal texts are in one task, where a worker scores the text once.

    Rows without a text have no scores to share: they are spread by their other columns, or all would be in one task.
    A GPU's task is larger than what a worker gathers at a time, so there equal texts are also side by side. The order
    is that of a hash: sorted by text, the table's row order would tell something of the texts.
    """
    others = [F.col(quoted(name)) for name, kind in frame.dtypes if name != column and _HASHED.fullmatch(kind)]
    text = F.col(quoted(column))
    apart = [F.when(~F.coalesce(text, F.lit("")).rlike(r"\S"), F.xxhash64(*others))] if others else []
    spread = frame.repartition(tasks, text, *apart)
    return spread.sortWithinPartitions(F.xxhash64(column)) if device == "cuda" else spread


def relabelled(
    rows: DataFrame,
    artifact: Artifact,
    thresholds: Mapping[str, float | None],
    carried: Sequence[str],
    keys: Sequence[str],
    run: Run,
) -> DataFrame:
    """Rows of the table with their labels computed again from the stored probabilities."""
    labels = dict(zip((f.name for f in LABEL_FIELDS), label_columns(artifact, thresholds), strict=True))
    order = (*carried, *(f.name for f in PREDICTION_FIELDS))
    columns = [labels[c] if c in labels else F.col(quoted(c)) for c in order]
    return rows.select(*columns, *run_columns(run), *[F.col(quoted(c)) for c in keys])


def run_columns(run: Run) -> list[Column]:
    """The columns of `RUN_FIELDS`."""
    microseconds = int(run.started.timestamp() * 1_000_000)
    constants = {"run_id": F.lit(run.run_id), "scored_at": F.timestamp_micros(F.lit(microseconds))}
    return [constants[f.name].alias(f.name, metadata={"comment": f.comment}) for f in RUN_FIELDS]


def task_count(rows: int, size: int, cores: int, device: str) -> int:
    """Spark partitions for so many rows with `size` bytes of text: a multiple of the cores, so that no core must wait.

    Long texts make more tasks than short ones do. Compressed bytes tell how much work there is: files are compressed
    about alike, and repeated texts, which cost nothing, compress best.
    """
    task, least = _TASK[device], _LEAST_TASK
    most = max(1, min(rows, math.ceil(max(rows / least.rows, size / least.bytes))))
    waves = math.ceil(max(rows / task.rows, size / task.bytes) / cores)
    return min(most, cores * max(1, min(waves, _MOST_TASKS // cores)))


def staged_keys(keys: Sequence[str], kept_in_files: bool) -> tuple[str, ...]:
    """The columns that name the staging directories: copies of `keys` where the files must hold `keys` themselves."""
    return tuple(f"{_KEY}{c}" for c in keys) if kept_in_files and tuple(keys) != (GROUP,) else tuple(keys)


def write_staged(
    scores: DataFrame, keys: tuple[str, ...], path: str, output: OutputSettings, kept_in_files: bool
) -> None:
    """Write the scores below `path`, with a directory for each partition, named by the columns of `staged_keys`.

    Few files per partition, and none much larger than the target; a group of files becomes one file.
    """
    spark = scores.sparkSession
    by = staged_keys(keys, kept_in_files)
    for key, column in zip(by, keys, strict=True):
        if key != column:
            scores = scores.withColumn(key, F.col(quoted(column)))
    if keys == (GROUP,):
        whole = scores.repartition(F.col(GROUP))
    else:
        spark.conf.set("spark.sql.adaptive.advisoryPartitionSizeInBytes", str(output.target_file_mb << 20))
        # Rebalanced after scoring: all cores score to the end, however unequal the partitions; files get even sizes.
        # In SQL, because DataFrame.hint takes column names in Spark 4 only.
        names = ", ".join(quoted(c).replace("{", "{{").replace("}", "}}") for c in by)
        whole = spark.sql(f"SELECT /*+ REBALANCE({names}) */ * FROM {{scores}}", scores=scores)
    whole.write.partitionBy(*by).option("compression", output.compression).mode("error").parquet(path)


def staged_counts(spark: SparkSession, path: str, keys: tuple[str, ...]) -> dict[Values, dict[str, int]]:
    """Counts from the staged files, by partition: rows in all and by status, tokens, windows, texts cut."""
    try:
        frame = spark.read.parquet(path)
    except AnalysisException as error:
        if "UNABLE_TO_INFER_SCHEMA" in str(error) or "PATH_NOT_FOUND" in str(error):
            return {}  # no rows, so no file to take a schema from
        raise
    sums: list[Any] = [F.count_if(F.col("status") == status).alias(status) for status in STATUSES]
    sums += [F.count("*").alias("documents"), F.count_if("truncated").alias("truncated")]
    sums += [F.coalesce(F.sum(c), F.lit(0)).alias(c) for c in ("n_tokens", "n_windows")]
    grouped = frame.groupBy(*[F.col(quoted(c)).cast("string").alias(c) for c in keys]).agg(*sums)
    names = [*STATUSES, "documents", "truncated", "n_tokens", "n_windows"]
    return {tuple(row[: len(keys)]): {n: int(row[n]) for n in names} for row in grouped.collect()}


def why_not(name: str, rows_in: int, counts: Mapping[str, int], max_failed_share: float) -> str | None:
    """The reason not to publish a partition: rows were lost or added, or too many could not be scored; else None."""
    rows_out, rows_failed = counts.get("documents", 0), counts.get(FAILED, 0)
    if rows_in != rows_out:
        return f"{name}: {rows_in:,} rows in, {rows_out:,} out (did the input change meanwhile? run it again)"
    if rows_failed > max_failed_share * rows_out:
        return (
            f"{name}: {rows_failed:,} of {rows_out:,} rows could not be scored, more than "
            f"max_failed_share {max_failed_share:g} allows"
        )
    return None
