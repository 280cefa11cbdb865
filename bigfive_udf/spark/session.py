"""The Spark session of a job, and its configuration."""

from __future__ import annotations

import contextlib
import os
import shutil
import site
import sys
import tempfile
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

import bigfive_udf
from bigfive_udf.errors import SettingsError
from bigfive_udf.spark.failures import not_started
from bigfive_udf.spark.machines import is_local_master
from bigfive_udf.spark.scratch import own_scratch

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
    # Without a JVM, a SparkConf is empty whatever options spark-submit got, and --master would be overruled.
    SparkContext._ensure_initialized()
    given = SparkConf()
    if is_local_master(given.get("spark.master", "local[*]") or ""):
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
        log4j: Any = session._jvm.org.apache.logging.log4j
        for logger in _LOGGERS_OF_ROWS:
            log4j.core.config.Configurator.setLevel(logger, log4j.Level.OFF)
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


def require_classic(spark: Any) -> None:
    """Raise SettingsError for a Spark Connect session: broadcasts and accumulators need the driver's own process."""
    if type(spark).__module__.startswith("pyspark.sql.connect"):
        raise SettingsError(
            "this is a Spark Connect session, which is not supported: make a classic one with "
            "SparkSession.builder.master(...).getOrCreate()"
        )


def _refuse_gpu_in_local_mode(conf: Any) -> None:
    master = conf.get("spark.master", "local[*]")
    for key in ("spark.executor.resource.gpu.amount", "spark.task.resource.gpu.amount"):
        if conf.contains(key) and is_local_master(master):
            raise SettingsError(f"{key} with master {master} would hang: local mode has no GPU resources; leave it out")


def _make_event_log_directory(conf: Any) -> None:
    """Make the directory of Spark's event log if it is local: where it is missing, Spark starts no session."""
    where = conf.get("spark.eventLog.dir", "file:/tmp/spark-events")
    if conf.get("spark.eventLog.enabled", "false").lower() == "true" and _is_local_path(where):
        with contextlib.suppress(OSError):  # Spark says what is wrong with it
            os.makedirs(where.removeprefix("file://").removeprefix("file:"), exist_ok=True)


def _is_local_path(uri: str) -> bool:
    return "${" not in uri and (uri.startswith("file:") or ":" not in uri)
