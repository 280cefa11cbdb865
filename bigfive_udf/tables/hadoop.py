"""The interface of filesystem.py for hdfs, s3a, gs, abfss and all else that the cluster's Hadoop has, over the JVM."""

from __future__ import annotations

import contextlib
import errno
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, TypeVar

from bigfive_udf.tables.failures import OUTAGES
from bigfive_udf.tables.filesystem import FileInfo

# A listing comes as one string: Hadoop lists in seconds, but a py4j call for every file would take minutes.
_STATUS = re.compile(
    r"FileStatus\{path=(?P<path>.*?); isDirectory=(?:true|false); length=(?P<size>\d+); "
    r".*?modification_time=(?P<modified>\d+); .*?\}(?:\[eTag='(?P<etag>[^']*)'[^\]]*\])?(?=, \S*FileStatus\{|\]$)",
    re.DOTALL,
)
_RENEW_SECONDS = 20.0
# A lock that was not renewed for so long belongs to a dead run.
_LEASE_SECONDS = 300.0
# Pauses between attempts to read the lock; the last attempt raises its error.
_PAUSES = (0.5, 2.0)
# Storage without an atomic rename: it copies the object and then deletes it.
_OBJECT_STORES = ("s3a", "s3", "gs", "wasb", "wasbs", "oss", "cosn", "obs")
_AT_ONCE = 8
_LISTINGS = 10
_Item = TypeVar("_Item")
_CODES = {
    "FileNotFoundException": errno.ENOENT,
    "AccessControlException": errno.EACCES,
    "AccessDeniedException": errno.EPERM,  # S3 raises it for an expired token too
    "InvalidToken": errno.EPERM,
}
_TAKEN = ("FileAlreadyExistsException", "AlreadyBeingCreatedException", "RemoteFileChangedException")
_PRECONDITION_FAILED = "Status Code: 412"
_ONLY_NEW = "fs.option.create.conditional.overwrite"


