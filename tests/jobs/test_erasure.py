"""One author is erased: at the source, by one more run that keeps nothing of what it replaced, and everywhere."""

from __future__ import annotations

import io
import shutil
import zlib
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from bigfive_udf.errors import OutputError
from bigfive_udf.spark.output.catalog_lookup import Names

AUTHOR = "author-6"
AT_ONCE = {"retention.trash_days": 0, "retention.snapshot_days": 0, "plan.max_rescored_share": 1.0}


def erase_at_the_source(corpus: Path) -> None:
    """Rewrite the files that hold texts of the author, without them; the last day goes as a whole."""
    for file in corpus.rglob("*.parquet"):
        table = duckdb.sql(f"SELECT * FROM read_parquet('{file}') WHERE author <> '{AUTHOR}'").to_arrow_table()
        pq.write_table(table.drop_columns(["dt"]) if "dt" in table.column_names else table, file)
    shutil.rmtree(max(corpus.glob("dt=*")))


def places_of(settings: dict[str, Any], word: str) -> list[str]:
    """Every file of the table and of the job that holds the word: as bytes, in rows, or inside what is compressed."""
    output = Path(settings["output.path"])
    found = []
    for file in [*output.rglob("*"), *Path(f"{output}.job").rglob("*")]:
        if file.is_dir():
            continue
        content = file.read_bytes()
        if file.suffix == ".parquet":
            content += str(duckdb.sql(f"FROM read_parquet('{file}')").fetchall()).encode()
            content += str(duckdb.sql(f"FROM parquet_metadata('{file}')").fetchall()).encode()
        elif file.suffix == ".avro":
            content += blocks_of(content)
        if word.encode() in content:
            found.append(str(file.relative_to(output.parent)))
    return found


def blocks_of(avro: bytes) -> bytes:
    """The content of an Avro file, by the book: magic, a map with the codec, a mark, and blocks that end with it."""
    stream = io.BytesIO(avro)

    def number() -> int:
        value, shift, byte = 0, 0, 0x80
        while byte & 0x80:
            byte = stream.read(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
        return (value >> 1) ^ -(value & 1)

    assert stream.read(4) == b"Obj\x01"
    about: dict[bytes, bytes] = {}
    while entries := number():
        for _ in range(entries):
            key = stream.read(number())
            about[key] = stream.read(number())
    mark, codec, content = stream.read(16), about.get(b"avro.codec", b"null"), b""
    while stream.tell() < len(avro):
        number()
        block = stream.read(number())
        content += {b"null": lambda x: x, b"deflate": lambda x: zlib.decompress(x, -15)}[codec](block)
        assert stream.read(16) == mark
    return content


@pytest.mark.parametrize("kind", ["parquet", "iceberg"])
def test_no_byte_of_an_author_remains_after_one_more_run(score, basics, corpus, kind):
    if kind == "iceberg":
        pytest.importorskip("pyiceberg")
    settings = basics | {"input.author_column": "author", "output.format": kind}
    score(settings)
    score(settings, "--rescore")
    assert len(places_of(settings, AUTHOR)) >= 6, "in the rows, and in the trash or an older snapshot"
    erase_at_the_source(corpus)
    run = score(settings | AT_ONCE, "--prune")
    assert run.result["removed_partitions"] == ["dt=2026-01-07"]
    assert run.result["documents_out"] == 80 - len([i for i in range(80) if i % 7 == 6])
    assert places_of(settings, AUTHOR) == []
    assert places_of(settings, "author-5"), "the others are there, or the check sees nothing"


@pytest.mark.parametrize("catalog", ["no longer told", "out of reach"])
def test_the_means_of_an_author_go_whatever_the_catalog_does(score, basics, corpus, spark, monkeypatch, catalog):
    settings = basics | {"input.author_column": "author", "output.table": "erased", "output.author_files": True}
    try:
        score(settings)
        assert any("by_author" in place for place in places_of(settings, AUTHOR))
        erase_at_the_source(corpus)
        if catalog == "out of reach":
            monkeypatch.setattr(Names, "ask", _refused)
            with pytest.raises(OutputError, match=r"output\.table erased can't be brought up to date"):
                score(settings | AT_ONCE, "--prune")
        else:
            score({key: settings[key] for key in (*basics, "input.author_column")} | AT_ONCE, "--prune")
        assert places_of(settings, AUTHOR) == []
        assert places_of(settings, "author-5")
    finally:
        monkeypatch.undo()
        for view in ("erased_long", "erased_by_partition", "erased_by_author"):
            spark.sql(f"DROP VIEW IF EXISTS {view}")
        spark.sql("DROP TABLE IF EXISTS erased")


def _refused(self: Names, statement: str) -> Any:
    raise ConnectionError("the metastore is down")


@pytest.mark.parametrize("kind", ["parquet", "iceberg"])
def test_a_run_with_nothing_to_do_expires_too(score, basics, corpus, kind):
    if kind == "iceberg":
        pytest.importorskip("pyiceberg")
    settings = basics | {"input.author_column": "author", "output.format": kind, "plan.max_rescored_share": 1.0}
    score(settings)
    erase_at_the_source(corpus)
    score(settings, "--prune")
    assert places_of(settings, AUTHOR), "what was replaced is kept for a while"
    assert score(settings | AT_ONCE).result["plan"]["up_to_date"] == 2
    assert places_of(settings, AUTHOR) == []
