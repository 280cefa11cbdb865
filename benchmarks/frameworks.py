"""Texts per second of other frameworks that spread a model over cores: Ray Data, Daft and MLflow, each with `Recipe`.

    python -m benchmarks.frameworks [--short FILE] [--workload short] [--size minilm] [--system "ours fp32" ...]
                                    [--repeats 3] [--output x.json]

Each reads and writes Parquet on two cores, with a one-thread model on each core, in its own process, which runs for all
turns. The rate is marginal, as in benchmarks.score: the extra texts of a large job over a small one, by the extra
seconds. `make bench-peers` makes the environment in which they run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.support.flags import parser
from benchmarks.support.rates import marginal_rate
from benchmarks.support.results import save
from benchmarks.support.served import REPOSITORY, Served, serve
from benchmarks.support.workloads import SHORT, WORKLOADS, Texts, random_checkpoint, vocabulary_of
from bigfive_udf.model import hardware
from bigfive_udf.traits import TRAITS

CORES, FILES = 2, 8
BATCH_SIZE, HANDED_OVER = 32, 64
"""Texts per forward pass, and texts that a framework passes on at once: few, so that no core waits for the other."""
NUMBERS = (256, 1280)
"""Texts of the small and large job at DistilBERT size: four times as many for narrower models and for our engine."""

Job = Callable[[str, str], None]
"""Reads the Parquet files of one directory and writes those of another."""


class Recipe:
    """The class that the guides show: a transformers pipeline, with batches in the order of arrival."""

    def __init__(self, path: str) -> None:
        import torch
        from transformers import pipeline

        torch.set_num_threads(1)
        self._classify: Any = pipeline(
            "text-classification", model=path, device=-1, top_k=None, function_to_apply="sigmoid", truncation=True
        )

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        """The probabilities of each text, in trait order."""
        answers = self._classify(list(texts), batch_size=BATCH_SIZE)
        by_label = [{score["label"]: score["score"] for score in answer} for answer in answers]
        return [[scores[trait] for trait in TRAITS] for scores in by_label]


def ray_job(path: str, scratch: str) -> Job:
    """The job as in Ray Data's guide to batch inference: a class for map_batches, an actor for each core."""
    import ray

    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False)

    class Score:
        def __init__(self) -> None:
            self._recipe = Recipe(path)

        def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
            return batch.drop(columns="text").assign(scores=self._recipe(batch["text"].tolist()))

    def job(source: str, target: str) -> None:
        # Reading merges files this small into one block, which one actor alone would get (seen).
        rows = ray.data.read_parquet(source).repartition(2 * FILES)
        # Each actor reserves half a core: else none would be left for reading and writing, which would wait for ever.
        scored = rows.map_batches(Score, batch_size=HANDED_OVER, batch_format="pandas", concurrency=CORES, num_cpus=0.5)
        scored.write_parquet(target)

    return job


def daft_job(path: str, scratch: str) -> Job:
    """The job as in Daft's guide to classes: one instance in each of two processes."""
    import daft

    @daft.cls(max_concurrency=CORES, use_process=True)
    class Score:
        def __init__(self) -> None:
            self._recipe = Recipe(path)

        @daft.method.batch(  # type: ignore[untyped-decorator]
            return_dtype=daft.DataType.list(daft.DataType.float64()), batch_size=HANDED_OVER
        )
        def __call__(self, text: Any) -> list[list[float]]:
            return self._recipe(text.to_pylist())

    def job(source: str, target: str) -> None:
        rows = daft.read_parquet(f"{source}/*.parquet").into_partitions(FILES)
        rows.select("id", Score()(daft.col("text")).alias("scores")).write_parquet(target)

    return job


def mlflow_job(path: str, scratch: str) -> Job:
    """The job as in MLflow's guide to spark_udf: a python model, saved and then loaded as a column function."""
    import mlflow
    from pyspark.sql.types import ArrayType, DoubleType

    class Score(mlflow.pyfunc.PythonModel):
        def load_context(self, context: Any) -> None:
            self._recipe = Recipe(path)

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return pd.DataFrame(self._recipe(model_input.iloc[:, 0].tolist()), columns=list(TRAITS))

    mlflow.pyfunc.save_model(f"{scratch}/mlflow", python_model=Score())
    spark = _spark()
    column = mlflow.pyfunc.spark_udf(spark, f"{scratch}/mlflow", ArrayType(DoubleType()), env_manager="local")
    return _spark_job(spark, column)


def recipe_job(path: str, scratch: str) -> Job:
    from benchmarks.support.recipe import recipe_udf

    return _spark_job(_spark(), recipe_udf(path))


def our_job(path: str, precision: str) -> Job:
    from bigfive_udf.spark.udf import score_udf

    spark = _spark()
    return _spark_job(spark, score_udf(spark, path, device="cpu", precision=precision))


SYSTEMS: dict[str, Callable[[str, str], Job]] = {
    "ours fp32": lambda path, _: our_job(path, "fp32"),
    "ours bf16": lambda path, _: our_job(path, "bf16"),
    "recipe": recipe_job,
    "ray": ray_job,
    "daft": daft_job,
    "mlflow": mlflow_job,
}


