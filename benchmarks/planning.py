"""The cost of finding out that there is nothing to do: `python -m benchmarks.planning`.

For each size it makes a corpus of empty files by day and hour, and a table and a ledger that are up to date with it.
Then a process plans as the score job does, and reports its time, its memory and the number of Spark jobs it started.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.support.flags import parser
from benchmarks.support.results import save
from bigfive_udf.runs import Run
from bigfive_udf.settings.score import ScoreSettings
from bigfive_udf.spark.input.files import find_files
from bigfive_udf.spark.job.planning import Planned, Scoring, planned
from bigfive_udf.spark.session import job_session
from bigfive_udf.tables.commit import Commit
from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.tables.fingerprint import ScoreRecipe
from bigfive_udf.tables.ledger import COMMITTED, Entry
from bigfive_udf.tables.opening import look_at, open_to_write
from bigfive_udf.tables.partitions import Selection

_RECIPE = ScoreRecipe("0123456789ab", {"model.precision": "auto"}, ("doc_id",), {"openness": 0.5})
# Object stores count requests: a request to list files returns a thousand of them.
_LISTED_AT_ONCE = 1000


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--partitions", type=int, nargs="+", default=[1000, 3000, 10000])
    flags.add_argument("--files", type=int, default=20, help="files of each partition")
    flags.add_argument("--plan", type=Path, help=argparse.SUPPRESS)
    args = flags.parse_args()
    if args.plan is not None:
        print(json.dumps(_measured(args.plan)))
        return
    rows = []
    print(f"{'partitions':>10} {'files':>9} {'plan s':>8} {'peak MB':>8} {'Spark jobs':>10} {'requests on s3a':>20}")
    for partitions in args.partitions:
        with tempfile.TemporaryDirectory(prefix="planning-") as directory:
            _make(Path(directory), partitions, args.files)
            command = [sys.executable, "-m", "benchmarks.planning", "--plan", directory]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1]) | {"partitions": partitions, "files": partitions * args.files}
        row["requests"] = _requests(partitions, args.files)
        rows.append(row)
        print(
            f"{partitions:>10,} {row['files']:>9,} {row['seconds']:>8.2f} {row['peak_mb']:>8,.0f} "
            f"{row['spark_jobs']:>10} {row['requests']:>20,}",
            flush=True,
        )
    if args.output is not None:
        save(args.output, rows)


def _settings(directory: Path) -> ScoreSettings:
    return ScoreSettings.model_validate(
        {
            "input": {"path": str(directory / "corpus")},
            "output": {"path": str(directory / "scores")},
            "model": {"path": "none"},
        }
    )


def _make(directory: Path, partitions: int, files: int) -> None:
    """Make the corpus and, by the job's own code, a ledger of it and a table with one file in each partition."""
    settings = _settings(directory)
    names = [f"dt={i // 24:05d}/hour={i % 24:02d}" for i in range(partitions)]
    for name in names:
        (directory / "corpus" / name).mkdir(parents=True)
        for i in range(files):
            (directory / "corpus" / name / f"part-{i:05d}.parquet").touch()
    corpus = find_files(job_session("planning"), settings.input, {})
    found = corpus.found(Selection(), {})
    with open_to_write(LocalFileSystem(), settings.output.path, settings.output, Run("score")) as opened:
        table = opened.shaped(corpus.layout.columns)
        staging = table.staging("20260101T000000Z-000000-0001")
        for name in names:
            os.makedirs(f"{staging}/{name}")
            Path(f"{staging}/{name}/part-00000.parquet").write_bytes(b"rows")
        entries = [
            Entry(
                name, dict(zip(corpus.layout.columns, p.values, strict=True)), COMMITTED, 1, "c", "r", "now",
                input=digest, model_id=_RECIPE.model_id, settings=_RECIPE.settings, columns={"doc_id": "string"},
                thresholds=_RECIPE.thresholds, documents=1000, files=(("part-00000.parquet", 4),),
            )
            for name, (p, digest) in found.partitions.items()
        ]  # fmt: skip
        opened.committer(table).commit(Commit("20260101T000000Z-000000-0001", staging, tuple(entries)))


def _measured(directory: Path) -> dict[str, float]:
    settings = _settings(directory)
    spark = job_session("planning")
    scoring = Scoring(None, None, _RECIPE)  # type: ignore[arg-type]  # planning does not use the model
    tracker = spark.sparkContext.statusTracker()
    started = time.perf_counter()
    found = planned(
        spark,
        settings,
        scoring,
        look_at(LocalFileSystem(), settings.output.path, settings.output),
        Selection(),
    )
    seconds = time.perf_counter() - started
    _check(found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1 << 20)
    return {"seconds": seconds, "peak_mb": peak, "spark_jobs": len(tracker.getJobIdsForGroup(None))}


def _check(found: Planned) -> None:
    if not found.plan.empty or not found.plan.up_to_date:
        raise AssertionError("the plan should have found nothing to do")


def _requests(partitions: int, files: int) -> int:
    """Requests that s3a would make, calculated and not measured; it lists a thousand files per request."""
    corpus, table = partitions * files, partitions * 2  # a table's partition has a file and _SUCCESS
    few = 6  # table.json twice, the list of the ledger's files, one of them, the journal, staging
    return -(-corpus // _LISTED_AT_ONCE) + -(-table // _LISTED_AT_ONCE) + few


if __name__ == "__main__":
    main()
