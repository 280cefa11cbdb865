"""One unpacked copy of a bundle per machine and user, whatever the number of processes that map it.

The directory is named by the bundle's digest, belongs to this user alone (0700), is written aside under a file lock
and renamed into place, so that a process sees it whole or not at all. Copies that no run has used for a week
are deleted when another is written. A process that still maps one is not disturbed: the kernel keeps mapped files.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from bigfive_udf.errors import ArtifactError, OutputError

_log = logging.getLogger(__name__)

CURE = "free space or set TMPDIR, on a cluster spark.executorEnv.TMPDIR"
_KEEP_SECONDS = 7 * 24 * 3600


def unpacked(digest: str, files: Callable[[], dict[str, bytes]]) -> Path:
    """The directory of the bundle with this digest; `files` is called only if the machine has no whole copy.

    Raises:
        OutputError: the directory for temporary files belongs to somebody else, can't be written, or is full.
        ArtifactError: the name of a file in the bundle leads out of the directory.
    """
    root = own_directory()
    target = root / digest
    with locked(root):
        with contextlib.suppress(FileNotFoundError):
            os.utime(target)  # marks it as in use for the next `_prune`, which holds this lock
        if not _is_whole(target):
            if target.exists():
                _log.warning("this machine's copy of the model was not whole, it is written again")
            shutil.rmtree(target, ignore_errors=True)  # the rest that a cleaner of temporary files has left
            _write(root, target, files())
            _prune(root, keep=target)
    return target


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the lock of the directory `root` while the block runs; other processes that call this wait.

    Raises:
        OutputError: the file of the lock can't be opened.
    """
    try:
        lock = (root / "lock").open("w")
    except OSError as error:
        raise OutputError(f"{root / 'lock'} can't be opened ({error.strerror}); {CURE}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_whole(target: Path) -> bool:
    """Whether every written file is there in full size.

    Cleaners of temporary files delete files one by one, and a power failure may leave a file without its content.
    """
    try:
        sizes = json.loads(_list_of(target).read_text())
        return all((target / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _list_of(target: Path) -> Path:
    return target.parent / f".{target.name}.files"


def own_directory(purpose: str = "") -> Path:
    """A directory for temporary files that this user alone can enter, one per purpose.

    Raises:
        OutputError: the directory belongs to somebody else, others can enter it, or it can't be made.
    """
    try:
        root = Path(tempfile.gettempdir()) / f"bigfive_udf-{os.getuid()}{purpose}"
        with contextlib.suppress(FileExistsError):
            root.mkdir(mode=0o700)
    except OSError as error:
        raise OutputError(f"no directory for temporary files can be made ({error.strerror}); {CURE}") from error
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise OutputError(
            f"{root} is not a directory of this user alone: remove it, or set TMPDIR, on a cluster "
            "spark.executorEnv.TMPDIR, to another directory"
        )
    return root


def _write(root: Path, target: Path, files: dict[str, bytes]) -> None:
    aside = root / f".writing-{uuid.uuid4().hex}"
    try:
        aside.mkdir(mode=0o700)
        for name, content in files.items():
            if os.path.basename(name) != name or name in ("", ".", ".."):
                raise ArtifactError(f"the bundle holds a file {name!r}, which is no plain name: pack the model again")
            (aside / name).write_bytes(content)
        _list_of(target).write_text(json.dumps({name: len(content) for name, content in files.items()}))
        aside.rename(target)
    except OSError as error:
        size = sum(map(len, files.values()))
        raise OutputError(f"{root}: {size >> 20} MB of model can't be written ({error.strerror}); {CURE}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _prune(root: Path, keep: Path) -> None:
    oldest = time.time() - _KEEP_SECONDS
    for entry in root.iterdir():
        if entry.is_dir() and entry != keep and entry.stat().st_mtime < oldest:
            shutil.rmtree(entry, ignore_errors=True)
            _list_of(entry).unlink(missing_ok=True)