def available() -> list[str]:
    """The systems that can run here."""
    found = ["ours fp32", *(["ours bf16"] if hardware.look(use_gpu=False).cpu_bf16 else []), "recipe"]
    return found + [name for name in ("ray", "daft", "mlflow") if importlib.util.find_spec(name) is not None]


def main() -> None:
    flags = parser(__doc__, "short", "long", "vocabulary", workload=SHORT, size="distilbert", repeats=3)
    flags.add_argument("--system", nargs="+", choices=SYSTEMS)
    flags.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    args = flags.parse_args()
    if args.serve:
        serve_system(*args.serve)
        return
    with tempfile.TemporaryDirectory() as scratch:
        rates = measured(Path(scratch), args, args.system or available())
    print(_table(args, rates))
    if args.output:
        save(args.output, {"size": args.size, "workload": args.workload, "texts_per_second": rates})


def measured(scratch: Path, args: argparse.Namespace, systems: Sequence[str]) -> dict[str, list[float]]:
    """Marginal texts per second of each system, one value per turn."""
    path = random_checkpoint(scratch / "model", vocabulary_of(args.vocabulary), args.size)
    numbers = [n * (4 if args.size == "minilm" else 1) for n in NUMBERS]
    source = Texts(args.short, args.long)
    jobs = {ours: source.jobs(args.workload, *(n * (4 if ours else 1) for n in numbers)) for ours in (True, False)}
    rates: dict[str, list[float]] = {name: [] for name in systems}
    with contextlib.ExitStack() as stack:
        running = {name: stack.enter_context(System(name, path, scratch)) for name in systems}
        for repeat in range(args.repeats):
            for name, system in running.items():
                rate = marginal_rate(system.seconds, *jobs[name.startswith("ours")])
                rates[name].append(rate)
                print(f"{repeat + 1}/{args.repeats} {name:>10} {rate:8.1f} texts/s", file=sys.stderr, flush=True)
    return rates


class System:
    """A process that keeps one system ready, and scores the texts that it is given."""

    def __init__(self, name: str, path: Path, scratch: Path) -> None:
        self._name, self._corpus, self._table = name, scratch / f"{name}-corpus", scratch / f"{name}-table"
        self._process = Served(
            "benchmarks.frameworks", "--serve", name, str(path), str(scratch / f"{name}-own"),
            log=scratch / f"{name}.log", environment={"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        )  # fmt: skip
        self.seconds(["to begin with"] * 64)

    def seconds(self, texts: Sequence[str]) -> float:
        """The seconds it takes to score these texts; every text must come out."""
        shutil.rmtree(self._corpus, ignore_errors=True)
        shutil.rmtree(self._table, ignore_errors=True)
        self._corpus.mkdir()
        for k in range(FILES):
            part = texts[k::FILES]
            ids = [f"{k}-{i}" for i in range(len(part))]
            pq.write_table(pa.table({"id": ids, "text": part}), self._corpus / f"{k}.parquet")
        self._process.ask([str(self._corpus), str(self._table)])
        seconds: float = self._process.answer()
        found = sum(pq.read_metadata(file).num_rows for file in self._table.rglob("*.parquet"))
        if found != len(texts):
            raise RuntimeError(f"{self._name}: {len(texts)} texts in, {found} out")
        return seconds

    def __enter__(self) -> System:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.close()


def serve_system(name: str, path: str, scratch: str) -> None:
    """Run as the process of a `System`: score the files of one directory into another, and tell the seconds."""
    job = SYSTEMS[name](path, scratch)

    def answer(directories: list[str]) -> float:
        started = time.perf_counter()
        job(*directories)
        return time.perf_counter() - started

    serve(answer)


def _spark() -> Any:
    from bigfive_udf.spark.session import job_session

    os.environ["PYSPARK_SUBMIT_ARGS"] = f"--master local[{CORES}] --conf spark.ui.enabled=false pyspark-shell"
    return job_session("frameworks")


def _spark_job(spark: Any, column: Callable[[Any], Any]) -> Job:
    from pyspark.sql import functions as F

    def job(source: str, target: str) -> None:
        rows = spark.read.parquet(source).repartition(CORES, F.col("text"))
        rows.select("id", column(F.col("text")).alias("scores")).write.parquet(target)

    return job


def _table(args: argparse.Namespace, rates: dict[str, list[float]]) -> str:
    first = statistics.median(rates.get("recipe", next(iter(rates.values()))))
    lines = [
        f"{args.size}, {args.workload}: {WORKLOADS[args.workload]}",
        f"{'system':>10} {'texts/s':>9} {'min':>8} {'max':>8} {'x recipe':>9}",
    ]
    for name, values in rates.items():
        median = statistics.median(values)
        lines.append(f"{name:>10} {median:9.1f} {min(values):8.1f} {max(values):8.1f} {median / first:9.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
