"""How the rate grows with cores, and what Spark costs: texts per second from Parquet files into a table.

    python -m benchmarks.scaling [--short FILE] [--size minilm] [--cores 1 2] [--seconds 60] [--repeats 3]
                                 [--output x.json]

For each number of cores it runs the engine in a bare loop (a one-thread process per core, texts in memory) and in
Spark's local mode. All are started and warm first. Then they take turns on the same texts, as many as one core scores
in about `--seconds`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.cold_start import JAVA_OPTIONS
from benchmarks.loops import EXACT, asked, engine_process
from benchmarks.support.flags import parser
from benchmarks.support.results import save
from benchmarks.support.served import Served, serve
from benchmarks.support.workloads import SHORT, Texts, random_checkpoint, vocabulary_of

_FILES = 8


def main() -> None:
    flags = parser(__doc__, "short", "vocabulary", size="minilm", repeats=3)
    flags.add_argument("--cores", nargs="+", type=int, default=[1, 2])
    flags.add_argument("--seconds", type=float, default=60.0, help="how long a turn on one core should take, about")
    flags.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    args = flags.parse_args()
    if args.serve:
        serve_session(*args.serve)
        return
    with tempfile.TemporaryDirectory() as scratch:
        result = compared(Path(scratch), args)
    print(_table(result))
    if args.output:
        save(args.output, result)


def compared(scratch: Path, args: argparse.Namespace) -> dict[str, Any]:
    path = random_checkpoint(scratch / "model", vocabulary_of(args.vocabulary), args.size)
    source, corpus = Texts(args.short), scratch / "corpus"
    seconds: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        loops = [stack.enter_context(engine_process(EXACT, path)) for _ in range(max(args.cores))]
        some = source.of(SHORT, 500)
        texts = source.of(SHORT, int(args.seconds * len(some) / _loop_seconds(loops[:1], some)))
        _write(corpus, texts)
        sessions = {
            k: stack.enter_context(
                Served("benchmarks.scaling", "--serve", f"local[{k}]", str(path), str(corpus), f"{scratch}/table-{k}")
            )
            for k in args.cores
        }
        for repeat in range(args.repeats):
            for k in args.cores:
                turns: dict[str, Callable[[], float]] = {
                    f"loop, {k}": partial(_loop_seconds, loops[:k], texts),
                    f"spark, {k}": partial(_spark_seconds, sessions[k]),
                }
                for name, turn in turns.items():
                    seconds.setdefault(name, []).append(turn())
                    rate = len(texts) / seconds[name][-1]
                    print(f"{repeat + 1}/{args.repeats} {name:>9} cores {rate:8.1f} texts/s", file=sys.stderr)
    return {"size": args.size, "texts": len(texts), "cores": args.cores, "seconds": seconds}


def _write(corpus: Path, texts: Sequence[str]) -> None:
    corpus.mkdir()
    for k in range(_FILES):
        part = texts[k::_FILES]
        ids = [f"{k}-{i}" for i in range(len(part))]
        pq.write_table(pa.table({"doc_id": ids, "text": part}), corpus / f"part-{k}.parquet")


def serve_session(master: str, path: str, corpus: str, output: str) -> None:
    """Run as a process with a Spark session: read, score and write as a step of the score job does."""
    options = f"--conf spark.ui.enabled=false --driver-java-options '{JAVA_OPTIONS}'"
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"--master {master} {options} pyspark-shell"
    from pyspark.sql import functions as F

    from bigfive_udf.model.artifact import load_artifact
    from bigfive_udf.spark.job.scoring import task_count
    from bigfive_udf.spark.machines import slots
    from bigfive_udf.spark.session import job_session
    from bigfive_udf.spark.udf import spark_model, with_scores

    spark = job_session("scaling")
    artifact = load_artifact(path)
    model = spark_model(spark, artifact, device="cpu", precision="fp32")
    files = list(Path(corpus).iterdir())
    rows, size = sum(pq.read_metadata(f).num_rows for f in files), sum(f.stat().st_size for f in files)

    def score(limit: int | None = None) -> float:
        started = time.perf_counter()
        frame = spark.read.parquet(corpus)
        frame = frame if limit is None else frame.limit(limit)
        tasks = task_count(limit or rows, size, slots(spark), "cpu")
        scored = with_scores(frame.repartition(tasks, F.col("text")), model, "text", artifact.thresholds)
        scored.drop("text").write.mode("overwrite").parquet(output)
        return time.perf_counter() - started

    score(200)
    serve(lambda _: score())


def _loop_seconds(processes: Sequence[Served], texts: Sequence[str]) -> float:
    started = time.perf_counter()
    asked(processes, [texts[k :: len(processes)] for k in range(len(processes))])
    return time.perf_counter() - started


def _spark_seconds(session: Served) -> float:
    session.ask(None)
    seconds: float = session.answer()
    return seconds


def _table(result: dict[str, Any]) -> str:
    rate = {name: result["texts"] / statistics.median(values) for name, values in result["seconds"].items()}
    fewest = min(result["cores"])
    lines = [
        f"{result['size']} in fp32, {result['texts']:,} messages",
        f"{'cores':>5} {'bare loop':>12} {'Spark':>12} {'Spark / loop':>13} {f'of Spark on {fewest}':>21}",
    ]
    for k in result["cores"]:
        loop, spark = rate[f"loop, {k}"], rate[f"spark, {k}"]
        line = f"{k:>5} {loop:8,.0f} t/s {spark:8,.0f} t/s {100 * spark / loop:11.0f} % "
        lines.append(line + f"{spark / rate[f'spark, {fewest}']:21.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