class HadoopFileSystem:
    """A `FileSystem` on any file system of Hadoop.

    `jvm` is the session's py4j view, `configuration` its Hadoop configuration.
    """

    def __init__(self, jvm: Any, configuration: Any) -> None:
        self._jvm = jvm
        self._configuration = configuration
        # Looked up once: py4j asks the JVM for every part of such a name.
        self._path: Any = jvm.org.apache.hadoop.fs.Path
        self._streams: Any = jvm.org.apache.commons.io.IOUtils
        self._iterators: Any = jvm.org.apache.hadoop.util.functional.RemoteIterators
        self._contexts: Any = jvm.org.apache.hadoop.fs.FileContext

    @cached_property
    def _overwriting(self) -> Any:
        """Options.Rename.OVERWRITE, in an array as Java takes it."""
        kind = self._jvm.java.lang.Class.forName("org.apache.hadoop.fs.Options$Rename")
        options = self._jvm.java.lang.reflect.Array.newInstance(kind, 1)
        options[0] = getattr(self._jvm.org.apache.hadoop.fs, "Options$Rename").OVERWRITE
        return options

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_AT_ONCE)

    def _at(self, path: str) -> tuple[Any, Any]:
        location = self._path(path)
        return location.getFileSystem(self._configuration), location

    def expand(self, path: str) -> list[str]:
        with _as_os_error(path):
            fs, location = self._at(path)
            if fs.exists(location):
                return [location.toString()]
            return sorted(s.getPath().toString() for s in fs.globStatus(location) or [])

    def files(self, root: str) -> Iterator[FileInfo]:
        for _ in range(_LISTINGS - 1):
            try:
                return iter(list(self._list(root)))
            except OSError as error:
                # If others remove a directory below, such as Spark's _temporary, the whole listing fails; Hadoop's
                # local file system has several errors for that.
                if error.errno not in (errno.ENOENT, errno.EIO) or not self.exists(root):
                    raise
        return self._list(root)

    def _list(self, root: str) -> Iterator[FileInfo]:
        with _as_os_error(root):
            fs, location = self._at(root)
            listed = self._iterators.toList(fs.listFiles(location, True))
            found = list(_STATUS.finditer(listed.toString()))
            # Some wrappers, viewfs among them, print no path: then each status is read by itself.
            if len(found) != listed.size() or any(":/" not in m["path"] for m in found):
                for s in listed:
                    yield FileInfo(s.getPath().toString(), s.getLen(), s.getModificationTime() / 1000)
                return
        for m in found:
            yield FileInfo(m["path"], int(m["size"]), int(m["modified"]) / 1000, m["etag"] or "")

    def exists(self, path: str) -> bool:
        with _as_os_error(path):
            fs, location = self._at(path)
            return bool(fs.exists(location))

    def names(self, directory: str) -> list[str]:
        with _as_os_error(directory):
            fs, location = self._at(directory)
            return sorted(s.getPath().getName() for s in fs.listStatus(location)) if fs.exists(location) else []

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
                return bytes(self._streams.toByteArray(stream)).decode()
            finally:
                stream.close()

    def put(self, path: str, content: str, private: bool = False) -> None:
        with _as_os_error(path):
            fs, location = self._at(path)
            if _is_object_store(fs):
                # An object appears whole once its stream is closed; a rename would delete and copy.
                self._overwrite(path, content)  # private or not: the store's own rules say who may read it
                return
            _, aside = self._at(f"{path}.tmp")
            try:
                self._overwrite(f"{path}.tmp", content)
                if private:
                    fs.setPermission(aside, self._jvm.org.apache.hadoop.fs.permission.FsPermission("640"))
                self._replace(fs, aside, location)
            finally:
                fs.delete(aside, False)

    def _overwrite(self, path: str, content: str) -> None:
        """Rewrite a file in place: its name always exists, but readers may find it empty or cut short for a moment."""
        with _as_os_error(path):
            fs, location = self._at(path)
            stream = fs.create(location, True)
            try:
                stream.write(bytearray(content.encode()))
            finally:
                stream.close()

    def _replace(self, fs: Any, source: Any, target: Any) -> None:
        if _is_object_store(fs):
            # A connector need not be set up for FileContext, which could do no better there.
            fs.delete(target, False)
            _rename(fs, source, target)
            return
        context = self._contexts.getFileContext(target.toUri(), self._configuration)
        context.rename(source, target, self._overwriting)

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

    def tail(self, path: str, size: int) -> bytes:
        with _as_os_error(path):
            fs, location = self._at(path)
            stream = fs.open(location)
            try:
                stream.seek(max(0, fs.getFileStatus(location).getLen() - size))
                return bytes(self._streams.toByteArray(stream))
            finally:
                stream.close()

    def each(self, work: Callable[[_Item], None], items: Iterable[_Item]) -> None:
        begun: list[Future[None]] = []
        try:
            for item in items:
                begun.append(self._pool.submit(work, item))
            wait(begun, return_when=FIRST_EXCEPTION)
        finally:  # after Ctrl-C too: calls not awaited would go on when the table is no longer held
            for waiting in begun:
                waiting.cancel()
            wait(begun)
        for done in begun:
            if not done.cancelled():
                done.result()

    def move(self, source: str, target: str) -> None:
        with _as_os_error(target):
            fs, there = self._at(target)
            _, here = self._at(source)
            fs.mkdirs(there.getParent())
            if fs.getFileStatus(here).isFile():
                self._replace(fs, here, there)
            else:
                _rename(fs, here, there)

    def hold(self, path: str, content: str) -> AbstractContextManager[Callable[[], bool]] | None:
        """A lease: a file that only one run can create, that it renews, and that others take over once renewals stop.

        Ages are told by the store's own clock. Where creating a file is not exclusive (S3 without conditional writes),
        two runs that start within a moment of each other may both think that they hold it.
        """
        token = f"{content.rstrip()}\n{secrets.token_hex(8)}\n"
        if self._create(path, token) or self._took_over(path, token):
            return self._leased(path, token)
        return None

    def _took_over(self, path: str, token: str) -> bool:
        """Whether the lock belonged to a dead run and is now ours."""
        if not self._is_dead(path):
            return False
        # Whoever makes this file looks once more and takes the lock; all others leave it alone.
        marker = f"{path}.takeover"
        if not self._create(marker, token):
            if self._is_dead(marker):
                self.delete(marker)
            return False
        try:
            if not self._is_dead(path):
                return False
            self._overwrite(path, token)
            return True
        finally:
            self.delete(marker)

    def _is_dead(self, path: str) -> bool:
        age = self._age(path)
        return age is not None and age >= _LEASE_SECONDS

    def _create(self, path: str, content: str) -> bool:
        with _as_os_error(path):
            fs, location = self._at(path)
            fs.mkdirs(location.getParent())
            try:
                stream = _new_file(fs, location)
                try:
                    stream.write(bytearray(content.encode()))
                finally:
                    stream.close()  # only now does S3 say that another run has created the file
            except Exception as error:
                if _is_taken(getattr(error, "java_exception", None)):
                    return False
                raise
            return True

    def _age(self, path: str) -> float | None:
        """Seconds since the file was written, by the clock of the store; None where it is gone."""
        probe = f"{path}.{secrets.token_hex(4)}.now"
        try:
            with _as_os_error(path):
                fs, location = self._at(path)
                _, now = self._at(probe)
                fs.create(now, True).close()
                try:
                    millis = (
                        fs.getFileStatus(now).getModificationTime() - fs.getFileStatus(location).getModificationTime()
                    )
                    return float(millis) / 1000
                finally:
                    fs.delete(now, False)
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def _leased(self, path: str, token: str) -> Iterator[Callable[[], bool]]:
        ended = threading.Event()
        renewed = [time.monotonic()]
        # Renewing rewrites the file in place: replacing it would, on some stores, leave a moment without a lock.
        one_at_a_time = threading.RLock()

        def still() -> bool:
            """Whether no other run has taken the lock over, or was free to do so."""
            try:
                return time.monotonic() - renewed[0] < _LEASE_SECONDS and self.read(path) == token
            except FileNotFoundError:
                return False

        def ours() -> bool:
            for pause in _PAUSES:
                with contextlib.suppress(OSError), one_at_a_time:
                    return still()
                time.sleep(pause)
            with one_at_a_time:
                return still()

        def renew() -> None:
            while not ended.wait(_RENEW_SECONDS):
                # A failed renewal may succeed the next time, long before anybody may take the lock over.
                with contextlib.suppress(OSError), one_at_a_time:
                    if not still():
                        return
                    self._overwrite(path, token)
                    renewed[0] = time.monotonic()

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield ours
        finally:
            ended.set()
            thread.join()
            with contextlib.suppress(OSError):  # then others will find the lock dead
                if ours():
                    self.delete(path)


