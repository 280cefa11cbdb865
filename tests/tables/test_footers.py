"""Footers of files that other programs wrote: what Spark reads as one type passes, anything else is named."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from itertools import combinations
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bigfive_udf.errors import InputError
from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.tables.footers import Footer, check_columns, footer_of, read_footers

NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
SQL_TYPES = {
    "tinyint": "1::TINYINT",
    "smallint": "1::SMALLINT",
    "int": "1::INTEGER",
    "bigint": "1::BIGINT",
    "float": "1::FLOAT",
    "double": "1::DOUBLE",
    "string": "'x'",
    "boolean": "true",
    "date": "DATE '2026-11-22'",
    "timestamp": "TIMESTAMPTZ '2026-11-22 12:00:00Z'",
    "timestamp_ntz": "TIMESTAMP '2026-11-22 12:00:00'",
    "decimal(10,2)": "1.5::DECIMAL(10,2)",
    "decimal(10,4)": "1.5::DECIMAL(10,4)",
    "decimal(30,2)": "1.5::DECIMAL(30,2)",
    "binary": "'x'::BLOB",
    "array<int>": "[1]",
    "struct<a:int,b:string>": "{'a': 1, 'b': 'x'}",
    "map<string,int>": "MAP {'k': 1}",
}


def write(path: Path, **columns: Any) -> str:
    pq.write_table(pa.table({name: pa.array(c) if isinstance(c, list) else c for name, c in columns.items()}), path)
    return str(path)


def local_footer(path: str) -> Footer:
    return footer_of(LocalFileSystem(), path)


def check(files: Iterable[str], needed: Sequence[str], read: Callable[[str], Footer] = local_footer) -> dict[str, str]:
    """Read the footers and check them."""
    return check_columns(read_footers(list(files), read), needed)


def refusal(files: list[str], *needed: str) -> str:
    with pytest.raises(InputError) as refused:
        check(files, needed)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


# --- types ---


@pytest.fixture(scope="module")
def typed(spark, tmp_path_factory) -> dict[str, str]:
    """One file by DuckDB, Arrow and Spark each, with a column of every type, called by the type's name in Spark."""
    directory = tmp_path_factory.mktemp("types")
    query = "SELECT " + ", ".join(f'{sql} AS "{name}"' for name, sql in SQL_TYPES.items())
    by_duckdb, by_arrow = directory / "duckdb.parquet", directory / "arrow.parquet"
    duckdb.sql("SET timezone = 'UTC'")
    duckdb.sql(f"COPY ({query}) TO '{by_duckdb}' (FORMAT parquet)")
    pq.write_table(duckdb.sql(query).to_arrow_table(), by_arrow)
    before = spark.conf.get("spark.sql.parquet.outputTimestampType")
    spark.conf.set("spark.sql.parquet.outputTimestampType", "INT96")  # Spark's own default
    try:
        spark.read.parquet(str(by_arrow)).coalesce(1).write.parquet(str(directory / "spark"))
    finally:
        spark.conf.set("spark.sql.parquet.outputTimestampType", before)
    (by_spark,) = (directory / "spark").glob("*.parquet")
    files = {"duckdb": str(by_duckdb), "arrow": str(by_arrow), "spark": str(by_spark)}
    for file in files.values():
        assert dict(spark.read.parquet(file).dtypes) == {name: name for name in SQL_TYPES}, "Spark is the judge"
    return files


@pytest.mark.parametrize("name", SQL_TYPES)
def test_a_type_is_the_same_whoever_wrote_it(typed, name):
    check(typed.values(), [name])


