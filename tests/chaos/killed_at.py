"""jobs/score.py in a process group of its own, which is killed at a chosen moment: SIGKILL, the driver's JVM with it.

    python killed_at.py     reads an order a line, the fields of `Order` as JSON, and carries it out at once

One process takes many orders, and forks for each, so that what takes long to import is imported once. How a run ended
stands in ended.json of its working directory.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent.parent
BEFORE, DURING, AFTER = "before", "during", "after"
ANY = "any operation"
WRITE = "write rows"
"""What Spark's write of a step is called among the operations."""

# One core, no code generation, no second compiler: the time goes into starting, and these rows are few.
SUBMIT = (
    "--master local[1] --conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=1 "
    "--conf spark.sql.codegen.wholeStage=false --conf spark.sql.codegen.factoryMode=NO_CODEGEN "
    "--driver-java-options '-XX:TieredStopAtLevel=1 -XX:+UseSerialGC' pyspark-shell"
)


Describe = Callable[..., tuple[str, str]]

_SET_CHILD_SUBREAPER = 36
_IMPORTED = (
    "torch",
    "pyiceberg.catalog.sql",
    "pyiceberg.io.pyarrow",
    "bigfive_udf.model.artifact",
    "bigfive_udf.spark.job.execution",
)


@dataclass(frozen=True)
class Order:
    """A run of the job, and when it dies: at the `nth` operation called `what`, which may be ANY; without it never."""

    arguments: Sequence[str]
    directory: str
    """the working directory, where what is printed goes"""
    output: str
    what: str = ""
    nth: int = 1
    moment: str = BEFORE
    seconds: float = 0.0
    """how long after the beginning of Spark's write, where that is the operation and the moment is during it"""
    two_renames: bool = False
    """as on a file system that can't exchange two directories"""


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code, or minus the signal; and the operations that had begun."""

    code: int
    operations: list[dict[str, Any]] = field(repr=False)
    printed: str = ""


@dataclass(frozen=True)
class Started:
    """A run under way."""

    order: Order

    def wait(self, timeout: float = 300) -> Ended:
        answer, deadline = Path(self.order.directory) / "ended.json", time.monotonic() + timeout
        while not answer.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no end of {self.order}")
            time.sleep(0.02)
        log = Path(self.order.directory) / "operations.jsonl"
        operations = [json.loads(line) for line in log.read_text().splitlines()]
        code = json.loads(answer.read_text())["code"]
        return Ended(code, operations, (Path(self.order.directory) / "printed.txt").read_text())


class Killer:
    """The process that takes orders."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        more = {"OMP_NUM_THREADS": "1", "PYSPARK_SUBMIT_ARGS": SUBMIT, "PYSPARK_PYTHON": sys.executable}
        self._process = subprocess.Popen(
            [sys.executable, __file__], cwd=directory, env={**environment, **more}, text=True, start_new_session=True,
            stdin=subprocess.PIPE,
        )  # fmt: skip

    def start(self, order: Order) -> Started:
        assert self._process.stdin is not None
        Path(order.directory).mkdir(parents=True)
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        return Started(order)

    def run(self, order: Order) -> Ended:
        return self.start(order).wait()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


