"""The table as a directory: what it refuses, and what readers find in it before, between and after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bigfive_udf.errors import BigFiveError, OutputError, RefusedError, SettingsError
from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.tables.parquet_table import ParquetTable
from bigfive_udf.tables.partitions import HIVE_NULL, Values, partition_name

CORPUS = "/a/corpus/elsewhere"
RUN = "20261122T000000Z-abc123"


@pytest.fixture
def table(tmp_path: Path) -> ParquetTable:
    return ParquetTable(LocalFileSystem(), str(tmp_path / "scores"))


def stage(staging: str, columns: tuple[str, ...], values: Values, *ids: int) -> None:
    """What a run writes for one partition, hidden files of Spark among them."""
    directory = Path(staging) / partition_name(columns, values)
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"doc_id": list(ids)}), directory / "part-0.parquet")
    (directory / ".part-0.parquet.crc").write_bytes(b"crc")


def publish(table: ParquetTable, columns: tuple[str, ...], rows: dict[Values, tuple[int, ...]]) -> None:
    """One run: stage the partitions that have rows, publish them all."""
    with table.staging(RUN) as staging:
        for values, ids in rows.items():
            if ids:
                stage(staging, columns, values, *ids)
        for values in rows:
            table.publish(staging, columns, values)


def rows_of(table: ParquetTable) -> list[tuple[object, ...]]:
    """What DuckDB finds under the table's directory."""
    options = "hive_partitioning = true, hive_types_autocast = false"
    return sorted(duckdb.sql(f"FROM read_parquet('{table.path}/**/*.parquet', {options})").fetchall())


def refusal(
    table: ParquetTable, kind: type[BigFiveError], columns: tuple[str, ...] = ("dt",), corpus: str = CORPUS
) -> str:
    with pytest.raises(kind) as refused:
        table.prepare(columns, corpus)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


# --- prepare ---


def test_a_new_table_is_an_empty_directory_with_a_description_beside_it(table):
    table.prepare(("dt", "country"), CORPUS)
    assert os.listdir(table.path) == []
    assert json.loads(Path(f"{table.path}.job/table.json").read_text()) == {
        "format_version": 1,
        "format": "parquet",
        "partition_columns": ["dt", "country"],
    }


def test_a_table_of_ours_is_prepared_again_with_its_rows_in_place(table):
    for _ in range(2):
        table.prepare(("dt",), CORPUS)
        publish(table, ("dt",), {("1",): (1, 2)})
    assert rows_of(table) == [(1, "1"), (2, "1")]


@pytest.mark.parametrize("name", ["part-0.parquet", "dt=1/part-0.parquet", "notes.txt", "a/b/c"])
def test_a_directory_with_files_of_others_is_refused_and_left_alone(table, name):
    foreign = Path(table.path) / name
    foreign.parent.mkdir(parents=True)
    foreign.write_text("precious")
    assert refusal(table, OutputError) == (
        f"output.path {table.path} holds files that this job has not written: choose an empty or a new directory"
    )
    assert foreign.read_text() == "precious"
    assert not Path(f"{table.path}.job").exists()


@pytest.mark.parametrize("name", [".DS_Store", "_SUCCESS", "_temporary/0/part-0.parquet"])
def test_a_directory_with_nothing_but_what_readers_pass_over_is_taken(table, name):
    (Path(table.path) / name).parent.mkdir(parents=True)
    (Path(table.path) / name).write_text("")
    table.prepare(("dt",), CORPUS)


@pytest.mark.parametrize(
    ("before", "now", "was", "is_"),
    [
        (("dt",), (), "dt", "nothing"),
        ((), ("dt",), "nothing", "dt"),
        (("dt", "country"), ("country", "dt"), "dt, country", "country, dt"),
        (("dt",), ("DT",), "dt", "DT"),
    ],
)
def test_another_division_than_the_tables_is_refused(table, before, now, was, is_):
    table.prepare(before, CORPUS)
    assert refusal(table, RefusedError, now) == (
        f"output.path {table.path} is partitioned by {was}, the corpus by {is_}: "
        "rows would stand twice; choose another output.path"
    )