@pytest.mark.parametrize("writer", ["duckdb", "arrow", "spark"])
def test_two_types_of_spark_are_never_taken_for_one(typed, writer):
    columns = local_footer(typed[writer]).columns
    assert [(a, b) for a, b in combinations(SQL_TYPES, 2) if columns[a] == columns[b]] == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.string(), pa.large_string()),
        (pa.string(), pa.string_view()),
        (pa.string(), pa.dictionary(pa.int32(), pa.string())),
        (pa.binary(), pa.large_binary()),
        (pa.timestamp("us", "UTC"), pa.timestamp("ms", "Europe/Amsterdam")),
        (pa.list_(pa.int64()), pa.large_list(pa.int64())),
    ],
    ids=str,
)
def test_spellings_that_parquet_does_not_know_apart_are_equal(tmp_path, one, other):
    value = [[1]] if pa.types.is_list(one) else [NOON] if pa.types.is_timestamp(one) else ["x"]
    first = write(tmp_path / "a", c=pa.array(value, one))
    second = write(tmp_path / "b", c=pa.array(value).cast(other))
    check([first, second], ["c"])


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (pa.int32(), pa.int64(), ("INT32", "INT64")),
        (pa.int8(), pa.int16(), ("INT8", "INT16")),  # Spark would read 300 as 44, without a word
        (pa.int32(), pa.uint32(), ("INT32", "UINT32")),
        (pa.string(), pa.binary(), ("STRING", "BYTE_ARRAY")),
        (pa.float32(), pa.float64(), ("FLOAT", "DOUBLE")),
        (pa.string(), pa.int64(), ("STRING", "INT64")),
    ],
    ids=str,
)
def test_files_of_different_types_are_named_with_the_types(tmp_path, one, other, words):
    files = [
        write(tmp_path / name, doc_id=pa.array([None], kind)) for name, kind in (("a", one), ("b", one), ("c", other))
    ]
    assert refusal(files, "doc_id") == (
        f"{files[2]} has column doc_id as {words[1]}, {files[0]} as {words[0]}: write both in one type"
    )


def test_the_fields_of_a_struct_count(tmp_path):
    files = [
        write(tmp_path / "a", c=pa.array([{"x": 1, "y": "s"}])),
        write(tmp_path / "b", c=pa.array([{"x": 1, "y": 2.0}])),
        write(tmp_path / "c", c=pa.array([{"x": 1, "z": "s"}])),
        write(tmp_path / "d", c=pa.array([{"x": 3, "y": "t"}])),
    ]
    check([files[0], files[3]], ["c"])
    for different in files[1:3]:
        assert different in refusal([files[0], different], "c")


def test_only_the_needed_columns_are_compared(tmp_path):
    files = [
        write(tmp_path / "a", text=["x"], n=[1]),
        write(tmp_path / "b", text=["x"], n=["one"], more=[Decimal("1.5")]),
    ]
    check(files, ["text"])
    assert "column n as STRING" in refusal(files, "text", "n")


# --- columns ---


def test_a_missing_column_is_named_with_the_file_and_the_columns_it_has(tmp_path):
    files = [write(tmp_path / f"{i}.parquet", doc_id=[1], text=["x"]) for i in range(20)]
    files[13] = write(tmp_path / "13.parquet", doc_id=[1], body=["x"])
    assert refusal(files, "doc_id", "text") == (
        f"{files[13]} has no column text, its columns are doc_id, body: correct the settings or the file"
    )


def test_the_first_file_that_is_wrong_is_named_every_time(tmp_path):
    good = [write(tmp_path / f"{i}", text=["x"]) for i in range(10)]
    files = [*good, write(tmp_path / "wrong", other=[1]), *good, write(tmp_path / "also wrong", another=[1])]
    assert {refusal(files, "text") for _ in range(10)} == {refusal(files[: len(good) + 1], "text")}


def test_columns_are_told_apart_to_the_letter(tmp_path):
    file = write(tmp_path / "a", Text=["x"])
    assert "has no column text, its columns are Text" in refusal([file], "text")


def test_a_dot_in_a_name_makes_no_struct(tmp_path):
    file = write(tmp_path / "a", **{"meta.lang": ["en"], "meta": [{"x": 1}], "c": [1]})
    check([file], ["meta.lang", "meta", "c"])
    assert list(local_footer(file).columns) == ["meta.lang", "meta", "c"]
    plain, struct = write(tmp_path / "b", **{"m.x": ["en"]}), write(tmp_path / "c", m=[{"x": "en"}])
    assert "has no column m.x" in refusal([plain, struct], "m.x")


def test_no_files_and_no_columns_are_nothing_to_refuse(tmp_path):
    check([], ["text"])
    check([write(tmp_path / "a", text=["x"])], [])


# --- files that are not whole ---


