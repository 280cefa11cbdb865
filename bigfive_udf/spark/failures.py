"""Spark's exceptions as errors for the user: most failures of a night come from the input, the output or settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from bigfive_udf import errors
from bigfive_udf.errors import BigFiveError, InputError, MachinesLostError, OutputError, SettingsError
from bigfive_udf.redaction import first_line
from bigfive_udf.tables.failures import OUTAGES

MALFORMED_RECORD = "BIGFIVE_MALFORMED_RECORD"
"""The error that input/reading.py raises instead of Spark's own error, which quotes the record."""
_RAISED_IN_WORKER = re.compile(r"bigfive_udf\.errors\.(\w+Error): (.*)")
_FILE = re.compile(r"\b(?:file|hdfs|s3a?|gs|abfss?|wasbs?|viewfs):/[^\s,;'\"()\]]+")
_WORKERS_MEMORY = (
    "a worker's memory was full: raise spark.executor.memoryOverhead, and leave spark.executor.pyspark.memory unset, "
    "which counts mapped weights too"
)
_JVM_MEMORY = "OutOfMemoryError"
_LOST = {
    "torch.OutOfMemoryError": "a GPU's memory was full: let fewer tasks share it (spark.task.resource.gpu.amount, "
    "in local mode a higher spark.task.cpus), set text.max_length lower, or model.precision bf16 or fp16",
    "CUDA error": "a GPU failed: see the log of its machine",
    _JVM_MEMORY: "a JVM's memory was full: raise spark.executor.memory or spark.driver.memory",
    "ExecutorLostFailure": "executors were lost, often for want of memory: raise spark.executor.memoryOverhead",
    "Python worker exited unexpectedly": "Python workers were lost, often for want of memory: give the machine more "
    "of it, on a cluster spark.executor.memoryOverhead",
    "MemoryError": _WORKERS_MEMORY,
    "allocate memory": _WORKERS_MEMORY,
    "Unable to allocate": _WORKERS_MEMORY,
    "FetchFailed": "results were lost with their executors: see their logs for why they ended",
}
"""Words of errors that end a run after Spark's retries, and the cure: no defect of ours, and not the input's fault."""
_UNREADABLE = (
    "FAILED_READ_FILE",
    "CANNOT_READ_FILE_FOOTER",
    "is not a Parquet file",
    "Could not read or convert schema",
    "MALFORMED_RECORD_IN_PARSING",
    "MALFORMED_CSV_RECORD",
    "MALFORMED_RECORD_IN_SCHEMA_INFERENCE",
    "Malformed records are detected",
    "CSV header does not conform",
    "UNABLE_TO_INFER_SCHEMA",
    "FileNotFoundException",
    "PATH_NOT_FOUND",
    "ParquetDecodingException",
    "corrupt",
)
_ENVIRONMENT = (
    "ModuleNotFoundError: No module named",
    "Cannot run program",
    "PYTHON_VERSION_MISMATCH",
    "JAVA_GATEWAY_EXITED",
    "All masters are unresponsive",
)
_MALFORMED = re.compile(rf"{MALFORMED_RECORD} in (\S+)")
_EVENT_LOG = "EventLogFileWriter"
_CONDITION = ("CAST_INVALID_INPUT", "DIVIDE_BY_ZERO", "ARITHMETIC_OVERFLOW", "CAST_OVERFLOW")
_NO_SPACE = ("No space left on device", "Disk quota exceeded", "not enough space", "QuotaExceededException")
_NO_PERMISSION = ("Permission denied", "Mkdirs failed", "Read-only file system", "AccessControlException")
_UNREACHABLE = ("ConnectException", "ConnectTimeoutException", "SocketTimeoutException", "NoRouteToHostException")
_OUTAGE = (
    *OUTAGES,
    "SlowDown",
    "Status Code: 503",
    ", 503,",
    "429 Too Many Requests",
    "Connection reset",
    "could only be written to 0 of the",
)
_DENIED = ("AccessDeniedException", "ExpiredToken", "SecretManager$InvalidToken")


_OF_THE_INPUT = "a file of the input can't be read ({reason}): restore it or move it away"


@contextmanager
def spark_failures(unreadable: str = _OF_THE_INPUT) -> Iterator[None]:
    """Turn Spark's exceptions in this block into the errors that the user should see.

    `unreadable` is the message for a file that can't be read, with {reason} in it and a cure. By default it says that
    the file belongs to the input.
    """
    try:
        yield
    except BigFiveError:
        raise
    except Exception as error:
        meant = explained(error, unreadable)
        if meant is None:
            raise
        raise meant from error


