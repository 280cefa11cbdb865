"""The lock that lets only one run write a table, and the message with which a second run ends."""

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
    """Hold the table while the block runs; the block is given a function that tells whether the table is still held.

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
        time.sleep(0.2)  # the holder takes the lock first, and then overwrites the previous holder's name
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
            about = json.loads(fs.read(path).splitlines()[0])
            since = about["since"].split(".")[0]
            return f"run {about['run_id']}, process {about['pid']} on {about['host']}, since {since} UTC"
    return "which has only just begun"
