"""Do what a short job does, so that the JVM loads the classes that a job needs; see class_archive.sh."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import functions as f

from bigfive_udf.spark.session import job_session


def as_it_is(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from batches


spark = job_session("class archive")
with tempfile.TemporaryDirectory() as directory:
    made = spark.range(100).select(f.col("id"), f.lit("a text").alias("text"))
    made.withColumn("dt", f.col("id") % 2).write.partitionBy("dt").parquet(f"{directory}/table")
    read = spark.read.parquet(f"{directory}/table")
    read.mapInArrow(as_it_is, read.schema).repartition(2).write.parquet(f"{directory}/copy")
    spark.read.parquet(f"{directory}/copy").groupBy("dt").count().orderBy("dt").collect()
    made.write.json(f"{directory}/json")
    spark.read.json(f"{directory}/json").collect()
spark.stop()
