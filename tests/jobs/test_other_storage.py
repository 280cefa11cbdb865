"""The job on a file system that is Hadoop's and not the local one: viewfs, which leads to a directory of the test."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bigfive_udf.errors import PartitionsFailedError, TableLockedError
from bigfive_udf.runs import Run
from bigfive_udf.settings.score import OutputSettings
from bigfive_udf.spark.storage import locate
from bigfive_udf.tables.hadoop import HadoopFileSystem
from bigfive_udf.tables.opening import open_to_write
from support.corpora import write_corpus


@pytest.fixture
def viewed(spark: Any, tmp_path: Path, basics: dict[str, Any]) -> dict[str, Any]:
    """Corpus and table below viewfs://nights/, which is a directory here."""
    root = tmp_path / "store"
    write_corpus(root / "corpus", days=4, rows=10)
    mount = f"nights-{secrets.token_hex(4)}"  # Hadoop remembers what a name led to
    spark._jsc.hadoopConfiguration().set(f"fs.viewfs.mounttable.{mount}.link./data", f"file://{root}")
    paths = {"input.path": f"viewfs://{mount}/data/corpus", "output.path": f"viewfs://{mount}/data/scores"}
    return basics | paths | {"plan.max_rescored_share": 1.0, "here": root}


def rows_of(root: Path) -> set[tuple[Any, ...]]:
    query = f"SELECT doc_id, dt, run_id FROM read_parquet('{root}/scores/*/*.parquet', hive_types_autocast=false)"
    found = duckdb.sql(query).fetchall()
    assert len(found) == len(set(found))
    return set(found)


def test_nights_on_another_file_system(score, viewed, spark):
    root: Path = viewed.pop("here")
    fs, path = locate(spark, viewed["output.path"])
    assert isinstance(fs, HadoopFileSystem)
    first = score(viewed).run_id
    assert len(rows_of(root)) == 40
    assert score(viewed).result["plan"]["up_to_date"] == 4

    os.utime(root / "corpus" / "dt=2026-01-05" / "part-0.parquet", (1.7e9, 1.7e9))
    (root / "corpus" / "dt=2026-01-06" / "part-0.parquet").unlink()
    second = score(viewed).run_id
    by_day = {(day, run) for _, day, run in rows_of(root)}
    assert by_day == {("2026-01-05", second), ("2026-01-07", first), ("2026-01-08", first)}

    relabelled = score(viewed | {"labels.thresholds": {"O": 0.0}}).run_id
    assert {run for *_, run in rows_of(root)} == {relabelled}

    with open_to_write(fs, path, OutputSettings(path=path), Run("score")), pytest.raises(TableLockedError):
        score(viewed)


def test_a_file_that_cannot_be_read_fails_its_partition_there_too(score, viewed):
    root: Path = viewed.pop("here")
    broken = root / "corpus" / "dt=2026-01-07" / "part-0.parquet"
    broken.write_bytes(broken.read_bytes()[:-50])
    with pytest.raises(
        PartitionsFailedError, match=r"1 of 4 partitions failed: .*viewfs://nights-.*/data/corpus/dt=2026-01-07"
    ):
        score(viewed)
    assert {day for _, day, _ in rows_of(root)} == {"2026-01-05", "2026-01-06", "2026-01-08"}
