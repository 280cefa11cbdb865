"""The Spark session of a job, and facts about the machines behind it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import site
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JJavaError, Py4JNetworkError
from pyspark import InheritableThread, TaskContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

import bigfive_udf
from bigfive_udf.errors import SettingsError
from bigfive_udf.model import hardware
from bigfive_udf.spark.failures import not_started
from bigfive_udf.spark.scratch import own_scratch

_log = logging.getLogger(__name__)

_BARS = "spark.ui.showConsoleProgress"
# Set where the user has not set them.
_DEFAULTS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "2048",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # A step names its files, and Spark lists them again: by default in one task per file, up to 10,000 tasks.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "64",
    _BARS: "false",
}
_DAEMON, _WORKERS_PATH = "spark.python.daemon.module", "spark.executorEnv.PYTHONPATH"
# These loggers log the errors of tasks. The job tells which partition failed and why, without the row.
_LOGGERS_OF_ROWS = (
    "org.apache.spark.executor.Executor",
    "org.apache.spark.scheduler.TaskSetManager",
    "org.apache.spark.scheduler.DAGScheduler",
    "org.apache.spark.sql.execution.datasources.FileFormatWriter",
    "org.apache.spark.sql.catalyst.csv.CSVHeaderChecker",
    "org.apache.spark.util.Utils",
)
_CANCEL_SECONDS = 0.5
_GONE = ("SparkContext was shut down", "stopped SparkContext")
_WAKING = "wake workers"
# Partition values are strings, kept to the letter; a row must never be left out because a file could not be read.
_ALWAYS = {
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
    "spark.sql.adaptive.enabled": "true",
}


_CATALOG = "spark.sql.catalogImplementation"
# So that Spark takes the literals in the job's SQL statements exactly as the job writes them.
_ALWAYS_WITH_CATALOG = {
    "spark.sql.variable.substitute": "false",
    "spark.sql.parser.escapedStringLiterals": "false",
}


def job_session(name: str, verbose: bool = False, log_texts: bool = False, catalog: bool = False) -> SparkSession:
    """The session that spark-submit prepared, or a local one where the job runs as plain python.

    Without `log_texts` this process's JVM does not log the errors of tasks, which may quote a row. With `catalog` the
    session keeps tables in a Hive metastore, the embedded one where the configuration names no other.

    Raises:
        SettingsError: the configuration would hang, is refused by Spark, or is for Spark Connect.
        MachinesLostError: the cluster can't be reached.
        OutputError: in local mode, the directory for Spark's shuffles and spills can't be made.
    """
    if "SPARK_REMOTE" in os.environ:
        raise SettingsError(
            f"SPARK_REMOTE {os.environ['SPARK_REMOTE']}: Spark Connect is not supported; unset it and use --master"
        )
    builder: Any = SparkSession.builder.appName(name)
    from pyspark import SparkConf, SparkContext

    # Without a JVM, a SparkConf is empty whatever options spark-submit got, and --master would be overruled.
    SparkContext._ensure_initialized()
    given = SparkConf()
    if _is_local(given.get("spark.master", "local[*]") or ""):
        # Workers must run the interpreter that has torch, which need not be the first python3 of the PATH.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        for key, value in (_own_daemon(given) | _own_scratch(given)).items():
            builder = builder.config(key, value)
    if not given.contains("spark.master"):
        builder = builder.master("local[*]")
    defaults = _DEFAULTS if verbose else {**_DEFAULTS, "spark.log.level": "ERROR"}
    # Spark takes a job that runs as plain python for a shell, and would draw its own progress bars over ours.
    as_shell = () if "PYSPARK_GATEWAY_PORT" in os.environ else (_BARS,)
    for key, value in defaults.items():
        if key in as_shell or not given.contains(key):
            builder = builder.config(key, value)
    if catalog:
        # Hive leaves an empty directory behind for every session, unless all sessions use the same directory.
        resources = f"{tempfile.gettempdir()}/hive-resources-{os.getuid()}"
        for key, value in {_CATALOG: "hive", "spark.hadoop.hive.downloaded.resources.dir": resources}.items():
            if not given.contains(key):
                builder = builder.config(key, value)
    for key, value in (_ALWAYS | (_ALWAYS_WITH_CATALOG if catalog else {})).items():
        builder = builder.config(key, value)
    _refuse_gpu_in_local_mode(given)
    _make_event_log_directory(given)
    try:
        session = builder.getOrCreate()
    except (Py4JJavaError, PySparkException) as error:
        raise not_started(error) from error
    require_classic(session)
    if not log_texts:
        logging: Any = session._jvm.org.apache.logging.log4j
        for logger in _LOGGERS_OF_ROWS:
            logging.core.config.Configurator.setLevel(logger, logging.Level.OFF)
    return session


def any_session() -> SparkSession:
    """The active session, unchanged, or else a new one with the settings that every job makes itself.

    Raises:
        SettingsError: see `job_session`.
    """
    return SparkSession.getActiveSession() or job_session("result")


def _own_daemon(given: Any) -> dict[str, str]:
    """The settings for workers from daemon.py, where workers run this interpreter, which can import this package."""
    if given.contains(_DAEMON) or given.contains("spark.pyspark.python"):
        return {}
    if shutil.which(os.environ["PYSPARK_PYTHON"]) != sys.executable:
        return {}
    root = str(Path(bigfive_udf.__file__).parent.parent)
    if root in (*site.getsitepackages(), site.getusersitepackages()):
        return {_DAEMON: "bigfive_udf.spark.daemon"}
    # The package is in a checkout or a zip, which a new interpreter may not find.
    return {_DAEMON: "bigfive_udf.spark.daemon", _WORKERS_PATH: root} if not given.contains(_WORKERS_PATH) else {}


def _own_scratch(given: Any) -> dict[str, str]:
    """A private directory for shuffled and spilled texts: all users of the machine can read Spark's own directory."""
    if given.contains("spark.local.dir") or "SPARK_LOCAL_DIRS" in os.environ:
        return {}
    return {"spark.local.dir": str(own_scratch())}


