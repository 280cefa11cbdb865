"""One writer: who holds a table, and the line that a second run ends with."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bigfive_udf.errors import TableLockedError
from bigfive_udf.runs import Run
from bigfive_udf.tables.failures import as_output_error
from bigfive_udf.tables.filesystem import FileSystem


@contextmanager
def only_writer(fs: FileSystem, path: str, table: str, run: Run) -> Iterator[Callable[[], bool]]:
    """Hold the table while the block runs; what it is given tells whether it is still held.

    Raises:
        TableLockedError: another run holds it.
        OutputError: the lock file can't be written.
    """
    about = {"host": platform.node(), "pid": os.getpid(), "run_id": run.run_id, "since": run.started.isoformat()}
    with as_output_error(path):
        lock = fs.hold(path, json.dumps(about) + "\n")
    if lock is None:
        raise TableLockedError(f"{table} is held by another run ({_holder(fs, path)}): wait for it, or stop it")
    with lock as held:
        yield held


def _holder(fs: FileSystem, path: str) -> str:
    for _ in range(10):
        time.sleep(0.2)  # it takes the lock first, and writes its name over that of the run before
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
            about = json.loads(fs.read(path).splitlines()[0])
            since = about["since"].split(".")[0]
            return f"run {about['run_id']}, process {about['pid']} on {about['host']}, since {since} UTC"
    return "which has only just begun"