class Watch:
    """Counts the operations of a run, and ends it at the chosen one: `die` does not come back, or raises each time."""

    def __init__(
        self, order: Order, die: Callable[[], None], put_in: Callable[[Any, str, Any], None] = setattr
    ) -> None:
        self.dead = False
        self._order = order
        self._die = die
        self._put_in = put_in
        self._counts: Counter[str] = Counter()
        self._log = os.path.join(order.directory, "operations.jsonl")
        self._lock = threading.Lock()

    def operation(self, what: str, path: str, do: Callable[[], Any], halfway: Callable[[], None]) -> Any:
        """Do something; `halfway` arranges that the process dies in the middle of it."""
        mine = self._is_chosen(what, path)
        if self.dead or (mine and self._order.moment == BEFORE):
            self.end()
        if mine and self._order.moment == DURING:
            halfway()
        result = do()
        if mine:
            self.end()
        return result

    def end(self) -> None:
        self.dead = True
        self._die()

    def _is_chosen(self, what: str, path: str) -> bool:
        with self._lock:
            self._counts[what] += 1
            self._counts[ANY] += 1
            line = {"what": what, "nth": self._counts[what], "path": path, "time": round(time.monotonic(), 3)}
            with open(self._log, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            return self._order.what in (what, ANY) and self._counts[self._order.what] == self._order.nth

    def wrap(
        self, owner: Any, name: str, describe: Callable[..., tuple[str, str]], halfway: Callable[[], None]
    ) -> None:
        """Let `owner.name` be an operation; `describe` tells from its arguments what it is called, and its path."""
        real = getattr(owner, name)

        def wrapped(*args: Any, **options: Any) -> Any:
            what, path = describe(*args)
            return self.operation(what, path, lambda: real(*args, **options), halfway)

        self._put_in(owner, name, wrapped)


def die() -> None:
    """The whole process group ends here and now; a call of this does not come back."""
    os.killpg(0, signal.SIGKILL)


def role(path: str, output: str) -> str:
    """What a path is to the table."""
    if path.startswith(f"{output}.job/"):
        below = path.removeprefix(f"{output}.job/")
        first, _, rest = below.partition("/")
        if first == "runs":
            return "log" if rest.endswith(".log") else "record"
        if first == "staging":
            return "marker" if rest.endswith("_SUCCESS") else "replaced" if "/" in rest else "staging"
        return {"commit.json": "journal", "table.json": "description"}.get(first, first)
    below = path.removeprefix(output).strip("/")
    first, _, rest = below.partition("/")
    if first in ("metadata", "data"):
        kind = "snapshot" if os.path.basename(rest).startswith("snap-") else os.path.splitext(rest)[1].strip(".")
        return first if first == "data" or not rest else f"metadata {kind}"
    return "partition" if below else "table"


def watch_files(watch: Watch, output: str) -> None:
    """The operations of the local file system."""
    from bigfive_udf.tables.filesystem import LocalFileSystem

    def halfway() -> None:
        replace, rename, unlink = os.replace, os.rename, os.unlink
        os.replace = lambda *args, **options: die()  # written aside, not yet in its place
        os.rename = lambda *args, **options: (rename(*args, **options), die())
        os.unlink = lambda *args, **options: (unlink(*args, **options), die())
        assert replace is not os.replace

    for name in ("put", "delete", "make_directory", "hold"):
        watch.wrap(LocalFileSystem, name, lambda _, path, *rest, n=name: (f"{n} {role(path, output)}", path), halfway)
    for name in ("swap_in", "move"):
        watch.wrap(LocalFileSystem, name, lambda _, a, b, n=name: (f"{n} {role(b, output)}", b), halfway)


def watch_spark(watch: Watch, order: Order) -> None:
    """The writes of Spark, of which there is one a step."""
    from bigfive_udf.spark.job import steps

    def halfway() -> None:
        timer = threading.Timer(order.seconds, die)
        timer.daemon = True
        timer.start()

    watch.wrap(steps, "write_staged", lambda scores, keys, path, *rest: (WRITE, path), halfway)


def watch_iceberg(watch: Watch, output: str) -> None:
    """The files that pyiceberg writes, and its commits to the catalog."""
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.io.pyarrow import PyArrowFile
    from sqlalchemy.orm import Session

    def not_committed() -> None:
        Session.commit = lambda self: die()  # type: ignore[method-assign]

    def path_of(file: Any) -> str:
        return str(file.location).removeprefix("file://")

    # There is a file, and nothing in it.
    empty = lambda: None  # noqa: E731
    watch.wrap(
        PyArrowFile, "create", lambda file, *rest: (f"create {role(path_of(file), output)}", path_of(file)), empty
    )
    watch.wrap(SqlCatalog, "commit_table", lambda *args: ("commit catalog", ""), not_committed)


def shorten_the_ledger() -> None:
    """Let it be taken up in one file after a few commits, not after many nights."""
    from bigfive_udf.tables import ledger

    ledger._MOST_FILES = 4


def run(order: Order) -> None:
    """Be the job."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(order.directory)
    printed = os.open("printed.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(printed, stream)
    shorten_the_ledger()
    if order.two_renames:
        from bigfive_udf.tables import filesystem

        filesystem._exchange = lambda a, b: False
    watch = Watch(order, die)
    watch_files(watch, order.output)
    watch_spark(watch, order)
    watch_iceberg(watch, order.output)
    script = str(REPOSITORY / "jobs" / "score.py")
    sys.argv = [script, *order.arguments]
    runpy.run_path(script, run_name="__main__")


def carry_out(order: Order) -> None:
    """Let a process be the job, and write down how it ended, when all that it had started has ended too."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what it leaves behind becomes a child of this process
    child = os.fork()
    if child == 0:
        run(order)
        os._exit(70)  # the job ends with sys.exit
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    answer = os.path.join(order.directory, "ended.json")
    Path(f"{answer}.tmp").write_text(json.dumps({"code": os.waitstatus_to_exitcode(status)}))
    os.replace(f"{answer}.tmp", answer)
    os._exit(0)


def serve() -> None:
    for name in _IMPORTED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    for line in iter(sys.stdin.readline, ""):
        if os.fork() == 0:
            carry_out(Order(**json.loads(line)))


if __name__ == "__main__":
    serve()