def about_session(spark: SparkSession) -> dict[str, Any]:
    """Where a job ran, for its record: master, application id (to find the cluster's logs) and current cores."""
    context = spark.sparkContext
    return {
        "master": context.master or "",
        "application_id": context.applicationId or "",
        "cores": cores(spark),
    }


def slots(spark: SparkSession) -> int:
    """How many tasks run at once on the executors that are there now, by their cores and GPUs."""
    context: Any = spark.sparkContext._jsc.sc()
    # Not defaultParallelism: it can be set by spark.default.parallelism, which is about shuffles, not machines.
    return max(1, int(context.maxNumConcurrentTasks(context.resourceProfileManager().defaultResourceProfile())))


def cores(spark: SparkSession) -> int:
    """How many cores the tasks that run at once have together."""
    return slots(spark) * int(spark.sparkContext.getConf().get("spark.task.cpus", "1") or 1)


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
    from pyspark import SparkContext

    context = SparkContext._active_spark_context
    if context is None:
        return False
    active: list[int] = []
    asked = threading.Event()

    def cancel() -> None:
        with contextlib.suppress(Exception):
            tracker = context.statusTracker()
            # The job that wakes the workers does not count: the caller did not start it.
            active.extend(set(tracker.getActiveJobsIds()) - set(tracker.getJobIdsForGroup(_WAKING)))
            asked.set()
            while True:
                context.cancelAllJobs()
                time.sleep(_CANCEL_SECONDS)

    threading.Thread(target=cancel, daemon=True).start()
    asked.wait(timeout=5)
    return bool(active)


def require_classic(spark: Any) -> None:
    """Raise SettingsError for a Spark Connect session: broadcasts and accumulators need the driver's own process."""
    if type(spark).__module__.startswith("pyspark.sql.connect"):
        raise SettingsError(
            "this is a Spark Connect session, which is not supported: make a classic one with "
            "SparkSession.builder.master(...).getOrCreate()"
        )


