"""Counting the rows of a table for its report; whatever its size, the driver receives only small results."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from bigfive_udf.errors import InputError
from bigfive_udf.reporting.bins import BINS, EDGES, TAIL
from bigfive_udf.reporting.counts import LENGTHS, Counts, groups_for
from bigfive_udf.spark.failures import spark_failures
from bigfive_udf.spark.local_rows import local_rows
from bigfive_udf.spark.output.stored import stored_rows
from bigfive_udf.spark.storage import quoted
from bigfive_udf.tables.ledger import Entry
from bigfive_udf.tables.partitions import GROUP
from bigfive_udf.tables.score_table import ScoreTable
from bigfive_udf.traits import SCORED, STATUSES, TRAITS, label_column, probability_column

_MOST_REASONS = 10
_PART, _SIDE, _AUTHOR = "__bigfive_part", "__bigfive_side", "__bigfive_author"
_HISTOGRAMS = f"""
SELECT {_PART} AS part, {_SIDE} AS side, {_AUTHOR} AS author, trait, bin, count(*) AS texts
FROM (SELECT {_PART}, {_SIDE}, {_AUTHOR}, posexplode(bins) AS (trait, bin) FROM {{rows}})
WHERE bin IS NOT NULL GROUP BY GROUPING SETS (({_PART}, trait, bin), ({_SIDE}, {_AUTHOR}, trait, bin))
"""


@spark_failures(
    "a file of the table can't be read ({reason}): a run has replaced it meanwhile, so make the report again; where "
    "that says the same, the file is damaged: score its partition again (--partition ... --rescore)"
)
def count_rows(
    spark: SparkSession,
    table: ScoreTable,
    entries: Sequence[Entry],
    sides: tuple[Sequence[Entry], Sequence[Entry]],
    shown: Sequence[Entry],
    author_column: str | None,
) -> Counts:
    """Count the rows of these partitions.

    `sides` are the partitions of the reference and those that are judged against it. `shown` are the partitions whose
    texts without a score are to be explained.

    Raises:
        InputError: the table has no such author column, does not hold what the ledger says, or can't be read.
    """
    groups = groups_for(len(entries)) if author_column is not None else 1
    rows = stored_rows(spark, table, entries)
    if rows is None:
        return _checked(entries, _filled(len(entries), groups, pd.DataFrame(), pd.DataFrame(), ()))
    if author_column is not None and author_column not in rows.columns:
        raise InputError(
            f"table.author_column {author_column}: the table has no such column; its columns are "
            f"{', '.join(c for c in rows.columns if not c.startswith('__bigfive'))}"
        )
    spark.conf.set("spark.sql.execution.arrow.pyspark.enabled", "true")
    numbered = _numbered(spark, rows, table.columns or (GROUP,), entries, sides)
    about = numbered.withColumn(_AUTHOR, _author_group(author_column, next(iter(entries[-1].columns), None), groups))
    by_part = _collected(about.groupBy(_PART, _AUTHOR).agg(*_sums()))
    # One pass for both: a row counts in its partition and, if that is on a side, in its author's group.
    binned = about.select(
        _PART, _SIDE, _AUTHOR, F.array(*[_bin(F.col(probability_column(t))) for t in TRAITS]).alias("bins")
    )
    histograms = _collected(spark.sql(_HISTOGRAMS, rows=binned))
    names = {e.partition for e in shown}
    numbers = [i for i, e in enumerate(entries) if e.partition in names]
    return _checked(entries, _filled(len(entries), groups, by_part, histograms, _reasons(about, by_part, numbers)))


def _collected(frame: DataFrame) -> pd.DataFrame:
    with warnings.catch_warnings():
        # If the query fails, PySpark prints its whole stack trace as a warning, and then raises the error.
        warnings.filterwarnings("ignore", "toPandas attempted Arrow", UserWarning)
        return frame.toPandas()


def _checked(entries: Sequence[Entry], counts: Counts) -> Counts:
    """The counts, after a check that every partition has as many rows as the ledger says."""
    for entry, n in zip(entries, counts.documents.tolist(), strict=True):
        if n != entry.documents:
            raise InputError(
                f"{entry.partition} holds {n:,} rows, by the ledger {entry.documents:,}: a run has replaced it since,"
                " so make the report again; or somebody has changed it, and the next run of the score job mends it"
            )
    return counts


def _numbered(
    spark: SparkSession,
    rows: DataFrame,
    keys: Sequence[str],
    entries: Sequence[Entry],
    sides: tuple[Sequence[Entry], Sequence[Entry]],
) -> DataFrame:
    """The rows with the index of their partition in `entries`, and the index of its side."""
    names = [{e.partition for e in side} for side in sides]
    known: list[tuple[Any, ...]] = [
        (i, next((s for s, side in enumerate(names) if e.partition in side), None), *e.values.values())
        for i, e in enumerate(entries)
    ]
    columns = [f"__bigfive_key_{i}" for i in range(len(keys))]
    parts = local_rows(spark, known, {_PART: "int", _SIDE: "int", **dict.fromkeys(columns, "string")})
    same = F.lit(True)
    for key, column in zip(keys, columns, strict=True):
        same &= F.col(quoted(key)).cast("string").eqNullSafe(F.col(column))
    return rows.join(F.broadcast(parts), same, "inner")


def _author_group(author_column: str | None, id_column: str | None, groups: int) -> Column:
    """The group of authors that a row belongs to; a text without an author counts as an author of its own."""
    if author_column is None:
        return F.lit(0)
    whose = F.col(quoted(author_column)).cast("string")
    if id_column is not None and id_column != author_column:
        whose = F.coalesce(whose, F.col(quoted(id_column)).cast("string"))
    return F.pmod(F.xxhash64(whose), F.lit(groups)).cast("int")


def _sums() -> list[Column]:
    tokens = F.col("n_tokens")
    found = [
        F.count("*").alias("documents"),
        *(F.count_if(F.col("status") == status).alias(status) for status in STATUSES),
        F.count_if("truncated").alias("truncated"),
        F.sum(tokens.cast("long")).alias("tokens"),
        F.max(tokens).alias("longest"),
        F.sum(F.col("n_windows").cast("long")).alias("windows"),
    ]
    for i, (low, high) in enumerate(zip(LENGTHS, (*LENGTHS[1:], None), strict=True)):
        within = (tokens >= low) if high is None else (tokens >= low) & (tokens < high)
        found.append(F.count_if(within).alias(f"length_{i}"))
    for i, trait in enumerate(TRAITS):
        label, probability = F.col(label_column(trait)), F.col(probability_column(trait)).cast("double")
        found += [
            F.count(label).alias(f"labels_{i}"),
            F.count_if(label).alias(f"positive_{i}"),
            F.sum(probability).alias(f"sums_{i}"),
            F.count(probability).alias(f"scores_{i}"),
        ]
    return found


def _bin(probability: Column) -> Column:
    """The number of a probability's bin, null for null: `numpy.searchsorted(EDGES, p, side="right")`."""
    p = probability.cast("double")

    def passed(edges: np.ndarray) -> Column:
        total = F.lit(0)
        for edge in edges:
            total += (p >= float(edge)).cast("int")
        return total

    n = len(TAIL)
    return (
        F.when(p < 0.01, passed(EDGES[:n]))
        # Exact: a FLOAT is a hundredth itself (0.25, 0.5, 0.75) or too far from one for the product to round to it.
        .when(p < 0.99, F.floor(p * 100).cast("int") + n)
        .otherwise(passed(EDGES[-n:]) + n + 99)
    )


