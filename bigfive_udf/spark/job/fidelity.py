"""Whether a reduced precision is exact enough for a corpus: some of its texts are scored in it and in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from pyspark.sql import SparkSession

from bigfive_udf.errors import ArtifactError, InputError, RefusedError, SettingsError
from bigfive_udf.model.fidelity import Fidelity, compare
from bigfive_udf.model.hardware import Placement, more_exact
from bigfive_udf.model.scores import SHARED
from bigfive_udf.settings.score import ScoreSettings
from bigfive_udf.spark import machines
from bigfive_udf.spark.failures import spark_failures
from bigfive_udf.spark.input.columns import TableColumns
from bigfive_udf.spark.input.readable import Readable
from bigfive_udf.spark.job.planning import Planned
from bigfive_udf.spark.local_rows import local_rows
from bigfive_udf.spark.udf import SparkModel, model_at, spark_model
from bigfive_udf.spark.workers.tally import Tally
from bigfive_udf.tables.plan import Task
from bigfive_udf.traits import PROBABILITY_FIELDS, TRAITS

# Texts to compare: a twentieth of the run, within these bounds. A share of flips near the limit needs more texts.
_FEWEST, _MOST = 256, 1024
_PARTITIONS = 8
# Only the beginnings of the texts are compared: whole texts would take longer than some runs do.
_CHARACTERS = 2000


def faithful_model(
    spark: SparkSession, settings: ScoreSettings, work: Planned, model: SparkModel
) -> tuple[SparkModel, list[Fidelity]]:
    """The model in its given precision, or in a more exact one where too many labels would flip.

    Also returns what was measured, in the order of the attempts; nothing is measured for fp32. A model that is not used
    is closed.
    """
    found: list[Fidelity] = []
    if model.placement.precision == "fp32" or work.readable is None:
        return model, found
    texts, right = _in_fp32(spark, settings, model, work.readable, work.documents)
    options, log_texts, thresholds = model.remote.options, model.remote.log_texts, work.scoring.recipe.thresholds
    while model.placement.precision != "fp32":
        difference = compare(_probabilities(spark, model, texts), right, thresholds, model.placement.precision)
        found.append(difference)
        if _allowed(difference, settings):
            break
        model.close()
        better = more_exact(model.placement, machines.executors_hardware(spark, model.placement.device))
        model = model_at(spark, model.artifact, better, options, log_texts)
    return model, found


def check_relabelling(spark: SparkSession, settings: ScoreSettings, work: Planned) -> list[Fidelity]:
    """Measure how many labels the new thresholds flip for rows that the table has in a reduced precision.

    Which labels flip depends on the thresholds: the measurement made when the rows were scored tells nothing of others.

    Raises:
        RefusedError: too many labels would differ from those in fp32, or their share can't be measured here.
    """
    found: list[Fidelity] = []
    by_precision: dict[str, list[Task]] = {}
    for task in work.plan.relabel if settings.max_label_flips < 1 else ():
        there = task.partition.size or task.partition.version
        if there and task.entry is not None and task.entry.scored and task.entry.precision != "fp32":
            by_precision.setdefault(task.entry.precision, []).append(task)
    for precision, tasks in by_precision.items():
        try:
            with spark_failures():
                difference = _of_stored(spark, settings, work, precision, tasks)
            found.append(difference)
            reason = "" if _allowed(difference, settings) else _too_many(difference, settings)
        except (ArtifactError, InputError, SettingsError) as error:
            reason = f"how many come out otherwise than in fp32 can't be measured here ({error})"
        if reason:
            raise RefusedError(
                f"the labels of {len(tasks):,} partitions would be computed again from probabilities in {precision}, "
                f"and {reason}: score them again with --rescore, or set max_label_flips to 1 if that is meant"
            )
    return found


def fidelity_lines(found: Sequence[Fidelity], settings: ScoreSettings, used: str) -> list[str]:
    """A warning for each precision that was not exact enough; empty where all is well."""
    return [f"warning: {_too_many(f, settings)}: this run computes in {used}" for f in found if f.precision != used]


def _allowed(found: Fidelity, settings: ScoreSettings) -> bool:
    # Where nothing could be compared, nothing is known.
    return found.documents > 0 and found.label_flips <= settings.max_label_flips


def _too_many(found: Fidelity, settings: ScoreSettings) -> str:
    if not found.documents:
        return f"no text was found to compare {found.precision} with fp32"
    return (
        f"in {found.precision} {100 * found.label_flips:.1f} % of the labels of {found.documents} documents come out "
        f"otherwise than in fp32, more than max_label_flips {settings.max_label_flips:g} allows"
    )


def _of_stored(
    spark: SparkSession, settings: ScoreSettings, work: Planned, precision: str, tasks: Sequence[Task]
) -> Fidelity:
    """Compare the scores of some texts in `precision`, in which the table has their partitions, and in fp32."""
    partitions = [task.partition for task in tasks][:: -(-len(tasks) // _PARTITIONS)]  # each file examined costs a read
    readable = work.corpus.examine(partitions, TableColumns())
    scoring, documents = work.scoring, sum(task.entry.documents for task in tasks if task.entry)
    device = settings.model.device
    model = spark_model(spark, scoring.artifact, options=scoring.options, device=device, precision=precision)
    texts, right = _in_fp32(spark, settings, model, readable, documents)
    try:
        return compare(_probabilities(spark, model, texts), right, scoring.recipe.thresholds, precision)
    finally:
        model.close()


def _in_fp32(
    spark: SparkSession, settings: ScoreSettings, model: SparkModel, readable: Readable, documents: int
) -> tuple[list[str], npt.NDArray[np.floating]]:
    """Some texts of the `documents` to score, and their probabilities by the same model in fp32."""
    number = min(max(_FEWEST, documents // 20), _MOST)
    in_fp32 = Placement(model.placement.device, "fp32")
    mapped = replace(model.remote.options, weights=SHARED)  # workers keep this model loaded: none may copy its weights
    with ThreadPoolExecutor(1) as aside:  # the driver packs weights while Spark reads texts
        packing = aside.submit(model_at, spark, model.artifact, in_fp32, mapped, model.remote.log_texts)
        texts = readable.sample(settings.input.text_column, number, _CHARACTERS, with_empty=False)
    exact = packing.result()
    right = _probabilities(spark, exact, texts)
    exact.close()
    return texts, right


def _probabilities(spark: SparkSession, model: SparkModel, texts: Sequence[str]) -> npt.NDArray[np.floating]:
    """The probabilities of texts, computed on the run's executors: (n, 5), NaN where there is none."""
    if not texts:
        return np.empty((0, len(TRAITS)))
    frame = local_rows(spark, list(enumerate(texts)), {"i": "int", "text": "string"})
    scores = frame.repartition(min(machines.slots(spark), -(-len(texts) // 32))).select(
        "i", model.column("text").alias("s")
    )
    rows = scores.select("i", *[f"s.{f.name}" for f in PROBABILITY_FIELDS]).collect()
    done = model.tally.value
    # The run's own counts begin after this, except for model loads: the workers keep their models.
    model.tally.value = Tally(loads=done.loads, load_seconds=done.load_seconds, threads=done.threads, heard=done.heard)
    found = np.full((len(texts), len(TRAITS)), np.nan)
    for i, *values in rows:
        found[i] = [np.nan if v is None else v for v in values]
    return found