def _is_object_store(fs: Any) -> bool:
    return fs.getUri().getScheme() in _OBJECT_STORES


def _new_file(fs: Any, location: Any) -> Any:
    """A stream to a new file, which must not exist yet."""
    if fs.getUri().getScheme() != "s3a":
        return fs.create(location, False)
    # S3A looks for the file first and later overwrites one that was created since, unless its Hadoop knows this option.
    # An older Hadoop ignores the option.
    return fs.createFile(location).overwrite(False).recursive().opt(_ONLY_NEW, True).build()


def _is_taken(java: Any) -> bool:
    """Whether a file could not be created because it exists already."""
    while java is not None:
        if java.getClass().getSimpleName() in _TAKEN or _PRECONDITION_FAILED in (java.getMessage() or ""):
            return True
        java = java.getCause()
    return False


def _rename(fs: Any, source: Any, destination: Any) -> None:
    if not fs.rename(source, destination):
        raise OSError(errno.EIO, f"{source.toString()} could not be renamed", destination.toString())


@contextlib.contextmanager
def _as_os_error(path: str) -> Iterator[None]:
    """Turn a Java exception into an OSError on `path`; its class's simple name decides the error code."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        java = getattr(error, "java_exception", None)
        if java is None:
            raise
        kind, message = java.getClass().getSimpleName(), java.getMessage() or ""
        if kind == "RemoteException":  # it wraps a server's exception and knows the full name of its class
            kind = java.getClassName().rpartition(".")[2]
        code = errno.EAGAIN if kind in OUTAGES else _CODES.get(kind, errno.EIO)
        raise OSError(code, f"{kind}: {message.splitlines()[0] if message else ''}", path) from None
