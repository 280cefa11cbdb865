"""A part of the cluster dies while it works: the run goes on, ends with 0, and the table is the same."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chaos.figures import Figures
from chaos.tables import Seen, check_whole, same_rows
from support.cluster import standalone_cluster, submit, tasks_by_worker
from support.models import TRAINING_TEXT

pytestmark = pytest.mark.chaos

PARTITIONS = 4
ROWS = 1500
EXECUTOR = "CoarseGrainedExecutorBackend"
WORKER = "deploy.worker.Worker"
PYTHON = "pyspark.daemon"


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    command: str

    @property
    def spent(self) -> float:
        """Seconds on a processor so far; 0 where it has ended."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def processes() -> Iterator[Process]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            yield Process(int(entry.name), parent, command)


def below(pid: int) -> list[Process]:
    """The processes that a process has started, and that those have, the nearest first."""
    everything = list(processes())
    found: list[Process] = []
    parents = {pid}
    while parents:
        children = [p for p in everything if p.parent in parents]
        found += children
        parents = {p.pid for p in children}
    return found


@dataclass
class Blow:
    """What is killed in one run, as soon as there is one of it that has scored for a moment."""

    what: str
    master: str
    """the cluster's address, which its workers have in their command line"""
    delay: float = 1.0
    killed: list[str] = field(default_factory=list)

    def strike(self, over: threading.Event) -> None:
        while not over.wait(0.1):
            workers = [p for p in processes() if WORKER in p.command and self.master in p.command]
            for worker in workers:
                executors = [p for p in below(worker.pid) if EXECUTOR in p.command]
                scoring = [
                    (executor, python)
                    for executor in executors
                    for python in below(executor.pid)
                    if PYTHON in python.command and not below(python.pid)
                ]
                busy = [(executor, python) for executor, python in scoring if python.spent > 1.0]
                if not busy:
                    continue
                time.sleep(self.delay)
                executor, python = busy[0]
                self._kill(worker, executor, python)
                return

    def _kill(self, worker: Process, executor: Process, python: Process) -> None:
        """The victim alone, or all of a machine."""
        victims = {
            "a Python worker": [python],
            "an executor": [executor],
            "a whole worker": [worker, *below(worker.pid)],
        }[self.what]
        for victim in victims:
            try:
                os.kill(victim.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            self.killed.append(victim.command[:60])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of many windows each, so that scoring lasts."""
    root = tmp_path_factory.mktemp("corpus") / "c"
    for day in range(1, PARTITIONS + 1):
        folder = root / f"dt=2026-04-{day:02d}"
        folder.mkdir(parents=True)
        ids = [f"{day}-{i}" for i in range(ROWS)]
        texts = [f"{day} {i} " + " ".join(TRAINING_TEXT[(day + i) % 5].split() * (1 + i % 60)) for i in range(ROWS)]
        pq.write_table(pa.table({"doc_id": ids, "text": texts}), folder / "part-0.parquet")
    return root


@pytest.fixture(scope="module")
def basics(corpus: Path, checkpoint: Callable[..., Path]) -> dict[str, Any]:
    return {
        "input.path": str(corpus),
        "model.path": str(checkpoint()),
        "model.precision": "fp32",
        "commit_every.partitions": 2,
        "batching.max_batch_tokens": 128,
    }


@pytest.fixture(scope="module")
def undisturbed(basics: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    directory = tmp_path_factory.mktemp("undisturbed")
    seen = Seen("parquet", directory / "scores")
    done = submit(basics | seen.settings, directory=directory)
    assert done.code == 0, done.err
    return seen.rows()


@pytest.mark.parametrize("kind", ["parquet", "iceberg"])
@pytest.mark.parametrize("what", ["a Python worker", "an executor", "a whole worker"])
def test_a_run_survives_the_death_of(
    what: str, kind: str, basics: dict[str, Any], undisturbed: pa.Table, tmp_path: Path, figures: Figures
) -> None:
    seen = Seen(kind, tmp_path / "scores")
    with standalone_cluster(tmp_path) as master:
        blow, over = Blow(what, master), threading.Event()
        striking = threading.Thread(target=blow.strike, args=(over,))
        striking.start()
        try:
            done = submit(basics | seen.settings, directory=tmp_path, master=master)
        finally:
            over.set()
            striking.join()
    assert blow.killed, "the run was over before anything could be killed"
    assert done.code == 0, done.out + done.err
    assert sum(tasks_by_worker(tmp_path)) > 0
    check_whole(seen)
    same_rows(seen.rows().select(undisturbed.schema.names), undisturbed)
    evaluated = done.result["documents_evaluated"]
    figures.add("a part of the cluster killed", f"{kind}, {what}: processes killed", len(blow.killed))
    figures.add("a part of the cluster killed", f"{kind}, {what}: documents / evaluated",
                f"{PARTITIONS * ROWS:,} / {evaluated:,}")  # fmt: skip