def is_local(spark: SparkSession) -> bool:
    return _is_local(spark.sparkContext.master or "")


def wake_workers(spark: SparkSession) -> None:
    """In local mode, let the Python workers start while the driver is busy: their imports take seconds."""
    if not is_local(spark):
        return
    workers = slots(spark)

    def same(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from batches

    def wake() -> None:
        spark.sparkContext.setJobGroup(_WAKING, "start the Python workers")
        with contextlib.suppress(Exception):  # if the workers fail, the first step will say why
            frame = spark.range(0, workers, 1, workers).mapInArrow(same, "id long")
            frame.write.format("noop").mode("overwrite").save()

    InheritableThread(target=wake, name=_WAKING, daemon=True).start()


def executors_hardware(spark: SparkSession, device: str) -> list[hardware.Hardware]:
    """The hardware of the machines that will compute: this one in local mode, else every executor that answers.

    Where `device` is auto, a cluster's GPUs count only if Spark assigns them to tasks: all tasks would share any other.
    """
    if is_local(spark):
        return [hardware.look(device != "cpu")]

    def looked(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            given = TaskContext.get()
            has_gpu = device == "cuda" or (given is not None and "gpu" in given.resources())
            yield pa.RecordBatch.from_pylist([asdict(hardware.look(device != "cpu" and has_gpu))], schema)

    tasks = 4 * slots(spark)
    schema = pa.schema([("name", pa.string()), ("cpu_bf16", pa.bool_()), ("cuda_bf16", pa.bool_())])
    # In the kind of workers that also score: a function mapped over an RDD would start workers of another kind.
    frame = spark.range(0, tasks, 1, tasks).mapInArrow(looked, "name string, cpu_bf16 boolean, cuda_bf16 boolean")
    return [hardware.Hardware(**row.asDict()) for row in frame.distinct().collect()]


def warn_of_crowd(spark: SparkSession, device: str) -> None:
    """Warn if many workers share a GPU: in local mode, each task that runs at once has a worker with its own model."""
    if device != "cuda" or not is_local(spark):
        return
    import torch

    if line := crowd(slots(spark), cores(spark), torch.cuda.device_count()):
        _log.warning("%s", line)


def crowd(workers: int, n_cores: int, n_gpus: int) -> str:
    """What to do where more than two workers would share a GPU; '' where they don't."""
    if workers <= 2 * n_gpus:
        return ""
    each = -(-n_cores // (2 * n_gpus))
    return (
        f"{workers} workers share {n_gpus} GPU{'s' * (n_gpus > 1)}, each with a model of its own there and few threads "
        f"for the tokenizer: start with --conf spark.task.cpus={each}"
    )


def _refuse_gpu_in_local_mode(conf: Any) -> None:
    master = conf.get("spark.master", "local[*]")
    for key in ("spark.executor.resource.gpu.amount", "spark.task.resource.gpu.amount"):
        if conf.contains(key) and _is_local(master):
            raise SettingsError(f"{key} with master {master} would hang: local mode has no GPU resources; leave it out")


def _make_event_log_directory(conf: Any) -> None:
    """Make the directory of Spark's event log if it is local: where it is missing, Spark starts no session."""
    where = conf.get("spark.eventLog.dir", "file:/tmp/spark-events")
    if conf.get("spark.eventLog.enabled", "false").lower() == "true" and _is_local_path(where):
        with contextlib.suppress(OSError):  # Spark says what is wrong with it
            os.makedirs(where.removeprefix("file://").removeprefix("file:"), exist_ok=True)


def _is_local_path(uri: str) -> bool:
    return "${" not in uri and (uri.startswith("file:") or ":" not in uri)


def _is_local(master: str) -> bool:
    return master.startswith("local") and not master.startswith("local-cluster")
