"""Texts per second on Spark: this project at each precision against the usual ways, interleaved in one run.

    python -m benchmarks.score [--short FILE] [--long FILE] [--workload short ...] [--size distilbert ...]
                               [--repeats 3] [--output x.json]

The usual ways truncate a long text at the model's last position. So on long texts each precision is also measured with
truncation (text.long_documents: truncate).

The rate is marginal: (texts of a large job - texts of a small one) / (seconds of the large job - seconds of the small
one). It leaves out starting workers and loading models, which a real corpus pays once. Everything runs on local[2] with
one-thread tasks, on the same checkpoint (random weights) and the same texts, which change from turn to turn. Slow
systems get fewer texts, with the same share of long ones. The scores are compared with a plain forward pass of
transformers.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.support.engines import are_whole, transformers_loop
from benchmarks.support.flags import parser
from benchmarks.support.rates import marginal_rate
from benchmarks.support.recipe import predict_batch, recipe_udf
from benchmarks.support.results import save
from benchmarks.support.workloads import LONG, MIXED, WORKLOADS, Texts, random_checkpoint, vocabulary_of
from bigfive_udf.model import hardware
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.spark.session import job_session
from bigfive_udf.spark.udf import SparkModel, spark_model
from bigfive_udf.spark.workers.tally import Tally
from bigfive_udf.traits import PROBABILITY_FIELDS

CORES = 2
NUMBERS = {"short": (512, 4608), "long": (32, 288), "mixed": (400, 2000), "repeated": (512, 4608)}
"""Texts of the two jobs whose difference is measured, at DistilBERT size; narrower models get four times as many, the
usual ways a quarter, or a run would take hours."""
_COMPARED = 1024
"""Texts on which fp32 is compared with transformers, and other precisions with fp32."""


def main() -> None:
    flags = parser(
        __doc__, "short", "long", "vocabulary", workload=["short", "mixed", "repeated"], size=["distilbert"], repeats=3
    )
    args = flags.parse_args()

    os.environ["PYSPARK_SUBMIT_ARGS"] = f"--master local[{CORES}] --conf spark.ui.enabled=false pyspark-shell"
    transformers.utils.logging.disable_progress_bar()
    spark = job_session("benchmark")
    results = []
    for size in args.size:
        with tempfile.TemporaryDirectory() as scratch:
            path = random_checkpoint(Path(scratch) / "model", vocabulary_of(args.vocabulary), size)
            for workload in args.workload:
                low, high = (n * (4 if size == "minilm" else 1) for n in NUMBERS[workload])
                source = Texts(args.short, args.long)
                turns = [source.jobs(workload, low, high, seed) for seed in range(args.repeats)]
                systems = _measured(spark, path, workload, turns)
                results.append({"size": size, "workload": workload, "systems": systems})
                print(_table(size, workload, systems), flush=True)
                if args.output:  # after each workload: the next one may take half an hour
                    save(args.output, results, master=f"local[{CORES}]")
    spark.stop()


def _measured(
    spark: SparkSession, path: Path, workload: str, turns: Sequence[tuple[list[str], list[str]]]
) -> dict[str, dict[str, Any]]:
    with_bf16 = hardware.look(use_gpu=False).cpu_bf16
    usual = {"recipe": recipe_udf(str(path)), "predict_batch_udf": predict_batch(str(path))}
    usual["recipe unbatched"] = recipe_udf(str(path), batch_size=1)
    if with_bf16:
        usual["recipe bf16"] = recipe_udf(str(path), "bfloat16")
        usual["recipe bf16 unbatched"] = recipe_udf(str(path), "bfloat16", batch_size=1)
    precisions = ["fp32", *(["bf16"] if with_bf16 else [])]
    artifact = load_artifact(path)
    models = {p: spark_model(spark, artifact, device="cpu", precision=p) for p in precisions}
    if workload in (LONG, MIXED):
        cut = artifact.options(max_windows=1)
        models |= {f"{p} cut": spark_model(spark, artifact, device="cpu", precision=p, options=cut) for p in precisions}
    columns: dict[str, Callable[[Column], Column]] = usual | {p: m.column for p, m in models.items()}
    for column in columns.values():  # start the workers and load the models, uncounted
        _seconds(_frame(spark, turns[0][0][:16]), column)
    for model in models.values():
        model.tally.value = Tally()
    rates: dict[str, list[float]] = {name: [] for name in columns}
    for turn, (small, large) in enumerate(turns, 1):
        for name, column in columns.items():
            share = 1 if name in models else 4
            jobs = small[: len(small) // share], large[: len(large) // share]
            rates[name].append(_rate(spark, *jobs, column))
            print(f"{turn}/{len(turns)} {name:>21} {rates[name][-1]:8.1f} texts/s", file=sys.stderr, flush=True)
    systems: dict[str, dict[str, Any]] = {
        name: {"texts_per_second": values, "median": statistics.median(values)} for name, values in rates.items()
    }
    compared = turns[0][1][:_COMPARED]
    whole = are_whole(path, compared)
    usual_scores = transformers_loop(path)([text for text, is_whole in zip(compared, whole, strict=True) if is_whole])
    exact = _scores(path, compared, "fp32")
    for name, model in models.items():
        systems[name] |= _stages(model)
        if name == "fp32":
            systems[name] |= _difference(exact[whole], usual_scores)
        elif name in precisions:
            systems[name] |= _difference(_scores(path, compared, name), exact)
        model.close()
    return systems


def _rate(spark: SparkSession, small: Sequence[str], large: Sequence[str], column: Callable[[Column], Column]) -> float:
    frames = {len(texts): _frame(spark, texts) for texts in (small, large)}
    try:
        return marginal_rate(lambda texts: _seconds(frames[len(texts)], column), small, large)
    finally:
        for frame in frames.values():
            frame.unpersist()


def _frame(spark: SparkSession, texts: Sequence[str]) -> DataFrame:
    frame = spark.createDataFrame([(t,) for t in texts], "text string").repartition(CORES, F.col("text")).cache()
    frame.count()
    return frame


def _seconds(frame: DataFrame, column: Callable[[Column], Column]) -> float:
    started = time.perf_counter()
    frame.select(column(frame["text"]).alias("s")).write.format("noop").mode("overwrite").save()
    return time.perf_counter() - started


def _stages(model: SparkModel) -> dict[str, float]:
    """Tokens per second and core in each stage, and the share of padding in the model's input."""
    tally = model.tally.value
    effort = tally.effort
    if effort.windows + effort.repeats < tally.documents:
        raise RuntimeError(f"{tally.documents:,} texts in, of which the model saw {effort.windows:,} windows")
    return {
        "tokenizer_tokens_per_core_second": effort.tokens / effort.tokenize_seconds,
        "model_tokens_per_core_second": effort.tokens / effort.model_seconds,
        "padding_share": effort.padding_share,
    }


