"""Texts per second on Spark: this project at each precision against the documented recipe, interleaved in one run.

    python -m benchmarks.score [--texts FILE.parquet] [--vocabulary tokenizer.json] [--repeats 3] [--output result.json]

The rate is marginal: (texts of a large job - texts of a small one) / (seconds of the one - seconds of the other), so
that starting workers and loading models, which a real corpus pays once, are in neither. Everything runs on local[2]
with one-thread tasks, on the same checkpoint (DistilBERT size, random weights) and the same texts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from pyspark.sql import Column, DataFrame, SparkSession

from benchmarks.recipe import recipe_udf
from benchmarks.workloads import random_checkpoint, texts_of
from bigfive_udf.model import hardware
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.spark.session import job_session
from bigfive_udf.spark.udf import spark_model
from bigfive_udf.traits import PROBABILITY_FIELDS

CORES = 2
SMALL, LARGE = {"recipe": 128, "ours": 512}, {"recipe": 1152, "ours": 4608}
"""Texts of the two jobs whose difference is measured; the recipe gets fewer, or the run would take an hour."""


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--texts", help="a Parquet file with a column text; without it texts are made")
    flags.add_argument("--vocabulary", help="tokenizer.json of a BERT kind for the random checkpoint")
    flags.add_argument("--repeats", type=int, default=3)
    flags.add_argument("--output", help="write the results here as JSON")
    args = flags.parse_args()

    os.environ["PYSPARK_SUBMIT_ARGS"] = f"--master local[{CORES}] --conf spark.ui.enabled=false pyspark-shell"
    with tempfile.TemporaryDirectory() as scratch:
        transformers.utils.logging.disable_progress_bar()
        path = random_checkpoint(Path(scratch) / "model", args.vocabulary)
        spark = job_session("benchmark")
        texts = texts_of(args.texts, LARGE["ours"])
        systems: dict[str, Callable[[Column], Column]] = {"recipe": recipe_udf(str(path))}
        precisions = ["fp32", *(["bf16"] if hardware.look(use_gpu=False).cpu_bf16 else [])]
        for precision in precisions:
            systems[precision] = spark_model(spark, load_artifact(path), device="cpu", precision=precision).column
        for column in systems.values():  # start the workers and load the models, uncounted
            _seconds(_frame(spark, texts[: SMALL["recipe"]]), column)
        rates: dict[str, list[float]] = {name: [] for name in systems}
        for repeat in range(args.repeats):
            for name, column in systems.items():
                rates[name].append(_marginal_rate(spark, texts, column, "recipe" if name == "recipe" else "ours"))
                print(
                    f"{repeat + 1}/{args.repeats} {name:>7} {rates[name][-1]:8.1f} texts/s", file=sys.stderr, flush=True
                )
        result = _result(rates) | {"fidelity": _fidelity(path, texts[:2048], precisions)}
        spark.stop()
    print(_table(result))
    if args.output:
        Path(args.output).write_text(json.dumps(result, indent=2) + "\n")


def _marginal_rate(spark: SparkSession, texts: list[str], column: Callable[[Column], Column], kind: str) -> float:
    small, large = SMALL[kind], LARGE[kind]
    # The texts of the large job, so that both have the same mean length; the small job before and after the large one.
    parts = [_frame(spark, texts[large - small : large]), _frame(spark, texts[:large])]
    before, whole, after = (_seconds(frame, column) for frame in (parts[0], parts[1], parts[0]))
    for frame in parts:
        frame.unpersist()
    return (large - small) / (whole - (before + after) / 2)


def _frame(spark: SparkSession, texts: list[str]) -> DataFrame:
    frame = spark.createDataFrame([(t,) for t in texts], "text string").repartition(CORES).cache()
    frame.count()
    return frame


def _seconds(frame: DataFrame, column: Callable[[Column], Column]) -> float:
    started = time.perf_counter()
    frame.select(column(frame["text"]).alias("s")).write.format("noop").mode("overwrite").save()
    return time.perf_counter() - started


def _fidelity(path: Path, texts: list[str], precisions: list[str]) -> dict[str, Any]:
    columns = [f.name for f in PROBABILITY_FIELDS]
    artifact = load_artifact(path)
    exact = artifact.predict(texts, device="cpu", precision="fp32")[columns].to_numpy()
    found = {}
    for precision in precisions[1:]:
        reduced = artifact.predict(texts, device="cpu", precision=precision)[columns].to_numpy()
        difference = np.abs(reduced - exact)
        found[precision] = {
            "max_difference": float(difference.max()),
            "p99_difference": float(np.quantile(difference, 0.99)),
            "label_flips": float(((reduced >= 0.5) != (exact >= 0.5)).mean()),
        }
    return found


def _result(rates: dict[str, list[float]]) -> dict[str, Any]:
    medians = {name: statistics.median(values) for name, values in rates.items()}
    systems = {
        name: {
            "texts_per_second": [round(v, 2) for v in values],
            "median": round(medians[name], 2),
            "times_recipe": round(medians[name] / medians["recipe"], 2),
        }
        for name, values in rates.items()
    }
    return {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "master": f"local[{CORES}]", "systems": systems}


def _table(result: dict[str, Any]) -> str:
    lines = [f"{'system':>8} {'texts/s':>9} {'min':>8} {'max':>8} {'x recipe':>9} {'p99 |dp|':>9} {'flips':>8}"]
    for name, s in result["systems"].items():
        fidelity = result["fidelity"].get(name)
        against = f"{fidelity['p99_difference']:9.4f} {100 * fidelity['label_flips']:6.2f} %" if fidelity else ""
        values = s["texts_per_second"]
        lines.append(
            f"{name:>8} {s['median']:9.1f} {min(values):8.1f} {max(values):8.1f} {s['times_recipe']:9.2f} {against}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
