"""What a corpus may be: files of every format and layout, tables and views of the catalog."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bigfive_udf.errors import InputError, PartitionsFailedError
from bigfive_udf.model.artifact import load_artifact
from support.cluster import spark_sql, submit
from support.corpora import corrupt, write_corpus
from support.jobs_here import refused
from support.scores import table_of


def write_day(folder: Path, day: int, *rows: dict[str, Any]) -> None:
    """A partition of JSON."""
    (folder / f"day={day}").mkdir(parents=True)
    (folder / f"day={day}" / "a.json").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_json_and_csv_corpora_and_a_condition(score, basics, tmp_path):
    rows = [{"doc_id": i, "text": f'row {i}, "quoted"\nand more'} for i in range(20)]
    for kind in ("json", "csv"):
        folder = tmp_path / kind
        folder.mkdir()
        if kind == "json":
            (folder / "a.json").write_text("".join(json.dumps(r) + "\n" for r in rows))
        else:
            quoted = ['{},"{}"\n'.format(r["doc_id"], r["text"].replace('"', '""')) for r in rows]
            (folder / "a.csv").write_text("doc_id,text\n" + "".join(quoted))
        output = str(tmp_path / f"scores-{kind}")
        source = {"input.path": str(folder), "input.format": kind, "input.where": "doc_id % 2 = 0"}
        run = score(basics | source | {"output.path": output})
        assert run.result["documents_out"] == 10
        assert [int(i) for i in table_of(output, "doc_id::INT")["doc_id"].to_pylist()] == list(range(0, 20, 2))


def test_files_in_plain_subdirectories_are_read_too(score, basics, tmp_path):
    root = tmp_path / "nested"
    for i, folder in enumerate((root, root / "old", root / "old" / "older")):
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"doc_id": [i], "text": ["one text"]}), folder / "a.parquet")
    score(basics | {"input.path": str(root)})
    assert table_of(basics["output.path"])["doc_id"].to_pylist() == [0, 1, 2]


def test_a_corpus_below_another_partition_directory(score, basics, tmp_path):
    corpus = write_corpus(tmp_path / "run=5" / "corpus", days=2)
    score(basics | {"input.path": str(corpus)})
    assert set(table_of(basics["output.path"])["dt"].to_pylist()) == {"2026-01-05", "2026-01-06"}


def test_files_of_a_text_format_that_do_not_agree(score, basics, tmp_path):
    for kind, first, second in (
        ("csv", "doc_id,text\n1,a text\n", "doc_id,body\n2,another text\n"),
        ("json", '{"doc_id": 1, "text": "a text"}\n', '{"doc_id": 2, "body": "another text"}\n'),
        ("json", '{"doc_id": 1, "text": "a text"}\n', '{"doc_id": 2, "text": "anoth\n'),
    ):
        folder = tmp_path / f"{kind}-{len(second)}"
        folder.mkdir()
        (folder / f"a.{kind}").write_text(first)
        (folder / f"b.{kind}").write_text(second)
        refused(score, basics | {"input.path": str(folder), "input.format": kind}, InputError, f"b.{kind}")


def test_csv_files_may_have_their_columns_in_any_order_and_others_beside_them(score, basics, tmp_path):
    folder = tmp_path / "csv"
    folder.mkdir()
    (folder / "a.csv").write_text("doc_id,text\n1,a text\n")
    (folder / "b.csv").write_text("text,doc_id\nanother text,2\n")
    (folder / "c.csv").write_text('likes,doc_id,text\n9,3,"a third\ntext"\n')
    score(basics | {"input.path": str(folder), "input.format": "csv"})
    table = table_of(basics["output.path"])
    assert table["doc_id"].to_pylist() == ["1", "2", "3"]
    texts = ["a text", "another text", "a third\ntext"]
    exact = load_artifact(basics["model.path"]).predict(texts, device="cpu", precision="fp32")
    np.testing.assert_allclose(table["prob_openness"].to_numpy(), exact["prob_openness"], atol=1e-5)


def test_a_compressed_file_of_a_text_format_is_known_by_its_name(score, basics, tmp_path):
    folder = tmp_path / "zipped"
    folder.mkdir()
    (folder / "a.csv.gz").write_bytes(gzip.compress(b"doc_id,text\n1,a text\n"))
    refused(score, basics | {"input.path": str(folder)}, InputError, "set input.format=csv")
    score(basics | {"input.path": str(folder), "input.format": "csv"})
    assert table_of(basics["output.path"])["doc_id"].to_pylist() == ["1"]


def test_json_keeps_the_types_of_the_table_and_may_leave_out_what_is_null(score, basics, tmp_path):
    folder = tmp_path / "json"

    settings = basics | {"input.path": str(folder), "input.format": "json", "input.keep_columns": ["likes"]}
    write_day(folder, 1, {"doc_id": "a", "text": "one text", "likes": 3}, {"doc_id": "b", "text": "two"})
    write_day(folder, 2, {"doc_id": "c", "text": "three"})
    score(settings)
    write_day(folder, 3, {"doc_id": "d", "text": "four", "likes": None})  # nothing tells a type
    score(settings)
    found = table_of(settings["output.path"])
    assert dict(zip(found["doc_id"].to_pylist(), found["likes"].to_pylist(), strict=True)) == {"a": 3} | dict.fromkeys(
        "bcd"
    )
    write_day(folder, 4, {"doc_id": "e", "text": "five", "likes": 1})
    write_day(folder, 5, {"doc_id": "f", "text": "six", "likes": 1.5})
    with pytest.raises(PartitionsFailedError, match=r"day=5/a\.json holds a record that is malformed, or a value of"):
        score(settings)
    assert table_of(settings["output.path"])["doc_id"].to_pylist() == list("abcde")
    score(settings | {"on_schema_change": "only_new"})  # which lets a type change
    assert table_of(settings["output.path"])["doc_id"].to_pylist() == list("abcdef")


def test_json_with_nested_columns_and_a_pseudonym_that_nobody_wrote(score, basics, tmp_path, monkeypatch):
    monkeypatch.setenv("BIGFIVE_PSEUDONYM_KEY", "k" * 32)
    folder = tmp_path / "json"

    source = {"input.path": str(folder), "input.format": "json", "input.keep_columns": ["meta"]}
    settings = basics | source | {"input.author_column": "who", "input.pseudonymise": ["author"]}
    write_day(
        folder, 1, {"doc_id": "a", "text": "one text", "meta": {"content-type": "x", "$oid": 1}, "who": "somebody"}
    )
    score(settings)
    write_day(folder, 2, {"doc_id": "b", "text": "two", "meta": {"content-type": "y", "$oid": 2}})
    score(settings)
    found = table_of(settings["output.path"])
    assert [m["$oid"] for m in found["meta"].to_pylist()] == [1, 2]
    assert found["who"].to_pylist()[1] is None and found["who"].to_pylist()[0] not in (None, "somebody")


def test_a_condition_on_a_column_that_one_day_of_json_lacks_fails_that_day_alone(score, basics, tmp_path):
    for n, rows in {
        1: [{"doc_id": "a", "text": "x", "lang": "nl"}],
        2: [{"doc_id": "b", "text": "y", "tongue": "nl"}],
    }.items():
        write_day(tmp_path / "json", n, *rows)
    # Spark knows a column by any case.
    for condition in ("lang = 'nl'", "LANG = 'nl'"):
        source = {"input.path": str(tmp_path / "json"), "input.format": "json", "input.where": condition}
        with pytest.raises(PartitionsFailedError, match=r"day=2.* have no column lang, which input\.where names"):
            score(basics | source | {"plan.max_rescored_share": 1.0})
    assert table_of(basics["output.path"])["doc_id"].to_pylist() == ["a"]


def test_a_function_of_a_condition_is_no_column(score, basics, tmp_path):
    for day, more in ((1, {}), (2, {"year": [1999]})):
        folder = tmp_path / "years" / f"day={day}"
        folder.mkdir(parents=True)
        table = {"doc_id": [day], "text": ["one text"], "at": ["2026-01-05"], **more}
        pq.write_table(pa.table(table), folder / "a.parquet")
    score(basics | {"input.path": str(tmp_path / "years"), "input.where": "YEAR (at) = 2026 AND year(AT) > 2000"})
    assert table_of(basics["output.path"])["doc_id"].to_pylist() == [1, 2]


def test_tables_of_other_formats_are_not_read_as_parquet(score, basics, corpus):
    log = corpus / "_delta_log"
    log.mkdir()
    (log / "00000000000000000000.json").write_text("{}")
    refused(score, basics, InputError, "Delta", "input.table")
    (log / "00000000000000000000.json").unlink()
    log.rmdir()
    (corpus / "metadata").mkdir()
    (corpus / "metadata" / "v1.metadata.json").write_text("{}")
    refused(score, basics, InputError, "Iceberg")


def test_a_table_of_the_catalog_is_a_corpus_too(score, spark, basics):
    del basics["input.path"]
    spark.sql("DROP TABLE IF EXISTS texts_by_day")
    spark.sql("CREATE TABLE texts_by_day (doc_id INT, text STRING, day INT) USING parquet PARTITIONED BY (day)")
    try:
        spark.sql("INSERT INTO texts_by_day VALUES (1, 'one', 9), (2, 'two', 10), (3, 'three', 10)")
        run = score(basics | {"input.table": "texts_by_day"}, "--since", "day=10")
        assert run.result["documents_out"] == 2, "days are ordered as numbers, not as strings"
        assert table_of(basics["output.path"])["doc_id"].to_pylist() == [2, 3]
    finally:
        spark.sql("DROP TABLE texts_by_day")


def test_a_file_of_a_table_that_lacks_the_text_fails_its_partition(score, spark, basics, tmp_path):
    """Spark would read it as null, and its rows would be empty texts."""
    del basics["input.path"]
    place = tmp_path / "external dir%"
    for day, column in ((9, "TEXT"), (10, "body"), (11, "text")):
        (place / f"day={day}").mkdir(parents=True)
        pq.write_table(pa.table({"doc_id": [day], column: ["one text"]}), place / f"day={day}" / "a b.parquet")
    spark.sql("DROP TABLE IF EXISTS external_texts")
    spark.sql("CREATE TABLE external_texts (doc_id BIGINT, text STRING, day INT) USING parquet "
              f"PARTITIONED BY (day) LOCATION '{place}'")  # fmt: skip
    try:
        spark.sql("MSCK REPAIR TABLE external_texts")
        told = r"1 of 3 partitions failed: day=10: .*a%20b\.parquet has no column text, its columns are doc_id, body"
        with pytest.raises(PartitionsFailedError, match=told):
            score(basics | {"input.table": "external_texts"})
        rows = table_of(basics["output.path"])
        assert rows["doc_id"].to_pylist() == [9, 11]
        assert set(rows["status"].to_pylist()) == {"scored"}
    finally:
        spark.sql("DROP TABLE external_texts")


def test_an_empty_text_for_a_partition_is_refused_for_it_would_be_taken_for_null(score, spark, basics):
    del basics["input.path"]
    rows = "VALUES (1, 'one', ''), (2, 'two', NULL), (3, 'three', 'nl') AS t(doc_id, text, country)"
    spark.sql(f"CREATE OR REPLACE TEMPORARY VIEW texts_by_country AS SELECT * FROM {rows}")
    settings = basics | {"input.table": "texts_by_country", "input.partition_columns": ["country"]}
    refused(score, settings, InputError, "country is an empty text", "nullif(country, '')")
    columns = "doc_id, text, nullif(country, '') AS country"
    spark.sql(f"CREATE OR REPLACE TEMPORARY VIEW texts_by_country AS SELECT {columns} FROM {rows}")
    score(settings)
    assert table_of(settings["output.path"])["doc_id"].to_pylist() == [1, 2, 3]


@pytest.fixture
def plain_table(spark, basics):
    """A table of the catalog without partition columns, of one file so far."""
    del basics["input.path"]
    spark.sql("DROP TABLE IF EXISTS plain_texts")
    spark.sql("CREATE TABLE plain_texts (doc_id INT, text STRING, day DATE) USING parquet")
    spark.sql("INSERT INTO plain_texts SELECT /*+ COALESCE(1) */ id, 'one text', DATE '2026-01-05' FROM range(4)")
    yield basics | {"input.table": "plain_texts"}
    spark.sql("DROP TABLE plain_texts")


def test_a_table_without_partition_columns_is_scored_file_by_file(score, spark, plain_table):
    first = score(plain_table)
    spark.sql("INSERT INTO plain_texts SELECT /*+ COALESCE(1) */ id, 'more text', NULL FROM range(4, 6)")
    second = score(plain_table)
    assert (first.result["documents_out"], second.result["documents_out"]) == (4, 2)
    found = table_of(plain_table["output.path"])
    assert found["doc_id"].to_pylist() == list(range(6))
    assert found["run_id"].to_pylist() == [first.run_id] * 4 + [second.run_id] * 2
    assert score(plain_table).result["plan"]["up_to_date"] == 2


def test_only_the_files_of_a_group_are_read(score, spark, plain_table):
    """A file of another group may be damaged: it is not touched."""
    score(plain_table)
    (old,) = spark.table("plain_texts").inputFiles()
    spark.sql("INSERT INTO plain_texts SELECT /*+ COALESCE(1) */ id, 'more text', NULL FROM range(4, 6)")
    file = Path(old.removeprefix("file://"))
    times = file.stat()
    corrupt(file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    (file.parent / f".{file.name}.crc").unlink(missing_ok=True)
    assert score(plain_table).result["documents_out"] == 2


def test_any_column_of_a_view_may_divide_it(score, spark, plain_table):
    spark.sql("INSERT INTO plain_texts VALUES (7, 'seven', NULL), (8, 'eight', DATE '2026-02-01')")
    spark.sql("CREATE OR REPLACE TEMPORARY VIEW some_texts AS SELECT * FROM plain_texts WHERE doc_id > 1")
    settings = plain_table | {"input.table": "some_texts", "input.partition_columns": ["day"]}
    run = score(settings)
    assert {p["partition"]: p["documents"] for p in run.result["plan"]["score"]} == {
        "day=2026-01-05": 2,
        "day=2026-02-01": 1,
        "day=__HIVE_DEFAULT_PARTITION__": 1,
    }
    assert table_of(settings["output.path"])["doc_id"].to_pylist() == [2, 3, 7, 8]
    spark.sql("INSERT INTO plain_texts VALUES (9, 'nine', DATE '2026-02-01')")
    assert [
        p["partition"] for p in score(settings, "--rescore", "--since", "day=2026-01-06").result["plan"]["score"]
    ] == ["day=2026-02-01"]
    assert table_of(settings["output.path"])["doc_id"].to_pylist() == [2, 3, 7, 8, 9]


def test_a_table_of_the_metastore_is_found_by_a_job_that_keeps_none(basics, tmp_path):
    """Spark alone knows tables of its own session only; those of a metastore are what input.table is for."""
    spark_sql(
        "CREATE TABLE kept (doc_id INT, text STRING); INSERT INTO kept VALUES (1, 'one text'), (2, NULL)", tmp_path
    )
    del basics["input.path"]
    done = submit(basics | {"input.table": "default.kept"}, directory=tmp_path)
    assert done.code == 0, done.error
    assert table_of(basics["output.path"])["doc_id"].to_pylist() == [1, 2]
