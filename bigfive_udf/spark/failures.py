"""What Spark's exceptions mean to a user: most of a night's failures are the input's, the output's or the settings'."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from bigfive_udf import errors
from bigfive_udf.errors import BigFiveError, InputError, MachinesLostError, OutputError, SettingsError

MALFORMED_RECORD = "BIGFIVE_MALFORMED_RECORD"
"""What reading.py raises instead of Spark's own error, which quotes the record."""
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
"""What ends a run where Spark has tried again in vain, and the cure. No defect, and nobody's input."""
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
    *_UNREACHABLE,
    "SlowDown",
    "Status Code: 503",
    "AWSServiceThrottledException",
    "SdkClientException",
    "AWSClientIOException",
    "StandbyException",
    "could only be written to 0 of the",
)
_DENIED = ("AccessDeniedException", "ExpiredToken", "SecretManager$InvalidToken")


@contextmanager
def spark_failures() -> Iterator[None]:
    """Turn what Spark raises in this block into the errors that they are to a user."""
    try:
        yield
    except BigFiveError:
        raise
    except Exception as error:
        meant = explained(error)
        if meant is None:
            raise
        raise meant from error


def explained(error: Exception) -> BigFiveError | None:
    """The error that the user should see instead of Spark's, or None where it is a defect of ours."""
    text = str(error)
    if match := _RAISED_IN_WORKER.search(text):
        kind = getattr(errors, match[1], None)
        if isinstance(kind, type) and issubclass(kind, BigFiveError):
            return kind(match[2].strip())
    if condition := next((word for word in _CONDITION if word in text), None):
        # First, and in words of ours: Spark's quote the row's value, which may say anything.
        return SettingsError(
            f"input.where fails on a row ({condition}): partition columns are strings, compare them with quoted "
            "values; of other values, try_cast makes null of what can't be cast"
        )
    if match := _MALFORMED.search(text):
        return InputError(
            f"{match[1]} holds a record that is malformed, or a value of another type than the "
            "table's: correct the file or move it away"
        )
    if word := next((word for word in _NO_SPACE if word in text), None):
        return OutputError(f"the disk is full ({word}): free space for the table and for spark.local.dir")
    # Before what follows: a lost machine's message may name files that went with it.
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
            f"Spark can't write its event log ({_first_line(text)}): make the directory of spark.eventLog.dir, or set "
            "spark.eventLog.enabled=false"
        )
    unreadable = any(word in text for word in _UNREADABLE)
    if any(word in text for word in _DENIED) and not unreadable:
        return OutputError(
            f"storage denies access ({_line_with(text, _DENIED)}): renew its token or key where it has expired, or "
            "check the permissions of output.path; run it again"
        )
    if any(word in text for word in _OUTAGE) and not unreadable:
        return OutputError(
            f"storage, or a service that Spark needs, did not answer ({_line_with(text, _OUTAGE)}): run it again once "
            "it does; nothing is half-written"
        )
    if any(word in text for word in _NO_PERMISSION) and not unreadable:
        return OutputError(
            f"the output can't be written ({_line_with(text, _NO_PERMISSION)}): check output.path and its permissions"
        )
    if unreadable:
        file = _FILE.search(text)
        reason = f"{file[0]}; {_line_with(text, _UNREADABLE)}" if file else _line_with(text, _UNREADABLE)
        return InputError(f"a file of the input can't be read ({reason}): restore it or move it away")
    return None


def not_started(error: Exception) -> BigFiveError:
    """What it means to a user that Spark gave no session. No row has been read yet, so its own words may be told."""
    text = str(error)
    if any(word in text for word in _UNREACHABLE):
        return MachinesLostError(
            f"Spark can't reach what it needs to start ({_line_with(text, _UNREACHABLE)}): see that its cluster, and "
            "the storage of its event log, are up and at that address; nothing was begun, run it again"
        )
    return explained(error) or SettingsError(
        f"Spark can't start with this configuration ({_first_line(text)}): correct it where it is set, in the property "
        "file, by --conf or by --master"
    )


def _first_line(text: str) -> str:
    """What Spark says first; py4j puts a line of its own before it."""
    said = text.split("\n: ", 1)[-1]
    return re.sub(r"\s+", " ", next(iter(said.strip().splitlines()), "")).strip()[:300]


def _line_with(text: str, words: tuple[str, ...]) -> str:
    line = next(line for line in text.splitlines() if any(word in line for word in words))
    return re.sub(r"\s+", " ", line).strip()[:300]
