"""The directories for Spark's shuffles and spills in local mode: one per process, with a lock that ends with it.

<TMPDIR>/bigfive_udf-<uid>-spark/run-<random>/lock     held while the process lives

Spark deletes its files there when it ends. A killed process leaves its texts behind, so the next process deletes every
directory whose lock nobody holds.
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
    """The directory of this process, which this user alone can enter; directories of dead processes are deleted.

    Raises:
        OutputError: the directory can't be made and locked.
    """
    root = node_cache.own_directory("-spark")
    mine = root / f"run-{uuid.uuid4().hex}"
    try:
        with node_cache.locked(root):  # so that nobody finds a directory that is not locked yet
            mine.mkdir(mode=0o700)
            _lock(mine)
            dead = {path: lock for path in root.glob("run-*") if path != mine and (lock := _lock(path)) is not None}
    except OSError as error:
        raise OutputError(f"{mine} can't be made and locked ({error.strerror}); {node_cache.CURE}") from error
    for path, lock in dead.items():  # outside the lock, because this may take a while
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)
    return mine


def _lock(directory: Path) -> int | None:
    """Lock the directory until the returned file descriptor is closed.

    Returns None if another process has the lock or is deleting the directory.
    """
    try:
        file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file
    os.close(file)
    return None
