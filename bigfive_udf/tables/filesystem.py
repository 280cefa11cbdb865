"""The one seam to storage: what the job does with files outside Spark, on the local disk or any Hadoop file system."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_GLOB_CHARACTERS = frozenset("*?[{")


@dataclass(frozen=True)
class FileInfo:
    """A file: its path, size in bytes, and modification time in seconds."""

    path: str
    size: int
    modified: float


class FileSystem(Protocol):
    """What a table needs of storage. Paths are absolute and in the file system's own form. Errors are OSErrors."""

    def expand(self, path: str) -> list[str]:
        """The existing paths that a path or glob names."""

    def files(self, root: str) -> Iterator[FileInfo]:
        """Every file below `root`, or `root` itself if it is one, in one pass."""

    def exists(self, path: str) -> bool: ...

    def make_directory(self, path: str) -> None: ...

    def read(self, path: str) -> str:
        """The content of a small file."""

    def put(self, path: str, content: str) -> None:
        """Write a small file whole, or not at all."""

    def swap_in(self, new: str, target: str) -> None:
        """Put directory `new` in the place of `target`; what was there, if anything, lies at `new` afterwards."""

    def delete(self, path: str) -> None:
        """Remove a file or a tree; nothing there is fine."""


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
        if os.path.isfile(root):
            status = os.stat(root)
            yield FileInfo(root, status.st_size, status.st_mtime)
            return
        with os.scandir(root) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                if entry.is_dir():
                    yield from self.files(entry.path)
                else:
                    status = entry.stat()
                    yield FileInfo(entry.path, status.st_size, status.st_mtime)

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def make_directory(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def read(self, path: str) -> str:
        return Path(path).read_bytes().decode()

    def put(self, path: str, content: str) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        aside = f"{path}.{os.getpid()}.tmp"
        try:
            with open(aside, "w", encoding="utf-8") as file:
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

    def delete(self, path: str) -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def alternatives(pattern: str) -> list[str]:
    """Hadoop's braces, which Python's glob does not know: a/{b,c} -> a/b, a/c."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [found for choice in match[1].split(",") for found in alternatives(before + choice + after)]


def _exchange(a: str, b: str) -> bool:
    """Exchange two paths in one step, so that a reader finds either; False where the system can't."""
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


class HadoopFileSystem:
    """hdfs, s3a, gs, abfss and whatever else the cluster's Hadoop knows, over the driver's JVM.

    `jvm` is the session's py4j view, `configuration` its Hadoop configuration.
    """

    def __init__(self, jvm: Any, configuration: Any) -> None:
        self._jvm = jvm
        self._configuration = configuration

    def _at(self, path: str) -> tuple[Any, Any]:
        location = self._jvm.org.apache.hadoop.fs.Path(path)
        return location.getFileSystem(self._configuration), location

    def expand(self, path: str) -> list[str]:
        with _as_os_error(path):
            fs, location = self._at(path)
            if fs.exists(location):
                return [location.toString()]
            return sorted(s.getPath().toString() for s in fs.globStatus(location) or [])

    def files(self, root: str) -> Iterator[FileInfo]:
        with _as_os_error(root):
            fs, location = self._at(root)
            entries = fs.listFiles(location, True)
            while entries.hasNext():
                s = entries.next()
                yield FileInfo(s.getPath().toString(), s.getLen(), s.getModificationTime() / 1000)

    def exists(self, path: str) -> bool:
        with _as_os_error(path):
            fs, location = self._at(path)
            return bool(fs.exists(location))

    def make_directory(self, path: str) -> None:
        with _as_os_error(path):
            fs, location = self._at(path)
            if not fs.mkdirs(location):
                raise OSError(errno.EIO, "the directory was not made", path)

    def read(self, path: str) -> str:
        with _as_os_error(path):
            fs, location = self._at(path)
            stream = fs.open(location)
            try:
                return bytes(self._jvm.org.apache.commons.io.IOUtils.toByteArray(stream)).decode()
            finally:
                stream.close()

    def put(self, path: str, content: str) -> None:
        data = bytearray(content.encode())
        with _as_os_error(path):
            fs, location = self._at(path)
            _, aside = self._at(f"{path}.{secrets.token_hex(4)}.tmp")
            try:
                stream = fs.create(aside, True)
                try:
                    stream.write(data)
                finally:
                    stream.close()
                hadoop = self._jvm.org.apache.hadoop.fs
                overwrite = self._jvm.java.lang.reflect.Array.newInstance(
                    self._jvm.java.lang.Class.forName("org.apache.hadoop.fs.Options$Rename"), 1
                )
                overwrite[0] = getattr(hadoop, "Options$Rename").OVERWRITE
                hadoop.FileContext.getFileContext(location.toUri(), self._configuration).rename(
                    aside, location, overwrite
                )
            finally:
                fs.delete(aside, False)

    def swap_in(self, new: str, target: str) -> None:
        with _as_os_error(target):
            fs, there = self._at(target)
            _, here = self._at(new)
            _, old = self._at(new + ".old")
            if not fs.exists(there):
                fs.mkdirs(there.getParent())
                _rename(fs, here, there)
                return
            _rename(fs, there, old)
            try:
                _rename(fs, here, there)
            except BaseException:  # Ctrl-C too
                _rename(fs, old, there)
                raise
            _rename(fs, old, here)

    def delete(self, path: str) -> None:
        with _as_os_error(path):
            fs, location = self._at(path)
            fs.delete(location, True)


def _rename(fs: Any, source: Any, destination: Any) -> None:
    if not fs.rename(source, destination):
        raise OSError(errno.EIO, f"{source.toString()} could not be renamed", destination.toString())


@contextlib.contextmanager
def _as_os_error(path: str) -> Iterator[None]:
    """Java's exceptions, by their class's last name, as an OSError on `path`."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        java = getattr(error, "java_exception", None)
        if java is None:
            raise
        kind, message = java.getClass().getSimpleName(), java.getMessage() or ""
        code = {"FileNotFoundException": errno.ENOENT, "AccessControlException": errno.EACCES}.get(kind, errno.EIO)
        raise OSError(code, f"{kind}: {message.splitlines()[0] if message else ''}", path) from None


def local_path(uri: str) -> str | None:
    """The plain path of a local URI such as file:///a/b, or None if it is of another file system."""
    if uri.startswith("file:"):
        return str(Path("/" + uri.removeprefix("file:").lstrip("/")))
    return uri if uri.startswith("/") else None
