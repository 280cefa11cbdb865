"""A run of the score job in all that concerns the table, without Spark and a model: a process of it costs little."""

from __future__ import annotations

import multiprocessing
import os
import platform
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bigfive_udf.errors import TableLockedError
from bigfive_udf.runs import Run
from bigfive_udf.settings.score import OutputSettings, RetentionSettings
from bigfive_udf.spark.job.scoring import staged_keys
from bigfive_udf.tables.commit import Commit
from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.tables.ledger import COMMITTED, Entry, removed
from bigfive_udf.tables.opening import OpenTable, open_to_write
from bigfive_udf.tables.partitions import partition_name
from bigfive_udf.tables.records import cleaned
from bigfive_udf.tables.score_table import ScoreTable, staged_files

COLUMN = "dt"
DAYS = tuple(f"2026-05-{day:02d}" for day in range(1, 13))
ALWAYS = DAYS[:8]
"""Days that every night has rows of; the others may be emptied or removed."""


def processes() -> Any:
    """Where light runs are started: each is a fork of a process that has imported this, and nothing else."""
    here = str(Path(__file__).resolve().parent.parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        dict.fromkeys([here, *os.environ.get("PYTHONPATH", here).split(os.pathsep)])
    )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "chaos.reader", "pyiceberg.catalog.sql", "pyiceberg.io.pyarrow"])
    return context


def opened(kind: str, output: str, run: Run) -> Any:
    return open_to_write(LocalFileSystem(), output, OutputSettings(path=output, format=kind), run)


@dataclass(frozen=True)
class Step:
    """Rows that are staged: how many of each day, None where it is to be removed."""

    commit: str
    staging: str
    rows: Mapping[str, int | None]


def night(kind: str, output: str, seed: int, rounds: int = 5) -> None:
    """Replace every partition some times, empty or remove some of the last ones, and tidy up.

    All is staged first, so that most of the time goes into commits, which is where readers and kills must find it.
    """
    dice, run = random.Random(seed), Run("score")
    with opened(kind, output, run) as table, cleaned(table, RetentionSettings(trash_days=0)):
        shaped = table.shaped((COLUMN,))
        committer, steps = table.committer(shaped), []
        for at in [at for _ in range(rounds) for at in range(0, len(DAYS), 3)]:
            commit = f"{run.run_id}-{len(steps) + 1:04d}"
            rows = {d: dice.randint(1, 6) if d in ALWAYS else dice.choice([None, 0, 2, 5]) for d in DAYS[at : at + 3]}
            steps.append(Step(commit, shaped.staging(commit), rows))
            for day, number in rows.items():
                for file in range(min(number or 0, 2)):
                    stage(shaped, steps[-1], run, day, file, number or 0)
        for step in steps:
            if entries := _entries(table, shaped, run, step):
                committer.commit(Commit(step.commit, step.staging, entries))
            else:
                shaped.abandon(step.commit)


def _entries(table: OpenTable, shaped: ScoreTable, run: Run, step: Step) -> tuple[Entry, ...]:
    known, staged = table.ledger.committed, staged_files(shaped.fs, step.staging)
    about: dict[str, Any] = {"sequence": table.ledger.sequence + 1, "commit": step.commit, "run_id": run.run_id}
    about["committed_at"] = run.started.isoformat()
    entries = []
    for day, number in step.rows.items():
        name = partition_name((COLUMN,), (day,))
        if number is not None:
            entry = Entry(name, {COLUMN: day}, COMMITTED, documents=number, **about)
            entries.append(replace(entry, files=shaped.table_files(step.commit, name, staged.get((day,), ()))))
        elif name in known:
            entries.append(removed(known[name], **about))
    return tuple(entries)


def stage(shaped: ScoreTable, step: Step, run: Run, day: str, file: int, number: int) -> None:
    """What Spark writes: rows of a partition, each of whose ids says of how many it is one, and a checksum."""
    ids = [document(day, step.commit, i, number) for i in range(number) if i % min(number, 2) == file]
    columns: dict[str, Any] = {"doc_id": ids, "run_id": [run.run_id] * len(ids)}
    if shaped.keeps_keys_in_files:
        columns[COLUMN] = [day] * len(ids)
    keys = staged_keys((COLUMN,), shaped.keeps_keys_in_files)
    folder = Path(step.staging) / partition_name(keys, (day,))
    folder.mkdir(parents=True, exist_ok=True)
    name = f"part-{file:05d}-{step.commit}.parquet"
    pq.write_table(pa.table(columns), folder / name)
    (folder / f".{name}.crc").write_bytes(b"crc")


def document(day: str, version: str, row: int, rows: int) -> str:
    """An id by which a reader can tell whether all rows of a partition's version are there."""
    return f"{day} {version} {row} of {rows}"


def contend(kind: str, output: str, barrier: Any, seconds: float, answers: Any) -> None:
    """Try to hold the table from the moment when all are ready, for a while; tell who was the one."""
    run = Run("score")
    about = {
        "pid": os.getpid(),
        "host": platform.node(),
        "run_id": run.run_id,
        "since": f"{run.started:%Y-%m-%dT%H:%M:%S}",
    }
    barrier.wait()
    try:
        with opened(kind, output, run):
            time.sleep(seconds)
        answers.put(about | {"code": 0, "message": ""})
    except TableLockedError as error:
        answers.put(about | {"code": error.exit_code, "message": str(error)})


def hold(kind: str, output: str, ready: Any) -> None:
    """Hold the table until the end of this process."""
    with opened(kind, output, Run("score")):
        ready.set()
        time.sleep(600)


if __name__ == "__main__":
    night(sys.argv[1], sys.argv[2], int(sys.argv[3]))
