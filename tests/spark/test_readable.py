"""Texts of a sample: from some partitions, and of each no more than asked for."""

from __future__ import annotations

from bigfive_udf.spark.input.readable import Readable
from bigfive_udf.tables.filesystem import FileInfo
from bigfive_udf.tables.partitions import Layout, Partition


def test_only_the_beginning_of_a_text_comes_to_the_driver(spark):
    texts = ["a" * 10, "é" * 5_000_000, None, " "]
    partitions = tuple(Partition((str(k),), (FileInfo(f"/{k}", 10 + k, 0.0),)) for k in range(2))
    frame = spark.createDataFrame([(text,) for text in texts], "text string")
    readable = Readable(Layout(("dt",), partitions), {}, {}, lambda some: frame)
    assert readable.sample("text", 8, characters=12) == 2 * ["a" * 10, "é" * 12, "", " "]
    assert readable.sample("text", 8, characters=12, with_empty=False) == 2 * ["a" * 10, "é" * 12]
