"""The score job into an Iceberg table: the same rows as the plain form, snapshots for readers, the same ledger."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bigfive_udf.errors import RefusedError
from support.corpora import write_corpus

pytest.importorskip("pyiceberg")

from pyiceberg.catalog import load_catalog


@pytest.fixture
def iceberg(basics: dict[str, Any]) -> dict[str, Any]:
    return basics | {"output.format": "iceberg", "plan.max_rescored_share": 1.0, "input.author_column": "author"}


def table_of(settings: dict[str, Any]) -> Any:
    uri = f"sqlite:///{settings['output.path']}.job/catalog.db"
    return load_catalog("bigfive", type="sql", uri=uri).load_table(settings.get("output.table", "bigfive.scores"))


def rows_of(settings: dict[str, Any], **scan: Any) -> pa.Table:
    return table_of(settings).scan(**scan).to_arrow().sort_by("doc_id")


def test_the_rows_are_those_of_the_plain_form(score, iceberg, basics, tmp_path):
    score(iceberg)
    plain = iceberg | {"output.format": "parquet", "output.path": str(tmp_path / "plain")}
    score(plain)
    import duckdb

    query = (
        f"FROM read_parquet('{plain['output.path']}/**/*.parquet', hive_partitioning=true, hive_types_autocast=false)"
    )
    expected = duckdb.sql(f"{query} ORDER BY doc_id").to_arrow_table()
    found = rows_of(iceberg)
    assert found.schema.names == expected.schema.names
    same = [c for c in found.schema.names if c not in ("run_id", "scored_at")]
    assert found.select(same).to_pylist() == expected.select(same).to_pylist()
    assert rows_of(iceberg, row_filter="dt = '2026-01-06'")["dt"].to_pylist() == ["2026-01-06"] * 40


def test_nights_replace_empty_and_remove_partitions_in_snapshots(score, iceberg, corpus):
    first = score(iceberg).run_id
    old = table_of(iceberg).current_snapshot().snapshot_id
    os.utime(corpus / "dt=2026-01-05" / "part-0.parquet", (1.7e9, 1.7e9))
    (corpus / "dt=2026-01-06" / "part-0.parquet").unlink()
    shutil.rmtree(corpus / "dt=2026-01-07")
    second = score(iceberg, "--prune").run_id
    table = rows_of(iceberg)
    assert set(zip(table["dt"].to_pylist(), table["run_id"].to_pylist(), strict=True)) == {("2026-01-05", second)}
    assert set(rows_of(iceberg, snapshot_id=old)["run_id"].to_pylist()) == {first}, "who reads a snapshot keeps it"
    assert score(iceberg).result["plan"]["up_to_date"] == 2


def test_a_rerun_with_nothing_new_makes_no_snapshot(score, iceberg):
    score(iceberg)
    before = sorted((p, p.stat().st_mtime_ns) for p in Path(iceberg["output.path"]).rglob("*"))
    score(iceberg)
    assert sorted((p, p.stat().st_mtime_ns) for p in Path(iceberg["output.path"]).rglob("*")) == before


def test_other_thresholds_recompute_labels(score, iceberg):
    score(iceberg, "--limit", "2")
    score(iceberg)  # so that the files lie in the directories of two commits
    before = rows_of(iceberg)
    run = score(iceberg | {"labels.thresholds": {"O": 0.0}})
    after = rows_of(iceberg)
    assert "model_loads" not in run.result
    assert set(after["label_openness"].to_pylist()) == {True}
    assert after["prob_openness"].equals(before["prob_openness"])
    assert after["dt"].equals(before["dt"])
    assert len(after) == 120


def test_a_corpus_without_partition_columns(score, iceberg, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    pq.write_table(pa.table({"doc_id": [1, 2], "text": ["one", None], "author": ["a", "b"]}), flat / "a.parquet")
    settings = iceberg | {"input.path": str(flat), "output.table": "people.traits"}
    score(settings)
    pq.write_table(pa.table({"doc_id": [3], "text": ["three"], "author": ["c"]}), flat / "b.parquet")
    os.utime(flat / "a.parquet", (1.7e9, 1.7e9))
    score(settings)
    assert rows_of(settings)["doc_id"].to_pylist() == [1, 2, 3]
    score(settings | {"labels.thresholds": {"O": 0.0}})
    assert rows_of(settings)["doc_id"].to_pylist() == [1, 2, 3]
    assert rows_of(settings)["label_openness"].to_pylist() == [True, None, True]


def test_a_further_kept_column_is_null_in_what_was_scored_before(score, iceberg, tmp_path):
    settings = iceberg | {"input.path": str(write_corpus(tmp_path / "liked", likes=7))}
    score(settings, "--until", "dt=2026-01-06")
    score(settings | {"input.keep_columns": ["likes"], "on_schema_change": "only_new"})
    table = rows_of(settings)
    by_day = {(d, n) for d, n in zip(table["dt"].to_pylist(), table["likes"].to_pylist(), strict=True)}
    assert by_day == {("2026-01-05", None), ("2026-01-06", None), ("2026-01-07", 7)}


def test_a_table_of_one_kind_is_not_written_as_the_other(score, iceberg):
    score(iceberg)
    with pytest.raises(RefusedError, match=r"is a table of format iceberg, output\.format is parquet"):
        score({k: v for k, v in iceberg.items() if k != "output.format"})


def test_a_run_keeps_the_secrets_of_its_catalog_out_of_its_record_and_of_stack_traces(score, iceberg, tmp_path):
    catalog = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", "s3.secret-access-key": "whisper"}
    run = score(iceberg | {"output.catalog": catalog}, "--dry-run")
    assert run.discreet("no such key: whisper") == "no such key: ***"
    assert run.result["settings"]["output"]["catalog"] == catalog | {"s3.secret-access-key": "***"}
