"""Whether memory grows over a long run: the score job on many short texts, observed from outside.

    python -m benchmarks.soak [--texts 500000] [--short FILE] [--size minilm] [--output x.json]

The job is submitted with two cores, and every few seconds the memory of each of its processes is read: the Python
workers, Spark's JVM and the driver's Python. The result is how much more they hold at the end than after a tenth of the
run, when all is loaded and warm.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.support.flags import parser
from benchmarks.support.memory import held
from benchmarks.support.results import save
from benchmarks.support.submitted import score_job
from benchmarks.support.workloads import SHORT, Texts, random_checkpoint, vocabulary_of

_PARTITIONS = 20
_EVERY = 5.0  # seconds
WORKERS, JVM, DRIVER = "Python workers", "JVM", "driver's Python"


@dataclass(frozen=True)
class Sample:
    """The memory of all processes of one kind together at one moment, in bytes."""

    seconds: float
    kind: str
    processes: int
    resident: int
    private: int
    """memory that would be free if they ended: pages that no other process has mapped"""


def main() -> None:
    flags = parser(__doc__, "short", "vocabulary", size="minilm")
    flags.add_argument("--texts", type=int, default=500_000)
    args = flags.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        seconds, samples = soaked(Path(scratch), args)
    result = {"size": args.size, "texts": args.texts, "seconds": seconds, "growth": growth(samples, seconds)}
    print(_table(result))
    if args.output:
        result["samples"] = [vars(s) for s in samples]
        save(args.output, result)


def soaked(scratch: Path, args: argparse.Namespace) -> tuple[float, list[Sample]]:
    """Run the job on the texts; return the seconds that it took, and the memory at many moments."""
    model = random_checkpoint(scratch / "model", vocabulary_of(args.vocabulary), args.size)
    texts = Texts(args.short).of(SHORT, args.texts)
    for k in range(_PARTITIONS):
        part = texts[k::_PARTITIONS]
        folder = scratch / "corpus" / f"part={k:02d}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"doc_id": [f"{k}-{i}" for i in range(len(part))], "text": part}), folder / "0.parquet")
    settings = {
        "input.path": scratch / "corpus", "output.path": scratch / "scores", "model.path": model,
        "model.precision": "fp32",
    }  # fmt: skip
    result, samples = scratch / "result.json", list[Sample]()
    started = time.monotonic()
    with score_job(settings, scratch / "log", "--result", str(result), spark=["--driver-memory", "1g"]) as job:
        while job.poll() is None:
            samples += _look(job.pid, time.monotonic() - started)
            time.sleep(_EVERY)
        seconds = time.monotonic() - started
    if (found := json.loads(result.read_text())["documents_out"]) != args.texts:
        raise SystemExit(f"{args.texts} texts in, {found} out")
    return seconds, samples


def growth(samples: Sequence[Sample], seconds: float) -> dict[str, dict[str, float]]:
    """Median bytes per process by kind: at 10 to 20 % of the run (start) and at 88 to 98 % (end)."""
    found: dict[str, dict[str, float]] = {}
    for kind in (WORKERS, JVM, DRIVER):
        of_kind = [s for s in samples if s.kind == kind]
        windows = {"start": (0.1, 0.2), "end": (0.88, 0.98)}
        found[kind] = {"processes": max((s.processes for s in of_kind), default=0)}
        for moment, (first, last) in windows.items():
            near = [s for s in of_kind if first * seconds <= s.seconds <= last * seconds]
            for what in ("resident", "private"):
                found[kind][f"{what}_{moment}"] = statistics.median(getattr(s, what) / s.processes for s in near)
    return found


def _look(root: int, seconds: float) -> list[Sample]:
    """The memory of Spark's JVM, which is `root`, the driver's Python below it, and the workers below its daemon."""
    parent, name = dict[int, int](), dict[int, str]()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended since
                parent[int(entry.name)] = int(Path(entry.path, "stat").read_text().rpartition(")")[2].split()[1])
                name[int(entry.name)] = Path(entry.path, "cmdline").read_text()
    children = [p for p in parent if parent[p] == root]
    daemons = [p for p in children if "daemon" in name[p]]
    kinds = {
        JVM: [root],
        DRIVER: [p for p in children if p not in daemons and "score.py" in name[p]],
        WORKERS: [p for p in parent if parent[p] in daemons],
    }
    found = []
    for kind, processes in kinds.items():
        sizes = [size for process in processes if (size := held(process)) is not None]
        if sizes:
            resident, private = sum(size.resident for size in sizes), sum(size.private for size in sizes)
            found.append(Sample(seconds, kind, len(sizes), resident, private))
    return found


def _table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['size']} in fp32, {result['texts']:,} messages in {result['seconds'] / 60:.0f} minutes; MB a process",
        f"{'':>17} {'processes':>10} {'resident, start':>16} {'end':>7} {'private, start':>16} {'end':>7}",
    ]
    for kind, of in result["growth"].items():
        line = (
            f"{kind:>17} {of['processes']:10.0f} {of['resident_start'] / 1e6:16,.0f} {of['resident_end'] / 1e6:7,.0f}"
        )
        lines.append(f"{line} {of['private_start'] / 1e6:16,.0f} {of['private_end'] / 1e6:7,.0f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
