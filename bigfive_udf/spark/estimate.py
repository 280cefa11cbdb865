"""What a plan would cost: tokens and hours, from what the ledger remembers, or else from a short calibration."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import SparkSession

from bigfive_udf.model import hardware
from bigfive_udf.settings.score import ScoreSettings
from bigfive_udf.spark.planning import Planned, Scoring
from bigfive_udf.spark.reading import Readable
from bigfive_udf.spark.session import executors_hardware
from bigfive_udf.tables.ledger import Entry

_SAMPLE = 400
_RECENT = 200


@dataclass(frozen=True)
class Rates:
    """Documents a second of the whole job, tokens of a document, and where they are from."""

    documents_per_second: float
    tokens_per_document: float
    source: str


def remembered(entries: Mapping[str, Entry]) -> Rates | None:
    """The rates of the partitions that were committed last; None where there are none."""
    recent = sorted(entries.values(), key=lambda e: e.sequence)[-_RECENT:]
    timed = [e for e in recent if e.seconds > 0 and e.documents]
    if not timed:
        return None
    documents, seconds = sum(e.documents for e in timed), sum(e.seconds for e in timed)
    tokens = sum(e.n_tokens for e in timed)
    return Rates(documents / seconds, tokens / documents, f"the ledger's last {len(timed):,} partitions")


def rates_of(spark: SparkSession, settings: ScoreSettings, work: Planned) -> Rates | None:
    """How fast the plan would go; None where there is nothing to score."""
    if work.readable is None:
        return None
    return remembered(work.entries) or _calibrated(spark, settings, work.readable, work.scoring)


def _calibrated(spark: SparkSession, settings: ScoreSettings, readable: Readable, scoring: Scoring) -> Rates | None:
    """Score a few hundred of the texts in this process, on one core; None where there are none."""
    texts = readable.sample(settings.input.text_column, _SAMPLE)
    if not texts:
        return None
    found = executors_hardware(spark, settings.model.device)
    placement = hardware.decide(settings.model.device, settings.model.precision, found)
    hardware.use_threads(1)
    scorer = scoring.artifact.scorer(placement, scoring.options)
    scorer.score(texts[:16])  # the first batch pays for what is done once
    started = time.perf_counter()
    scores = scorer.score(texts)
    seconds = time.perf_counter() - started
    cores = spark.sparkContext.defaultParallelism
    tokens = float(scores.n_tokens.clip(min=0).sum()) / len(texts)
    return Rates(len(texts) / seconds * cores, tokens, f"{len(texts)} texts scored on one core, times {cores} cores")