def _scores(path: Path, texts: Sequence[str], precision: str) -> np.ndarray:
    columns = [f.name for f in PROBABILITY_FIELDS]
    return load_artifact(path).predict(list(texts), device="cpu", precision=precision)[columns].to_numpy()


def _difference(found: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """How far probabilities are from the right ones: from transformers for fp32, from fp32 for other precisions."""
    difference = np.abs(found - right)
    return {
        "max_difference": float(difference.max()),
        "p99_difference": float(np.quantile(difference, 0.99)),
        "label_flips": float(((found >= 0.5) != (right >= 0.5)).mean()),
    }


def _table(size: str, workload: str, systems: dict[str, dict[str, Any]]) -> str:
    lines = [
        f"\n{size}, {workload}: {WORKLOADS[workload]}",
        f"{'system':>21} {'texts/s':>9} {'min':>8} {'max':>8} {'x recipe':>9} {'padding':>8} {'tokenizer':>10} "
        f"{'model tok/s':>12} {'p99 |dp|':>9} {'flips':>8}",
    ]
    for name, s in systems.items():
        values = s["texts_per_second"]
        line = f"{name:>21} {s['median']:9.1f} {min(values):8.1f} {max(values):8.1f} "
        line += f"{s['median'] / systems['recipe']['median']:9.2f}"
        if "padding_share" in s:
            line += f" {100 * s['padding_share']:6.1f} % {s['tokenizer_tokens_per_core_second']:10,.0f} "
            line += f"{s['model_tokens_per_core_second']:12,.0f}"
        if "label_flips" in s:
            line += f" {s['p99_difference']:9.1e} {100 * s['label_flips']:6.2f} %"
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
