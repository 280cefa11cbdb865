"""The one interface to files outside Spark, implemented here for local disks and in hadoop.py for other storage."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import glob
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:/")
_GLOB_CHARACTERS = frozenset("*?[{")
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class FileInfo:
    """A file: its path, size in bytes, modification time in seconds, and its content's tag where the store has one."""

    path: str
    size: int
    modified: float
    etag: str = ""


class FileSystem(Protocol):
    """The storage operations of a table. Paths are absolute and in the file system's own form. Errors are OSErrors."""

    def expand(self, path: str) -> list[str]:
        """The existing paths that a path or glob names."""

    def files(self, root: str) -> Iterator[FileInfo]:
        """Every file below `root`, or `root` itself if it is one, in one pass."""

    def exists(self, path: str) -> bool: ...

    def names(self, directory: str) -> list[str]:
        """The sorted names in a directory; empty if the directory does not exist."""

    def make_directory(self, path: str) -> None: ...

    def read(self, path: str) -> str:
        """The content of a small file."""

    def put(self, path: str, content: str, private: bool = False) -> None:
        """Write a small file whole or not at all; only its owner and the owner's group may read a private one."""

    def swap_in(self, new: str, target: str) -> None:
        """Put directory `new` in the place of `target`; the old directory, if any, is at `new` afterwards."""

    def move(self, source: str, target: str) -> None:
        """Rename a file or directory; makes the target's parent directory if needed, and a file replaces a file."""

    def delete(self, path: str) -> None:
        """Remove a file or a directory tree, if it exists."""

    def tail(self, path: str, size: int) -> bytes:
        """The last bytes of a file, at most so many."""

    def each(self, work: Callable[[_Item], None], items: Iterable[_Item]) -> None:
        """Call `work` for every item, for several items at once where the storage is remote.

        After an error no further call begins; the error is raised when the calls that had begun have ended.
        """

    def hold(self, path: str, content: str) -> AbstractContextManager[Callable[[], bool]] | None:
        """Take the lock file at `path` and write to it who holds it; None if another run does.

        If a holder dies, however suddenly, its lock becomes free. The block is given a function that tells whether the
        lock is still ours. It is called before every commit, and raises OSError where it can't tell.
        """


_LISTINGS = 5


class LocalFileSystem:
    """Local and mounted disks, without a detour over the JVM."""

    def expand(self, path: str) -> list[str]:
        if os.path.exists(path):
            return [path]
        if not _GLOB_CHARACTERS & set(path):
            return []
        patterns = [pattern.replace("[^", "[!") for pattern in alternatives(path)]
        return sorted({found for pattern in patterns for found in glob.glob(pattern)})

    def files(self, root: str) -> Iterator[FileInfo]:
        for _ in range(_LISTINGS - 1):
            # A path that has just vanished may be back at once: a directory that was being replaced.
            with contextlib.suppress(FileNotFoundError):
                return iter(list(self._list(root)))
            if not os.path.exists(root):
                break
        return self._list(root)

    def _list(self, root: str) -> Iterator[FileInfo]:
        if os.path.isfile(root):
            status = os.stat(root)
            yield FileInfo(root, status.st_size, status.st_mtime)
            return
        with os.scandir(root) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                try:
                    if entry.is_dir():
                        yield from self._list(entry.path)
                    else:
                        status = entry.stat()
                        yield FileInfo(entry.path, status.st_size, status.st_mtime)
                except FileNotFoundError:
                    # Temporary files of other writers, such as Spark's _temporary, may vanish: nobody else uses them.
                    if not entry.name.startswith(("_", ".")):
                        raise

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def names(self, directory: str) -> list[str]:
        try:
            return sorted(os.listdir(directory))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def make_directory(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def read(self, path: str) -> str:
        return Path(path).read_bytes().decode()

    def put(self, path: str, content: str, private: bool = False) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        aside = f"{path}.tmp"  # a fixed name, so that the next run overwrites what a killed one has left
        try:
            with open(aside, "w", encoding="utf-8") as file:
                if private:
                    os.fchmod(file.fileno(), 0o640)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(aside)

    def swap_in(self, new: str, target: str) -> None:
        if not os.path.exists(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.rename(new, target)
        elif not _exchange(new, target):
            old = new + ".old"
            os.rename(target, old)
            try:
                os.rename(new, target)
            except BaseException:  # Ctrl-C too
                os.rename(old, target)
                raise
            os.rename(old, new)

    def move(self, source: str, target: str) -> None:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.replace(source, target)

    def delete(self, path: str) -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def tail(self, path: str, size: int) -> bytes:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read()

    def each(self, work: Callable[[_Item], None], items: Iterable[_Item]) -> None:
        for item in items:
            work(item)

    def hold(self, path: str, content: str) -> AbstractContextManager[Callable[[], bool]] | None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        # Written in place: the lock belongs to the file's inode, so the file must not be replaced.
        os.ftruncate(file, 0)
        os.pwrite(file, content.encode(), 0)
        return _held(file)


@contextlib.contextmanager
def _held(file: int) -> Iterator[Callable[[], bool]]:
    try:
        yield lambda: True  # the kernel takes it from nobody
    finally:
        os.close(file)


def alternatives(pattern: str) -> list[str]:
    """Hadoop's braces, which Python's glob does not know: a/{b,c} -> a/b, a/c."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [found for choice in match[1].split(",") for found in alternatives(before + choice + after)]


def _exchange(a: str, b: str) -> bool:
    """Exchange two paths in one step, so that a reader always finds one of them; False where the system can't."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    if renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), b)


def is_uri(path: str) -> bool:
    """Whether the path begins with a scheme, also file: of the local disk; hdfs:/a has one, as hdfs://host/a does.

    A colon alone makes none: a file's name may hold a time.
    """
    return _SCHEME.match(path) is not None


def local_path(uri: str) -> str | None:
    """The plain path of a local URI such as file:///a/b, or None if it is of another file system."""
    if uri.startswith("file:"):
        return str(Path("/" + uri.removeprefix("file:").lstrip("/")))
    return uri if uri.startswith("/") else None
