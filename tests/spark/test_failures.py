"""What Spark says when it has lost machines, to the user: by its own words, and from workers that are really killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from bigfive_udf import errors
from bigfive_udf.spark.failures import explained, spark_failures


def test_a_worker_that_is_killed_is_no_defect_and_the_run_may_be_tried_again(spark):
    def kill(batches: Iterator) -> Iterator:
        os.kill(os.getpid(), signal.SIGKILL)
        yield from batches

    told = r"workers were lost.*memoryOverhead.*run it again"
    with pytest.raises(errors.MachinesLostError, match=told) as lost, spark_failures():
        spark.range(0, 1, 1, 1).mapInArrow(kill, "id long").collect()
    assert lost.value.exit_code == 143


def test_a_gpu_whose_memory_is_full_is_no_defect(spark):
    def fill(batches: Iterator) -> Iterator:
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        yield from batches

    with pytest.raises(errors.MachinesLostError, match=r"spark\.task\.resource\.gpu\.amount"), spark_failures():
        spark.range(0, 1, 1, 1).mapInArrow(fill, "id long").collect()


def test_a_worker_without_memory_is_told_of_the_setting_that_takes_it(spark):
    """As spark.executor.pyspark.memory limits it."""

    def fill(batches: Iterator) -> Iterator:
        import resource

        import torch

        before = resource.getrlimit(resource.RLIMIT_AS)
        torch.zeros(10)
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, before[1]))
        try:
            torch.zeros(1 << 30)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
        yield from batches

    with (
        pytest.raises(errors.MachinesLostError, match=r"leave spark\.executor\.pyspark\.memory unset"),
        spark_failures(),
    ):
        spark.range(0, 1, 1, 1).mapInArrow(fill, "id long").collect()


YARN = "Container killed by YARN for exceeding physical memory limits. Consider boosting spark.executor.memoryOverhead."
MISSING = "java.io.FileNotFoundException: /data/blockmgr-1/0c/shuffle_0_17_0.index (No such file or directory)"


@pytest.mark.parametrize(
    ("kind", "words", "cure"),
    [
        ("ExecutorLostFailure", YARN, "raise spark.executor.memoryOverhead"),
        ("ExecutorLostFailure", "Command exited with code 137", "raise spark.executor.memoryOverhead"),
        # Its file is no file of the corpus, and nobody who delivers that can help.
        ("FetchFailed", MISSING, "see their logs"),
        ("other", "torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered", "a GPU failed"),
        ("other", "java.lang.OutOfMemoryError: Java heap space", "raise spark.executor.memory"),
    ],
)
def test_what_is_lost_says_its_cure_in_sparks_own_words(spark, kind, words, cure):
    jvm = spark.sparkContext._jvm
    if kind == "ExecutorLostFailure":
        reason = jvm.org.apache.spark.ExecutorLostFailure("7", True, jvm.scala.Option.apply(words)).toErrorString()
    elif kind == "FetchFailed":
        reason = jvm.org.apache.spark.FetchFailed(None, 0, 17, 17, 3, words).toErrorString()
    else:
        reason = words
    meant = explained(RuntimeError(f"Job aborted due to stage failure: Task 3 in stage 1.0 failed 4 times: {reason}"))
    assert isinstance(meant, errors.MachinesLostError)
    assert cure in str(meant)


def test_a_damaged_file_that_asks_for_too_much_memory_is_the_inputs():
    words = (
        "[FAILED_READ_FILE.NO_HINT] Encountered error while reading file file:/c/a.parquet. java.lang.OutOfMemoryError"
    )
    assert isinstance(explained(RuntimeError(words)), errors.InputError)


@pytest.mark.parametrize("value", ["there is not enough space in my head", "OutOfMemoryError", "FetchFailed, corrupt"])
def test_a_value_that_spark_quotes_is_not_told_and_decides_nothing(spark, value):
    frame = spark.createDataFrame([(value,)], "text string").where("cast(text AS int) > 0")
    spark.conf.set("spark.sql.ansi.enabled", "true")
    try:
        with pytest.raises(errors.SettingsError, match=r"input\.where fails on a row") as told, spark_failures():
            frame.collect()
    finally:
        spark.conf.unset("spark.sql.ansi.enabled")
    assert value not in str(told.value)


def test_a_disk_that_is_full_is_said_before_what_it_cost(spark):
    words = "java.io.IOException: No space left on device"
    reason = spark.sparkContext._jvm.org.apache.spark.FetchFailed(None, 0, 17, 17, 3, words).toErrorString()
    meant = explained(RuntimeError(reason))
    assert isinstance(meant, errors.OutputError)
    assert "disk is full" in str(meant)
