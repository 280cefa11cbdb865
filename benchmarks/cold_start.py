"""Seconds from spark-submit to the first commit: a partition of 1,000 short texts.

    python -m benchmarks.cold_start [--model DIR] [--short FILE] [--repeats 3] [--archive spark.jsa] [--output x.json]

Without --model the checkpoint has random weights and the width of the default model. With --archive the JVM starts from
an archive of its classes, see docs/scaling.md.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.support.flags import parser
from benchmarks.support.results import save
from benchmarks.support.submitted import score_job
from benchmarks.support.workloads import SHORT, Texts, random_checkpoint, vocabulary_of

TEXTS = 1000
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
"""The JVM options of conf/spark/laptop.conf."""


def main() -> None:
    flags = parser(__doc__, "short", repeats=3)
    flags.add_argument("--model", help="a model directory")
    flags.add_argument("--archive", help="an archive of the JVM's classes")
    args = flags.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        model = (
            Path(args.model).absolute() if args.model else random_checkpoint(place / "m", vocabulary_of(None), "minilm")
        )
        texts = Texts(args.short).of(SHORT, TEXTS)
        make_corpus(place / "corpus", texts)
        archive = f" -XX:SharedArchiveFile={Path(args.archive).absolute()}" if args.archive else ""
        java = ["--driver-java-options", JAVA_OPTIONS + archive]
        seconds = []
        for repeat in range(args.repeats):
            seconds.append(until_committed(place / f"scores-{repeat}", place / "corpus", model, java))
            print(f"{repeat + 1}/{args.repeats}  {seconds[-1]:.1f} s to {TEXTS:,} committed documents", flush=True)
    print(f"median {statistics.median(seconds):.1f} s")
    if args.output:
        save(args.output, {"texts": TEXTS, "seconds": seconds})


def make_corpus(directory: Path, texts: Sequence[str]) -> None:
    """A corpus of one partition and one file."""
    partition = directory / "dt=2026-01-05"
    partition.mkdir(parents=True)
    table = pa.table({"doc_id": [str(i) for i in range(len(texts))], "text": texts})
    pq.write_table(table, partition / "0.parquet")


def until_committed(output: Path, corpus: Path, model: Path, java: list[str]) -> float:
    """Seconds from the start of spark-submit to the ledger's first entry."""
    settings = {"input.path": corpus, "output.path": output, "model.path": model}
    ledger = Path(f"{output}.job/ledger")
    started = time.monotonic()
    with score_job(settings, Path(f"{output}.log"), spark=java) as job:
        while not any(ledger.glob("*.jsonl")) and job.poll() is None:
            time.sleep(0.05)
        return time.monotonic() - started


if __name__ == "__main__":
    main()
