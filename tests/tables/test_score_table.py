"""The place of a table: what is refused before anything is written, and what is written beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bigfive_udf.errors import BigFiveError, OutputError, RefusedError, SettingsError
from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.tables.parquet_table import ParquetTable
from bigfive_udf.tables.score_table import check_columns, check_kind, claim, described, keep_apart


@pytest.fixture
def table(tmp_path: Path) -> str:
    return str(tmp_path / "scores")


def opened(path: str, columns: Sequence[str] = ("dt",), kind: str = "parquet") -> None:
    """What a run does before it scores: look what is there, and claim the place."""
    there = described(LocalFileSystem(), path)
    if there is not None:
        check_kind(path, there, kind)
        check_columns(path, there, columns)
    claim(ParquetTable(LocalFileSystem(), path, tuple(columns)), columns)


def refusal(act: Callable[[], None], kind: type[BigFiveError]) -> str:
    with pytest.raises(kind) as refused:
        act()
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


def test_a_new_table_is_an_empty_directory_with_a_description_beside_it(table):
    opened(table, ("dt", "country"))
    assert os.listdir(table) == []
    assert json.loads(Path(f"{table}.job/table.json").read_text()) == {
        "format_version": 1,
        "format": "parquet",
        "partition_columns": ["dt", "country"],
    }


@pytest.mark.parametrize("name", ["part-0.parquet", "dt=1/part-0.parquet", "notes.txt", "a/b/c"])
def test_a_directory_with_files_of_others_is_refused_and_left_alone(table, name):
    foreign = Path(table) / name
    foreign.parent.mkdir(parents=True)
    foreign.write_text("precious")
    assert refusal(lambda: opened(table), OutputError) == (
        f"output.path {table} holds files that this job has not written: choose an empty or a new directory"
    )
    assert foreign.read_text() == "precious"
    assert not Path(f"{table}.job").exists()


@pytest.mark.parametrize("name", [".DS_Store", "_SUCCESS", "_temporary/0/part-0.parquet"])
def test_a_directory_with_nothing_but_what_readers_pass_over_is_taken(table, name):
    (Path(table) / name).parent.mkdir(parents=True)
    (Path(table) / name).write_text("")
    opened(table)


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
    opened(table, before)
    assert refusal(lambda: opened(table, now), RefusedError) == (
        f"output.path {table} is partitioned by {was}, the corpus by {is_}: "
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
    table, source = f"{tmp_path}/{output}", corpus.format(d=tmp_path)
    assert refusal(lambda: keep_apart(table, source), SettingsError) == (
        f"output.path {table} and input.path {source} lie in one another: choose another output.path"
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
    keep_apart(table, corpus.format(d=tmp_path))


@pytest.mark.parametrize("place", ["scores", "scores.job", "above"])
def test_a_file_in_the_way_is_told_as_what_cannot_be_written(tmp_path, place):
    (tmp_path / place).write_text("in the way")
    path = tmp_path / ("above/scores" if place == "above" else "scores")
    message = refusal(lambda: opened(str(path)), OutputError)
    assert str(path) in message
    assert (tmp_path / place).read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not write here")
def test_a_place_where_the_user_may_not_write_is_told_with_the_reason(tmp_path):
    program = """
import os, sys
from bigfive_udf.errors import OutputError
from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.tables.parquet_table import ParquetTable
from bigfive_udf.tables.score_table import claim
os.setuid(65534)
try:
    claim(ParquetTable(LocalFileSystem(), sys.argv[1], ("dt",)), ("dt",))
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
    opened(table)
    about = Path(f"{table}.job/table.json")
    about.write_text(content)
    assert str(about) in refusal(lambda: opened(table), OutputError)
    assert about.read_text() == content


def test_a_table_of_a_later_program_is_not_touched(table):
    opened(table)
    about = Path(f"{table}.job/table.json")
    about.write_text(about.read_text().replace('"format_version": 1', '"format_version": 2'))
    message = refusal(lambda: opened(table), OutputError)
    assert str(about) in message
    assert "format_version 2" in message


def test_a_table_of_another_kind_is_refused(table):
    opened(table)
    assert refusal(lambda: opened(table, kind="iceberg"), RefusedError) == (
        f"output.path {table} is a table of format parquet, output.format is iceberg: set it to parquet, or choose "
        "another output.path"
    )
