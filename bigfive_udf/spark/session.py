"""The Spark session of a job, and what can be said of the machines behind it."""

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
# Set where the user has not set them. Partition values are strings, kept to the letter; a row must never be left out
# because a file could not be read.
_DEFAULTS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "2048",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # A step names its files, and Spark lists them again: by default in a task for each, up to 10,000.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "64",
    _BARS: "false",
}
_DAEMON, _WORKERS_PATH = "spark.python.daemon.module", "spark.executorEnv.PYTHONPATH"
# They log what a task fails with. The job tells which partition failed and why, without the row.
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
_ALWAYS = {
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
    "spark.sql.adaptive.enabled": "true",
}


_CATALOG = "spark.sql.catalogImplementation"
# So that what the job writes into a statement's literals means what it says.
_ALWAYS_WITH_CATALOG = {
    "spark.sql.variable.substitute": "false",
    "spark.sql.parser.escapedStringLiterals": "false",
}


def job_session(name: str, verbose: bool = False, log_texts: bool = False, catalog: bool = False) -> SparkSession:
    """The session that spark-submit prepared, or a local one where the job runs as plain python.

    Without `log_texts` this process's JVM does not log the errors of tasks, which may quote a row. With `catalog` it
    keeps tables in a Hive metastore, the embedded one where the configuration names no other.

    Raises:
        SettingsError: the configuration is one that would hang or that Spark refuses, or one of Spark Connect.
        MachinesLostError: the cluster can't be reached.
        OutputError: in local mode there is no directory for what Spark shuffles and spills.
    """
    if "SPARK_REMOTE" in os.environ:
        raise SettingsError(
            f"SPARK_REMOTE {os.environ['SPARK_REMOTE']}: Spark Connect is not supported; unset it and use --master"
        )
    builder: Any = SparkSession.builder.appName(name)
    from pyspark import SparkConf, SparkContext

    # Before there is a JVM, a SparkConf is empty, whatever spark-submit was told, and --master would be overruled.
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
    # Where a job runs as plain python, Spark takes it for a shell, and would draw bars of its own over ours.
    as_shell = () if "PYSPARK_GATEWAY_PORT" in os.environ else (_BARS,)
    for key, value in defaults.items():
        if key in as_shell or not given.contains(key):
            builder = builder.config(key, value)
    if catalog:
        # Hive leaves an empty directory behind for every session, unless all of them have the same.
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


def _own_daemon(given: Any) -> dict[str, str]:
    """Workers forked with their imports (daemon.py), where they run this interpreter, which can import this package."""
    if given.contains(_DAEMON) or given.contains("spark.pyspark.python"):
        return {}
    if shutil.which(os.environ["PYSPARK_PYTHON"]) != sys.executable:
        return {}
    root = str(Path(bigfive_udf.__file__).parent.parent)
    if root in (*site.getsitepackages(), site.getusersitepackages()):
        return {_DAEMON: "bigfive_udf.spark.daemon"}
    # A checkout or a zip, which a new interpreter need not know of.
    return {_DAEMON: "bigfive_udf.spark.daemon", _WORKERS_PATH: root} if not given.contains(_WORKERS_PATH) else {}


def _own_scratch(given: Any) -> dict[str, str]:
    """Where shuffled and spilled texts lie: Spark alone makes a directory that all users of the machine can read."""
    if given.contains("spark.local.dir") or "SPARK_LOCAL_DIRS" in os.environ:
        return {}
    return {"spark.local.dir": str(own_scratch())}


def about_session(spark: SparkSession) -> dict[str, Any]:
    """Where a job ran, for its record: the master, the application's id, by which the cluster's logs are found, and the
    cores that it has now."""
    context = spark.sparkContext
    return {
        "master": context.master or "",
        "application_id": context.applicationId or "",
        "cores": cores(spark),
    }


def slots(spark: SparkSession) -> int:
    """How many tasks run at once on the executors that are there now, by their cores and GPUs."""
    context: Any = spark.sparkContext._jsc.sc()
    # Not defaultParallelism, which spark.default.parallelism replaces: a wish for shuffles says nothing of machines.
    return max(1, int(context.maxNumConcurrentTasks(context.resourceProfileManager().defaultResourceProfile())))


def cores(spark: SparkSession) -> int:
    """The cores that these tasks have."""
    return slots(spark) * int(spark.sparkContext.getConf().get("spark.task.cpus", "1") or 1)


def stop() -> None:
    """Stop the session, if there is one."""
    session = SparkSession.getActiveSession()
    if session is not None:
        session.stop()


def is_gone(error: BaseException) -> bool:
    """Whether an error came of Spark's end. A signal to spark-submit reaches its JVM: here it is heard of so."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        seen.append(following)
        following = following.__cause__ or following.__context__
    return any(_is_lost_connection(e) or any(words in str(e) for words in _GONE) for e in seen)


def _is_lost_connection(error: BaseException) -> bool:
    """Whether it is the connection to the JVM, and no other, that is lost."""
    if isinstance(error, Py4JNetworkError):
        return True
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return isinstance(error, ConnectionError) and frames[-1].f_globals.get("__name__", "").startswith("py4j")


def cancel_jobs() -> bool:
    """Cancel what Spark computes, and whatever it begins from now on. Returns whether it was computing.

    By a thread of its own, which has its own connection to the JVM: that of the caller, a signal's handler, may be
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
            # That of the thread that wakes the workers is none of the caller's.
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
    """In local mode, let the Python workers start while the driver is busy: what they import takes them seconds."""
    if not is_local(spark):
        return
    workers = slots(spark)

    def same(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from batches

    def wake() -> None:
        spark.sparkContext.setJobGroup(_WAKING, "start the Python workers")
        with contextlib.suppress(Exception):  # whatever is wrong with the workers, the first step says it
            frame = spark.range(0, workers, 1, workers).mapInArrow(same, "id long")
            frame.write.format("noop").mode("overwrite").save()

    InheritableThread(target=wake, name=_WAKING, daemon=True).start()


def executors_hardware(spark: SparkSession, device: str) -> list[hardware.Hardware]:
    """What the machines that will compute can do: this one in local mode, else every executor that answers.

    Where `device` is auto, a cluster's GPUs are those that Spark gives to tasks: of others it would give each to all.
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
    # As those that score: a function mapped over an RDD would start workers of another kind.
    frame = spark.range(0, tasks, 1, tasks).mapInArrow(looked, "name string, cpu_bf16 boolean, cuda_bf16 boolean")
    return [hardware.Hardware(**row.asDict()) for row in frame.distinct().collect()]


def warn_of_crowd(spark: SparkSession, device: str) -> None:
    """In local mode there is a worker for each task that runs at once, and each has a model on a GPU."""
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
    """Spark starts no session where the directory of its event log is missing; a local one is made."""
    where = conf.get("spark.eventLog.dir", "file:/tmp/spark-events")
    if conf.get("spark.eventLog.enabled", "false").lower() == "true" and _is_local_path(where):
        with contextlib.suppress(OSError):  # Spark says what is wrong with it
            os.makedirs(where.removeprefix("file://").removeprefix("file:"), exist_ok=True)


def _is_local_path(uri: str) -> bool:
    return "${" not in uri and (uri.startswith("file:") or ":" not in uri)


def _is_local(master: str) -> bool:
    return master.startswith("local") and not master.startswith("local-cluster")
