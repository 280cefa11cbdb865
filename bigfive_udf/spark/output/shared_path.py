"""Check that the executors, which write the table, see the directory in which the driver commits it."""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import SparkSession

from bigfive_udf.errors import SettingsError
from bigfive_udf.spark.machines import is_local, slots
from bigfive_udf.tables.failures import as_output_error
from bigfive_udf.tables.filesystem import FileSystem, LocalFileSystem
from bigfive_udf.tables.records import SEEN


def require_shared(spark: SparkSession, fs: FileSystem, path: str) -> None:
    """Refuse a table on a local disk that an executor does not see.

    That executor's rows would stay on its own disk, and every step would fail.

    Raises:
        SettingsError: one of the executors that answer does not see the disk.
        OutputError: the directory beside the table can't be written.
    """
    if is_local(spark) or not isinstance(fs, LocalFileSystem):
        return
    # A random name: no machine has such a file by chance, and no network disk has cached that the file is missing.
    token = f"{path.rstrip('/')}.job/{SEEN}{secrets.token_hex(8)}"
    with as_output_error(token):
        fs.put(token, "")
        try:
            blind = machines_without(spark, token)
        finally:
            fs.delete(token)
    if blind:
        raise SettingsError(
            f"output.path {path} is a directory of {platform.node()}, and executors on {', '.join(blind[:5])} "
            "don't see it: choose a path that all machines share, of hdfs or s3a, or on a network disk that all have"
        )


def machines_without(spark: SparkSession, file: str) -> list[str]:
    """The names of the machines on which an executor does not see the file."""

    def looked(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            yield pa.RecordBatch.from_pylist([] if os.path.exists(file) else [{"name": platform.node()}], schema)

    tasks = 4 * slots(spark)
    schema = pa.schema([("name", pa.string())])
    frame = spark.range(0, tasks, 1, tasks).mapInArrow(looked, "name string")
    return sorted(row.name for row in frame.distinct().collect())