def _bytes_of(tmp_path: Path) -> bytes:
    return Path(write(tmp_path / "whole", text=["some text"] * 100)).read_bytes()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path, share):
    whole = _bytes_of(tmp_path)
    file = tmp_path / "cut.parquet"
    file.write_bytes(whole[: int(len(whole) * share)])
    message = refusal([str(file)], "text")
    assert message.startswith(f"{file} can't be read as Parquet (")
    assert message.endswith("): restore it or move it away")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PAR1",
        b"doc_id,text\n1,x\n",
        b"\x00" * 5000,
        b"\x00" * 70000 + b"\xff\xff\xff\xffPAR1",
        b"PAR1" + b"\xff" * 500 + b"PAR1",
    ],
)
def test_a_file_that_is_no_parquet_is_named(tmp_path, content):
    file = tmp_path / "odd.parquet"
    file.write_bytes(content)
    assert refusal([str(file)], "text").startswith(f"{file} can't be read as Parquet (")


def test_a_footer_longer_than_what_is_read_at_first_is_read_whole(tmp_path):
    names = [f"a column with a long name, number {i:05d}" for i in range(2000)]
    file = write(tmp_path / "wide", **{name: [1] for name in names})
    assert int.from_bytes(Path(file).read_bytes()[-8:-4], "little") > 65536
    assert list(local_footer(file).columns) == names


def test_a_damaged_footer_is_named(tmp_path):
    whole = bytearray(_bytes_of(tmp_path))
    length = int.from_bytes(whole[-8:-4], "little")
    start = len(whole) - 8 - length
    whole[start : start + length] = bytes(reversed(whole[start : start + length]))
    file = tmp_path / "odd.parquet"
    file.write_bytes(whole)
    assert refusal([str(file)], "text").startswith(f"{file} can't be read as Parquet (")


def test_a_file_that_went_away_or_is_a_directory_is_named(tmp_path):
    for path in (tmp_path / "gone.parquet", tmp_path):
        assert refusal([str(path)], "text").startswith(f"{path} can't be read as Parquet (")


def test_a_file_that_is_damaged_below_its_footer_passes_for_the_footer_is_all_that_is_read(tmp_path):
    whole = bytearray(_bytes_of(tmp_path))
    whole[4:40] = b"\xff" * 36
    file = tmp_path / "data.parquet"
    file.write_bytes(whole)
    check([str(file)], ["text"])
    with pytest.raises((OSError, pa.ArrowException)):
        pq.read_table(file)


def test_footers_may_be_read_by_another_reader():
    asked = []

    def read(path: str) -> Footer:
        asked.append(path)
        return Footer({"text": "string" if path != "s3a://b/3" else "bigint"})

    with pytest.raises(InputError, match=r"s3a://b/3 has column text as bigint, s3a://b/0 as string: "):
        check((f"s3a://b/{i}" for i in range(5)), ["text"], read)
    assert set(asked) == {f"s3a://b/{i}" for i in range(5)}


@pytest.mark.parametrize(("name", "cure"), [("a.csv", "set input.format=csv"), ("a.jsonl", "set input.format=json")])
def test_a_file_of_another_format_is_called_that(tmp_path: Path, name: str, cure: str):
    (tmp_path / name).write_text("doc_id,text\n1,one\n")
    with pytest.raises(InputError, match=cure) as told:
        local_footer(str(tmp_path / name))
    assert "move it away" not in str(told.value)


def test_the_bytes_of_a_text_are_those_of_its_column_alone(tmp_path):
    texts, noise = ["some words"] * 50, [bytes(random.Random(i).randbytes(2000)) for i in range(50)]
    file = write(tmp_path / "a.parquet", text=texts, noise=noise, **{"text.of": texts})
    fs = LocalFileSystem()
    size = footer_of(fs, file, "text").text_bytes
    assert 0 < size < 1000 < Path(file).stat().st_size - 90_000
    halves = str(tmp_path / "b.parquet")
    pq.write_table(pq.read_table(file), halves, row_group_size=25)
    assert size < footer_of(fs, halves, "text").text_bytes < 2 * size + 200
    assert footer_of(fs, file).text_bytes is footer_of(fs, file, "nothing").text_bytes is None
    write(tmp_path / "c.parquet", text=pa.array([], pa.string()))
    assert footer_of(fs, str(tmp_path / "c.parquet"), "text").text_bytes < 100
