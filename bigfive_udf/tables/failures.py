"""Errors of the file system, as messages for the user."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from bigfive_udf.errors import OutputError

OUTAGES = (
    "ConnectException",
    "ConnectTimeoutException",
    "SocketTimeoutException",
    "NoRouteToHostException",
    "UnknownHostException",
    "StandbyException",
    "RetriableException",
    "SafeModeException",
    "AWSServiceThrottledException",
    "AWSStatus500Exception",
    "AWSClientIOException",
    "SdkClientException",
)
"""Simple names of Java's exceptions after which the same request may succeed later."""
_CURES = {
    errno.EXDEV: "it must be on one file system with the directory that it lies in: choose one below the mount point",
    errno.ENOSPC: "free space on its disk",
    errno.EAGAIN: "run it again once the storage answers",
    errno.EPERM: "renew its token or key where it has expired, or check its permissions",
}


@contextmanager
def as_output_error(path: str) -> Iterator[None]:
    """Turn an OSError that the block raises into an OutputError, which names `path` and a cure."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        cure = cure_of(error, "check the path, its permissions and the free space")
        raise OutputError(f"{path} can't be written ({reason}): {cure}") from error


def cure_of(error: OSError, otherwise: str) -> str:
    """The cure for this error if it is the same whatever was done with the path, else `otherwise`."""
    return _CURES.get(error.errno or 0, otherwise)
