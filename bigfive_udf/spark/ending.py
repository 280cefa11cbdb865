"""How Spark ends: when the job is done, by a signal to the job, or by itself while the job runs."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback

from py4j.protocol import Py4JNetworkError
from pyspark import SparkContext
from pyspark.sql import SparkSession

from bigfive_udf.spark.machines import WAKING

_CANCEL_SECONDS = 0.5
_GONE = ("SparkContext was shut down", "stopped SparkContext")


def stop() -> None:
    """Stop the session, if there is one."""
    session = SparkSession.getActiveSession()
    if session is not None:
        session.stop()


def is_gone(error: BaseException) -> bool:
    """Whether the cause of an error is that Spark has ended.

    A signal to spark-submit reaches its JVM; this process learns of the signal only by such an error.
    """
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        seen.append(following)
        following = following.__cause__ or following.__context__
    return any(_is_lost_connection(e) or any(words in str(e) for words in _GONE) for e in seen)


def _is_lost_connection(error: BaseException) -> bool:
    """Whether the error means that the connection to the JVM is lost, and not another connection."""
    if isinstance(error, Py4JNetworkError):
        return True
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return isinstance(error, ConnectionError) and frames[-1].f_globals.get("__name__", "").startswith("py4j")


def cancel_jobs() -> bool:
    """Cancel all of Spark's jobs, running and future ones. Returns whether Spark was computing.

    A separate thread does it over its own connection to the JVM: the connection of the caller, a signal handler, may be
    waiting for an answer.
    """
    context = SparkContext._active_spark_context
    if context is None:
        return False
    active: list[int] = []
    asked = threading.Event()

    def cancel() -> None:
        with contextlib.suppress(Exception):
            tracker = context.statusTracker()
            # The job that wakes the workers does not count: the caller did not start it.
            active.extend(set(tracker.getActiveJobsIds()) - set(tracker.getJobIdsForGroup(WAKING)))
            asked.set()
            while True:
                context.cancelAllJobs()
                time.sleep(_CANCEL_SECONDS)

    threading.Thread(target=cancel, daemon=True).start()
    asked.wait(timeout=5)
    return bool(active)
