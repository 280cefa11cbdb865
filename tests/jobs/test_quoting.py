"""Names and values with quotes and semicolons are names and values, in both kinds of table."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bigfive_udf.tables.partitions import partition_name

COLUMN, ID, AUTHOR = "d`t'; --", 'the "id"\'; DROP TABLE x; --', "author`;"
VALUES = ["x'; DROP TABLE scores; --", '" OR 1=1; --', "`;{scores}"]


@pytest.mark.parametrize("kind", ["parquet", "iceberg"])
def test_quotes_and_semicolons_pass_through(score, basics, tmp_path, kind, monkeypatch):
    if kind == "iceberg":
        pytest.importorskip("pyiceberg")
    monkeypatch.setenv("BIGFIVE_PSEUDONYM_KEY", "k" * 32)
    for i, value in enumerate(VALUES):
        folder = tmp_path / "odd" / partition_name((COLUMN,), (value,))
        folder.mkdir(parents=True)
        pq.write_table(pa.table({ID: [i], AUTHOR: ["o'x;--"], "text": ["one text"]}), folder / "p.parquet")
    names = {"input.id_column": ID, "input.author_column": AUTHOR, "input.pseudonymise": ["author"]}
    settings = basics | names | {"input.path": str(tmp_path / "odd"), "output.format": kind}
    assert score(settings, "--partition", f"{COLUMN}={VALUES[0]}").result["documents_out"] == 1
    assert score(settings, "--since", f"{COLUMN}= ").result["documents_out"] == 2
    score(settings | {"labels.thresholds": {"O": 0.0}})
    files = f"{Path(basics['output.path'])}/**/*.parquet"
    rows = duckdb.sql(f"FROM read_parquet('{files}', hive_partitioning=true, union_by_name=true)").to_arrow_table()
    newest = [r for r in rows.to_pylist() if r["label_openness"]]
    assert {r[ID] for r in newest} == {0, 1, 2}
    assert all(len(r[AUTHOR]) == 64 for r in newest)
    if kind == "parquet":
        corpus = {p.name for p in (tmp_path / "odd").iterdir()}
        assert {p.name for p in Path(basics["output.path"]).iterdir()} == corpus