def _reasons(rows: DataFrame, by_part: pd.DataFrame, numbers: list[int]) -> tuple[tuple[str, str, int], ...]:
    """Why texts of some partitions have no score, without any text that an error may have quoted.

    If all texts have a score, the rows are not read.
    """
    own = by_part[by_part[_PART].isin(numbers)]
    if own["documents"].sum() == own[SCORED].sum():
        return ()
    rows = rows.where(F.col(_PART).isin(numbers))
    reason = F.substring_index(F.coalesce("status_reason", F.lit("")), ":", 2)
    counted = rows.where(F.col("status") != SCORED).groupBy("status", reason.alias("reason")).count()
    found = counted.orderBy(F.desc("count"), "status", "reason").limit(_MOST_REASONS).collect()
    return tuple((str(row["status"]), str(row["reason"]), int(row[2])) for row in found)


def _filled(
    n: int, groups: int, by_part: pd.DataFrame, histograms: pd.DataFrame, reasons: tuple[tuple[str, str, int], ...]
) -> Counts:
    """The counts as arrays."""

    def each(name: str, kind: Any = np.int64) -> np.ndarray:
        """(n, groups)"""
        made = np.zeros((n, groups), kind)
        if len(by_part):
            made[by_part[_PART], by_part[_AUTHOR]] = by_part[name].fillna(0)
        return made

    def several(name: str, count: int, kind: Any = np.int64) -> np.ndarray:
        return np.stack([each(f"{name}_{i}", kind) for i in range(count)], -1)

    bins = np.zeros((n, len(TRAITS), BINS), np.int64)
    by_group = np.zeros((2, groups, len(TRAITS), BINS), np.int64)
    if len(histograms):
        whole = histograms[histograms["part"].notna()]
        bins[tuple(whole[c].astype(int) for c in ("part", "trait", "bin"))] = whole["texts"]
        own = histograms[histograms["side"].notna()]
        by_group[tuple(own[c].astype(int) for c in ("side", "author", "trait", "bin"))] = own["texts"]
    return Counts(
        documents=each("documents").sum(1),
        statuses=np.stack([each(status).sum(1) for status in STATUSES], -1),
        truncated=each("truncated").sum(1),
        tokens=each("tokens").sum(1),
        longest=each("longest").max(1),
        windows=each("windows").sum(1),
        lengths=several("length", len(LENGTHS)).sum(1),
        labels=several("labels", len(TRAITS)).sum(1),
        positive=several("positive", len(TRAITS)).sum(1),
        sums=several("sums", len(TRAITS), float),
        scores=several("scores", len(TRAITS)),
        bins=bins,
        by_group=by_group,
        reasons=reasons,
    )