def explained(error: Exception, unreadable: str = _OF_THE_INPUT) -> BigFiveError | None:
    """The error that the user should see instead of Spark's, or None where the cause is a defect of ours.

    `unreadable` is the message for a file that can't be read, as in `spark_failures`.
    """
    text = str(error)
    if match := _RAISED_IN_WORKER.search(text):
        kind = getattr(errors, match[1], None)
        if isinstance(kind, type) and issubclass(kind, BigFiveError):
            return kind(match[2].strip())
    if condition := next((word for word in _CONDITION if word in text), None):
        # Before the checks below, and in our own words: Spark's message quotes the row's value, which may be any text.
        return SettingsError(
            f"input.where fails on a row ({condition}): partition columns are strings, compare them with quoted "
            "values; of other values, try_cast makes null of what can't be cast"
        )
    if match := _MALFORMED.search(text):
        return InputError(
            f"{match[1]} holds a record that is malformed, or a value of another type than the "
            "table's: correct the file or move it away"
        )
    if (meant := _of_the_machines(text)) is not None:
        return meant
    is_unreadable = any(word in text for word in _UNREADABLE)
    if any(word in text for word in _DENIED) and not is_unreadable:
        return OutputError(
            f"storage denies access ({_line_with(text, _DENIED)}): renew its token or key where it has expired, or "
            "check the permissions of output.path; run it again"
        )
    if any(word in text for word in _OUTAGE) and not (is_unreadable and unreadable == _OF_THE_INPUT):
        return OutputError(
            f"storage, or a service that Spark needs, did not answer ({_line_with(text, _OUTAGE)}): run it again once "
            "it does; nothing is half-written"
        )
    if any(word in text for word in _NO_PERMISSION) and not is_unreadable:
        return OutputError(
            f"the output can't be written ({_line_with(text, _NO_PERMISSION)}): check output.path and its permissions"
        )
    if is_unreadable:
        file = _FILE.search(text)
        reason = f"{file[0]}; {_line_with(text, _UNREADABLE)}" if file else _line_with(text, _UNREADABLE)
        return InputError(unreadable.format(reason=reason))
    return None


def _of_the_machines(text: str) -> BigFiveError | None:
    """The error if the machines or the session are at fault, whatever the job was doing."""
    if word := next((word for word in _NO_SPACE if word in text), None):
        return OutputError(f"the disk is full ({word}): free space for the table and for spark.local.dir")
    # Before the checks below: the message about a lost machine may name files that were lost with it.
    lost = next((word for word in _LOST if word in text), None)
    if lost == _JVM_MEMORY and any(word in text for word in _UNREADABLE):
        lost = None  # a damaged file makes its reader ask for more memory than there is
    if lost is not None:
        return MachinesLostError(f"{_LOST[lost]}; nothing is half-written, run it again")
    if any(word in text for word in _ENVIRONMENT):
        return SettingsError(
            f"Spark's machines can't run the job ({_line_with(text, _ENVIRONMENT)}): check the master, give --py-files "
            "the zip of make dist, install its requirements on the machines, set spark.pyspark.python"
        )
    if _EVENT_LOG in text:
        return SettingsError(
            f"Spark can't write its event log ({_said_first(text)}): make the directory of spark.eventLog.dir, or set "
            "spark.eventLog.enabled=false"
        )
    return None


def not_started(error: Exception) -> BigFiveError:
    """The error that the user should see if Spark can't start a session.

    It may quote Spark's own words, because no row has been read yet.
    """
    text = str(error)
    if any(word in text for word in _UNREACHABLE):
        return MachinesLostError(
            f"Spark can't reach what it needs to start ({_line_with(text, _UNREACHABLE)}): see that its cluster, and "
            "the storage of its event log, are up and at that address; nothing was begun, run it again"
        )
    return _of_the_machines(text) or SettingsError(
        f"Spark can't start with this configuration ({_said_first(text)}): correct it where it is set, in the property "
        "file, by --conf or by --master"
    )


def _said_first(text: str) -> str:
    """The first line of Spark's own words, which follow a line of py4j."""
    return first_line(text.split("\n: ", 1)[-1], 300)


def _line_with(text: str, words: tuple[str, ...]) -> str:
    line = next(line for line in text.splitlines() if any(word in line for word in words))
    return re.sub(r"\s+", " ", line).strip()[:300]
