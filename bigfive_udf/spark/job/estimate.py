"""What a plan would cost, in tokens and hours: estimated from the ledger, or else from a short calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from bigfive_udf.model import hardware
from bigfive_udf.model.hardware import Placement
from bigfive_udf.settings.score import ScoreSettings
from bigfive_udf.spark.input.readable import Readable
from bigfive_udf.spark.job.planning import Planned, Scoring
from bigfive_udf.spark.local_rows import local_rows
from bigfive_udf.spark.machines import cores, executors_hardware, is_local, slots
from bigfive_udf.spark.udf import SparkModel, model_at
from bigfive_udf.tables.fingerprint import ScoreRecipe
from bigfive_udf.tables.ledger import Entry

_SAMPLE = {"cpu": 400, "cuda": 4_000}
"""Texts of a calibration, by device: a GPU needs many to be busy."""
_CHARACTERS = 100_000
"""Of a longer text only the beginning is scored in a calibration."""
_WARM_UP = 16
"""Texts of a warm-up, which pays for everything that is done only once."""
_RECENT = 200


@dataclass(frozen=True)
class Rates:
    """Documents per second of the whole job, tokens per document, and where these numbers are from."""

    documents_per_second: float
    tokens_per_document: float
    source: str


def remembered(entries: Mapping[str, Entry], recipe: ScoreRecipe, placement: Placement, n_cores: int) -> Rates | None:
    """The rates of the partitions that were scored last as they would be now: by this model, with these settings.

    Where some were in this precision, only these count. CPU cores are taken to be alike: the rate is reckoned for
    `n_cores`. What GPUs did is taken as it is. None where no such partition has a time.
    """
    like = [
        e
        for e in entries.values()
        if e.seconds > 0 and e.documents and e.model_id == recipe.model_id and e.settings == recipe.settings
        and e.device in ("", placement.device)
    ]  # fmt: skip
    same = [e for e in like if e.precision == placement.precision] or like
    recent = sorted(same, key=lambda e: e.sequence)[-_RECENT:]
    if not recent:
        return None
    documents, tokens = sum(e.documents for e in recent), sum(e.n_tokens for e in recent)
    source = f"the last {len(recent):,} partition{'s' * (len(recent) > 1)} that this model has scored"
    share = [e.cores / n_cores if e.cores and placement.device == "cpu" else 1.0 for e in recent]
    if any(s != 1.0 for s in share):
        source += f", reckoned for {n_cores} cores"
    seconds = sum(e.seconds * s for e, s in zip(recent, share, strict=True))
    return Rates(documents / seconds, tokens / documents, source)


def rates_of(spark: SparkSession, settings: ScoreSettings, work: Planned) -> Rates | None:
    """How fast the plan would go; None where there is nothing to score."""
    if work.readable is None:
        return None
    found = executors_hardware(spark, settings.model.device)
    placement = hardware.decide(settings.model.device, settings.model.precision, found)
    if placement.precision == "int8":
        work.scoring.artifact.check_int8_on(found)
    rates = remembered(work.entries, work.scoring.recipe, placement, cores(spark))
    return rates or _calibrated(spark, settings, work.readable, work.scoring, placement)


def _calibrated(
    spark: SparkSession, settings: ScoreSettings, readable: Readable, scoring: Scoring, placement: Placement
) -> Rates | None:
    """The rates, measured by scoring some texts in one task on the executors; None where there are no texts."""
    texts = readable.sample(settings.input.text_column, _SAMPLE[placement.device], _CHARACTERS)
    if not texts:
        return None
    model = model_at(spark, scoring.artifact, placement, scoring.options)
    # The warm-up also lays out a GPU's memory, so there it needs batches as large as those that follow.
    _scored(spark, model, texts if placement.device == "cuda" else texts[:_WARM_UP])
    seconds, tokens = _scored(spark, model, texts)
    model.close()
    at_once = _at_once(spark, placement.device)
    source = f"{len(texts)} texts scored by one task, times {at_once} tasks at once"
    return Rates(len(texts) / seconds * at_once, tokens / len(texts), source)


def _scored(spark: SparkSession, model: SparkModel, texts: Sequence[str]) -> tuple[float, int]:
    """The seconds that a task's worker takes for texts, and their tokens."""
    before = model.tally.value.effort
    frame = local_rows(spark, [[text] for text in texts], {"text": "string"}).repartition(1)
    scores = frame.select(model.column("text").alias("s")).select("s.n_tokens")
    tokens = scores.agg(F.sum(F.greatest("n_tokens", F.lit(0)))).collect()[0][0]
    effort = model.tally.value.effort - before
    tokenizing, computing = effort.tokenize_seconds, effort.model_seconds
    # In a run, a GPU's task has several times as many texts, and tokenizes the next ones while the GPU computes.
    spent = max(tokenizing, computing) if model.placement.device == "cuda" else tokenizing + computing
    return spent, int(tokens)


def _at_once(spark: SparkSession, device: str) -> int:
    """How many tasks compute at once; on GPUs in local mode no more than there are GPUs, which workers share."""
    if device == "cuda" and is_local(spark):
        import torch

        return min(slots(spark), torch.cuda.device_count())
    return slots(spark)
