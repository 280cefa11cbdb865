"""The machines behind a session: how many tasks run at once, on what hardware, and their Python workers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pyarrow as pa
from pyspark import InheritableThread, TaskContext
from pyspark.sql import SparkSession

from bigfive_udf.model import hardware

WAKING = "wake workers"
"""The group of the Spark job that starts Python workers, while this process does something else."""
_log = logging.getLogger(__name__)


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


def is_local(spark: SparkSession) -> bool:
    """Whether tasks run in the driver's own process."""
    return is_local_master(spark.sparkContext.master or "")


def is_local_master(master: str) -> bool:
    return master.startswith("local") and not master.startswith("local-cluster")


def wake_workers(spark: SparkSession) -> None:
    """In local mode, let the Python workers start while the driver is busy: their imports take seconds."""
    if not is_local(spark):
        return
    workers = slots(spark)

    def same(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from batches

    def wake() -> None:
        spark.sparkContext.setJobGroup(WAKING, "start the Python workers")
        with contextlib.suppress(Exception):  # if the workers fail, the first step will say why
            frame = spark.range(0, workers, 1, workers).mapInArrow(same, "id long")
            frame.write.format("noop").mode("overwrite").save()

    InheritableThread(target=wake, name=WAKING, daemon=True).start()


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
    schema = pa.schema(
        [("name", pa.string()), ("cpu_bf16", pa.bool_()), ("cuda_bf16", pa.bool_()), ("cpu_vnni", pa.bool_())]
    )
    # In the kind of workers that also score: a function mapped over an RDD would start workers of another kind.
    columns = "name string, cpu_bf16 boolean, cuda_bf16 boolean, cpu_vnni boolean"
    frame = spark.range(0, tasks, 1, tasks).mapInArrow(looked, columns)
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
