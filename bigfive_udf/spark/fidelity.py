"""Whether a reduced precision is exact enough for the corpus at hand: the same texts in it and in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from pyspark.sql import SparkSession

from bigfive_udf.model.fidelity import Fidelity, compare
from bigfive_udf.model.hardware import Placement, more_exact
from bigfive_udf.model.scores import SHARED
from bigfive_udf.settings.score import ScoreSettings
from bigfive_udf.spark import session
from bigfive_udf.spark.local_rows import local_rows
from bigfive_udf.spark.planning import Planned
from bigfive_udf.spark.tally import Tally
from bigfive_udf.spark.udf import SparkModel, model_at
from bigfive_udf.traits import PROBABILITY_FIELDS, TRAITS

# A twentieth of the run, within these bounds: a share near the limit needs the larger number to be told from it.
_FEWEST, _MOST = 256, 1024
# Their beginnings are enough, or this would take longer than some runs do.
_CHARACTERS = 2000


def faithful_model(
    spark: SparkSession, settings: ScoreSettings, work: Planned, model: SparkModel
) -> tuple[SparkModel, list[Fidelity]]:
    """The model in the precision in which it was given, or in a more exact one where too many labels would flip.

    Returns it with what was measured, the precision that is used last; nothing is measured in fp32. A model that is not
    used is closed.
    """
    found: list[Fidelity] = []
    if model.placement.precision == "fp32" or work.readable is None:
        return model, found
    number = min(max(_FEWEST, work.documents // 20), _MOST)
    options, log_texts, thresholds = model.remote.options, model.remote.log_texts, work.scoring.recipe.thresholds
    in_fp32 = Placement(model.placement.device, "fp32")
    mapped = replace(options, weights=SHARED)  # workers keep this model, so without a copy of their own
    with ThreadPoolExecutor(1) as aside:  # the driver packs weights while Spark reads texts
        packing = aside.submit(model_at, spark, model.artifact, in_fp32, mapped, log_texts)
        sampled = work.readable.sample(settings.input.text_column, number)
    texts = [text[:_CHARACTERS] for text in sampled if text]
    exact = packing.result()
    right = _probabilities(spark, exact, texts)
    exact.close()
    while model.placement.precision != "fp32":
        difference = compare(_probabilities(spark, model, texts), right, thresholds, model.placement.precision)
        found.append(difference)
        if difference.label_flips <= settings.max_label_flips:
            break
        model.close()
        better = more_exact(model.placement, session.executors_hardware(spark, model.placement.device))
        model = model_at(spark, model.artifact, better, options, log_texts)
    return model, found


def fidelity_lines(found: Sequence[Fidelity], settings: ScoreSettings, used: str) -> list[str]:
    """What a person should know of it: nothing where all is well."""
    return [
        f"warning: in {f.precision} {100 * f.label_flips:.1f} % of the labels of {f.documents} documents come out "
        f"otherwise than in fp32, more than max_label_flips {settings.max_label_flips:g} allows: this run computes in "
        f"{used}"
        for f in found
        if f.precision != used
    ]


def _probabilities(spark: SparkSession, model: SparkModel, texts: Sequence[str]) -> npt.NDArray[np.floating]:
    """The probabilities of texts, computed where the run computes: (n, 5), NaN where there is none."""
    if not texts:
        return np.empty((0, len(TRAITS)))
    frame = local_rows(spark, list(enumerate(texts)), {"i": "int", "text": "string"})
    scores = frame.repartition(min(session.slots(spark), -(-len(texts) // 32))).select(
        "i", model.column("text").alias("s")
    )
    rows = scores.select("i", *[f"s.{f.name}" for f in PROBABILITY_FIELDS]).collect()
    done = model.tally.value
    # The run's own count begins after this; a model that is loaded by now stays so.
    model.tally.value = Tally(loads=done.loads, load_seconds=done.load_seconds, threads=done.threads, heard=done.heard)
    found = np.full((len(texts), len(TRAITS)), np.nan)
    for i, *values in rows:
        found[i] = [np.nan if v is None else v for v in values]
    return found