@pytest.mark.parametrize(
    ("output", "corpus"),
    [
        ("scores", "{d}/scores"),
        ("corpus/scores", "{d}/corpus"),
        ("scores", "{d}/scores/corpus"),
        ("corpus/scores", "{d}/corpus/"),
        ("corpus/scores/", "{d}/corpus"),
        ("corpus/scores", "file:{d}/corpus"),
        ("corpus/scores", "file://{d}/corpus"),
        ("other/../corpus/scores", "{d}/corpus"),
        ("corpus/scores", "{d}/x/../corpus"),
        ("corpus/scores", "{d}/corp*"),
        ("scores", "{d}/*"),
        ("corpus/2026/scores", "{d}/corpus/20??"),
        ("scores", "{d}/scores/dt=*"),
        ("scores", "{d}/{{scores,corpus}}"),
    ],
)
def test_a_table_in_the_corpus_or_round_it_is_refused(tmp_path, output, corpus):
    table = ParquetTable(LocalFileSystem(), f"{tmp_path}/{output}")
    source = corpus.format(d=tmp_path)
    assert refusal(table, SettingsError, corpus=source) == (
        f"output.path {table.path} and input.path {source} lie in one another: choose another output.path"
    )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "corpus",
    [
        "{d}/score",
        "{d}/scores2",
        "{d}/corpus/scores",
        "{d}/*.parquet",
        "{d}/sc*/../c",
        "db.scores",
        "s3a://b{d}/scores",
    ],
)
def test_a_neighbour_with_a_similar_name_is_no_corpus_of_this_table(table, tmp_path, corpus):
    table.prepare(("dt",), corpus.format(d=tmp_path))


@pytest.mark.parametrize("place", ["scores", "scores.job", "above"])
def test_a_file_in_the_way_is_told_as_what_cannot_be_written(tmp_path, place):
    (tmp_path / place).write_text("in the way")
    path = tmp_path / ("above/scores" if place == "above" else "scores")
    message = refusal(ParquetTable(LocalFileSystem(), str(path)), OutputError)
    assert str(path) in message
    assert (tmp_path / place).read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not write here")
def test_a_place_where_the_user_may_not_write_is_told_with_the_reason(tmp_path):
    program = """
import os, sys
from bigfive_udf.errors import OutputError
from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.tables.parquet_table import ParquetTable
os.setuid(65534)
try:
    ParquetTable(LocalFileSystem(), sys.argv[1]).prepare(("dt",), "/corpus")
except OutputError as error:
    print(error)
"""
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    path = f"{tmp_path}/scores"
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert done.stdout == (
        f"{path} can't be written (Permission denied): check the path, its permissions and the free space\n"
    )


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format_version": 1}', "\x00"])
def test_a_damaged_description_of_the_table_is_named(table, content):
    table.prepare(("dt",), CORPUS)
    about = Path(f"{table.path}.job/table.json")
    about.write_text(content)
    assert str(about) in refusal(table, OutputError)
    assert about.read_text() == content


def test_a_table_of_a_later_program_is_not_touched(table):
    table.prepare(("dt",), CORPUS)
    about = Path(f"{table.path}.job/table.json")
    about.write_text(about.read_text().replace('"format_version": 1', '"format_version": 2'))
    message = refusal(table, OutputError)
    assert str(about) in message
    assert "format_version 2" in message


# --- publish ---


def test_a_new_partition_appears_beside_the_others(table):
    table.prepare(("dt",), CORPUS)
    publish(table, ("dt",), {("2026-11-21",): (1,)})
    publish(table, ("dt",), {("2026-11-22",): (2, 3), (None,): (4,), ("a/b: 100%",): (5,)})
    in_sql = {(1, "2026-11-21"), (2, "2026-11-22"), (3, "2026-11-22"), (4, None), (5, "a/b: 100%")}
    assert set(rows_of_any(table)) == in_sql
    assert sorted(os.listdir(table.path)) == [
        "dt=2026-11-21",
        "dt=2026-11-22",
        f"dt={HIVE_NULL}",
        "dt=a%2Fb%3A 100%25",
    ]


def rows_of_any(table: ParquetTable) -> list[tuple[object, ...]]:
    """Like `rows_of`, where null is among the values, which can't be sorted."""
    options = "hive_partitioning = true, hive_types_autocast = false"
    return duckdb.sql(f"FROM read_parquet('{table.path}/**/*.parquet', {options})").fetchall()


def test_a_replaced_partition_holds_the_new_rows_and_none_of_the_old(table):
    table.prepare(("dt",), CORPUS)
    publish(table, ("dt",), {("1",): (1, 2, 3), ("2",): (4,)})
    Path(table.path, "dt=1", "part-1.parquet").write_bytes(Path(table.path, "dt=1", "part-0.parquet").read_bytes())
    publish(table, ("dt",), {("1",): (9,)})
    assert rows_of(table) == [(4, "2"), (9, "1")]


