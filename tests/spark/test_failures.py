"""What Spark says when it has lost machines, to the user: by its own words, and from workers that are really killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from bigfive_udf import errors
from bigfive_udf.settings.score import ScoreSettings
from bigfive_udf.spark.failures import explained, not_started, spark_failures
from bigfive_udf.spark.input.files import find_files
from bigfive_udf.spark.storage import locate
from bigfive_udf.tables.failures import as_output_error


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


# --- storage and clusters that are out of reach ---


@pytest.fixture
def dead_store(spark):
    """An address of HDFS at which nobody listens; clients try to connect once."""
    configuration = spark._jsc.hadoopConfiguration()
    configuration.set("ipc.client.connect.max.retries", "0")
    yield "hdfs://127.0.0.1:1/scores"
    configuration.unset("ipc.client.connect.max.retries")


def test_storage_that_does_not_answer_is_no_defect_wherever_it_is_asked(spark, dead_store):
    with pytest.raises(errors.OutputError, match=r"did not answer .*Connection refused.*run it again once"), \
         spark_failures():  # fmt: skip
        spark.range(3).write.parquet(dead_store)
    fs, path = locate(spark, dead_store)
    with pytest.raises(errors.OutputError, match=r"ConnectException.*: run it again once the storage answers"), \
         as_output_error(path):  # fmt: skip
        fs.put(f"{path}.job/table.json", "{}")
    settings = ScoreSettings.model_validate(
        {"input": {"path": dead_store, "id_column": "i"}, "output": {"path": "o"}, "model": {"path": "m"}}
    )
    with pytest.raises(errors.MachinesLostError, match=r"can't be listed \(ConnectException.*run it again once"):
        find_files(spark, settings.input, {})


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        ("software.amazon.awssdk.services.s3.model.S3Exception: Please reduce your request rate. (Service: S3, "
         "Status Code: 503, Request ID: 1)", "run it again"),
        ("org.apache.hadoop.fs.s3a.AWSClientIOException: upload part: SdkClientException: Unable to execute HTTP "
         "request", "run it again"),
        ("org.apache.hadoop.hdfs.server.namenode.SafeModeException: Name node is in safe mode", "run it again"),
        ("java.net.UnknownHostException: b.s3.amazonaws.com", "run it again"),
        ("Operation failed: \"The server is busy.\", 503, PUT, https://a.dfs.core.windows.net/c", "run it again"),
        ("java.net.SocketTimeoutException: Read timed out", "run it again"),
        ("org.apache.hadoop.ipc.StandbyException: Operation category WRITE is not supported in state standby",
         "run it again"),
        ("File /scores.job/staging/a could only be written to 0 of the 1 minReplication nodes.", "run it again"),
        ("java.nio.file.AccessDeniedException: s3a://b/scores: getFileStatus: Access Denied", "renew its token"),
        ("org.apache.hadoop.security.token.SecretManager$InvalidToken: (token for job) is expired", "renew its token"),
    ],
)  # fmt: skip
def test_an_outage_while_rows_are_written_says_its_cure(words, cure):
    said = (
        f"[TASK_WRITE_FAILED] Task failed while writing rows to s3a://b/scores.job/staging/a. SQLSTATE: 58030\n{words}"
    )
    meant = explained(RuntimeError(said))
    assert isinstance(meant, errors.OutputError)
    assert cure in str(meant)
    assert words.split("(")[0].strip() in str(meant)


def test_a_file_of_the_input_that_was_out_of_reach_stays_the_inputs():
    words = "[FAILED_READ_FILE.NO_HINT] Encountered error while reading file s3a://c/a.parquet. SocketTimeoutException"
    assert isinstance(explained(RuntimeError(words)), errors.InputError)
    of_the_table = explained(RuntimeError(words), "a file of the table can't be read ({reason}): make it again")
    assert "did not answer" in str(of_the_table) and "make it again" not in str(of_the_table)


PY4J = "An error occurred while calling None.org.apache.spark.api.java.JavaSparkContext.\n: "


@pytest.mark.parametrize(
    ("words", "kind", "told"),
    [
        ("java.lang.IllegalArgumentException: Required executor memory (9216 MB), offHeap memory (0) MB, overhead (921 "
         "MB) is above the max threshold (8192 MB) of this cluster!", errors.SettingsError, "above the max threshold"),
        ("org.apache.spark.SparkException: External scheduler cannot be instantiated\n\tat org.apache.a",
         errors.SettingsError, "(org.apache.spark.SparkException: External scheduler cannot be instantiated)"),
        ("java.io.FileNotFoundException: File file:/srv/environment.tar.gz does not exist", errors.SettingsError,
         "File file:/srv/environment.tar.gz does not exist"),
        ("org.apache.hadoop.security.AccessControlException: Permission denied: user=job, access=WRITE, "
         "inode=\"/user\"", errors.SettingsError, "inode=\"/user\""),
        ("java.lang.reflect.UndeclaredThrowableException\n\tat a.b(c.java:1)\nCaused by: java.net.ConnectException: "
         "Call From here to rm:8032 failed", errors.MachinesLostError, "Call From here to rm:8032 failed"),
    ],
)  # fmt: skip
def test_a_session_that_spark_does_not_give_is_told_in_its_words(words, kind, told):
    meant = not_started(RuntimeError(PY4J + words))
    assert type(meant) is kind
    assert told in str(meant)
    assert "\n" not in str(meant)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("nosuch://bucket/scores", r"No FileSystem for scheme.*; add its connector to the session"),
        ("hdfs:///scores", r"no host: hdfs:///scores\); check its address, its spark\.hadoop settings"),
    ],
)
def test_a_path_that_no_file_system_takes_says_what_it_lacks(spark, path, told):
    with pytest.raises(errors.SettingsError, match=told):
        locate(spark, path)
