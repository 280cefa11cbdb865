"""Where Spark shuffles and spills in local mode: a directory for each process, with a lock that dies with it.

<TMPDIR>/bigfive_udf-<uid>-spark/run-<random>/lock     held while the process lives

Spark removes what it wrote there when it ends. Of a process that was killed the texts would stay, so the next one
removes every directory whose lock nobody holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from functools import cache
from pathlib import Path

from bigfive_udf.errors import OutputError
from bigfive_udf.model import node_cache


@cache
def own_scratch() -> Path:
    """The directory of this process, which this user alone can enter; those of dead processes are removed.

    Raises:
        OutputError: it can't be made.
    """
    root = node_cache.own_directory("-spark")
    mine = root / f"run-{uuid.uuid4().hex}"
    try:
        with node_cache.locked(root):  # so that nobody finds a directory that has not got its lock yet
            mine.mkdir(mode=0o700)
            _lock(mine)
            dead = {path: lock for path in root.glob("run-*") if path != mine and (lock := _lock(path)) is not None}
    except OSError as error:
        raise OutputError(f"{mine} can't be made and locked ({error.strerror}); {node_cache.CURE}") from error
    for path, lock in dead.items():  # which may take a while, and keeps nobody waiting
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)
    return mine


def _lock(directory: Path) -> int | None:
    """Lock the directory while the returned file is open; None where another process has the lock, or removes it."""
    try:
        file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file
    os.close(file)
    return None