def test_a_partition_that_became_empty_loses_its_rows(table):
    table.prepare(("dt",), CORPUS)
    publish(table, ("dt",), {("1",): (1,), ("2",): (2,)})
    publish(table, ("dt",), {("1",): ()})
    assert rows_of(table) == [(2, "2")]
    assert os.listdir(f"{table.path}/dt=1") == ["_SUCCESS"]


def test_every_published_partition_holds_an_empty_success_file(table):
    columns = ("dt", "country")
    table.prepare(columns, CORPUS)
    publish(table, columns, {("1", "nl"): (1,), ("1", None): (2,), ("2", "be"): ()})
    found = {str(p.parent.relative_to(table.path)): p.stat().st_size for p in Path(table.path).rglob("_SUCCESS")}
    assert found == {"dt=1/country=nl": 0, f"dt=1/country={HIVE_NULL}": 0, "dt=2/country=be": 0}


def test_a_partition_that_is_not_published_stays_as_it_was(table):
    table.prepare(("dt",), CORPUS)
    publish(table, ("dt",), {("1",): (1,), ("2",): (2,)})
    with table.staging(RUN) as staging:
        stage(staging, ("dt",), ("1",), 10)
        stage(staging, ("dt",), ("2",), 20)
        table.publish(staging, ("dt",), ("1",))
    assert rows_of(table) == [(2, "2"), (10, "1")]


def test_a_table_without_partitions_is_replaced_as_a_whole(table):
    for ids in ((1, 2), (3,), ()):
        table.prepare((), CORPUS)
        publish(table, (), {(): ids})
        if ids:
            assert [row[0] for row in duckdb.sql(f"FROM '{table.path}/*.parquet'").fetchall()] == list(ids)
    assert os.listdir(table.path) == ["_SUCCESS"]


def test_nothing_but_the_table_lies_under_its_path(table):
    table.prepare(("dt",), CORPUS)
    publish(table, ("dt",), {("1",): (1,)})
    publish(table, ("dt",), {("1",): (2,)})
    table.write_record(RUN, "{}")
    files = {str(p.relative_to(table.path)) for p in Path(table.path).rglob("*") if p.is_file()}
    assert files == {"dt=1/part-0.parquet", "dt=1/.part-0.parquet.crc", "dt=1/_SUCCESS"}
    beside = Path(table.job_path)
    assert {str(p.relative_to(beside)) for p in beside.rglob("*") if p.is_file()} == {"table.json", f"runs/{RUN}.json"}
    assert sorted(os.listdir(Path(table.path).parent)) == ["scores", "scores.job"]


def test_the_staging_of_a_run_is_gone_whatever_happened(table):
    table.prepare(("dt",), CORPUS)
    with pytest.raises(RuntimeError, match="lost"), table.staging(RUN) as staging:
        stage(staging, ("dt",), ("1",), 1)
        assert staging.startswith(table.job_path)
        raise RuntimeError("lost")
    assert not Path(staging).exists()
    with table.staging(RUN):
        pass  # nothing was staged


def test_a_table_that_cannot_be_written_is_told_and_as_it_was(table):
    table.prepare(("dt",), CORPUS)
    publish(table, ("dt",), {("1",): (1,)})
    Path(table.path, "dt=2").write_text("a file in the way of a partition")
    with table.staging(RUN) as staging:
        stage(staging, ("dt", "country"), ("2", "nl"), 2)
        with pytest.raises(OutputError) as refused:
            table.publish(staging, ("dt", "country"), ("2", "nl"))
    assert str(refused.value).startswith(f"{table.path}/dt=2/country=nl can't be written (")
    assert "check the path, its permissions and the free space" in str(refused.value)
    assert sorted(os.listdir(table.path)) == ["dt=1", "dt=2"]
    assert pq.read_table(f"{table.path}/dt=1/part-0.parquet").column("doc_id").to_pylist() == [1]


# --- records ---


def test_a_record_is_kept_for_each_run(table):
    table.write_record("run-1", '{"exit_code": 0}\n')
    table.write_record("run-2", '{"exit_code": 5}\n')
    table.write_record("run-2", '{"exit_code": 6}\n')
    runs = Path(table.job_path) / "runs"
    assert {p.name: json.loads(p.read_text()) for p in runs.iterdir()} == {
        "run-1.json": {"exit_code": 0},
        "run-2.json": {"exit_code": 6},
    }


def test_a_record_that_cannot_be_written_is_an_output_error(table):
    Path(table.job_path).write_text("in the way")
    with pytest.raises(OutputError, match=r"scores\.job can't be written"):
        table.write_record(RUN, "{}")
