"""docs/sql.md: every query of the page, asked of a table that the job has written, in Spark and in DuckDB."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bigfive_udf.demo.queries import QUERIES
from bigfive_udf.tables.views import Shape, views_of
from bigfive_udf.traits import TRAITS
from support.cluster import REPOSITORY
from support.corpora import write_corpus

PAGE = (REPOSITORY / "docs" / "sql.md").read_text()
SPARK_ONLY = " (Spark only)"


def section(heading: str) -> str:
    """What stands below a heading, its own subsections among it."""
    level = heading.split(" ")[0]
    return re.split(rf"^#{{1,{len(level)}}} ", PAGE.split(f"\n{heading}\n")[1], maxsplit=1, flags=re.M)[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def questions() -> dict[str, str]:
    """The query below each question's heading."""
    parts = re.split(r"^### \d+\. (.*)\n", section("## Questions"), flags=re.M)[1:]
    found = {}
    for heading, text in zip(parts[::2], parts[1::2], strict=True):
        (found[heading],) = blocks(text, "sql")
        assert text.split("```")[-1].strip(), f"{heading} has no line on how to read the answer"
    return found


QUESTIONS = questions()
VIEWS = blocks(section("## DuckDB, without Spark"), "sql")


def comparable(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Figures as both engines give them: decimals of one, doubles of the other, sums in another order."""

    def plain(value: Any) -> Any:
        if isinstance(value, (bool, str)) or value is None:
            return value
        number = float(value)
        return "not a number" if math.isnan(number) else pytest.approx(number, rel=1e-6, abs=1e-9)

    return [tuple(map(plain, row)) for row in rows]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, checkpoint: Callable[..., Path]) -> dict[str, Any]:
    corpus = write_corpus(tmp_path_factory.mktemp("corpus") / "c", days=7, rows=300, authors=120)
    return {
        "input.path": str(corpus),
        "input.author_column": "author",
        "model.path": str(checkpoint()),
        "model.precision": "fp32",
        "output.path": str(tmp_path_factory.mktemp("scores") / "scores"),
    }


@pytest.fixture(scope="module")
def table(settings: dict[str, Any], score: Callable[..., Any], spark: Any) -> Iterator[Any]:
    """Spark, where the table of the page is to be found; the page has most authors above the least number of texts."""
    score(settings | {"output.table": "scores", "output.least_texts": 17})
    yield spark
    for view in ("scores_long", "scores_by_partition", "scores_by_author"):
        spark.sql(f"DROP VIEW {view}")
    spark.sql("DROP TABLE scores")


@pytest.fixture(scope="module")
def duck(table: Any, settings: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    """DuckDB with the page's views on the same files, and the same least number of texts."""
    connection = duckdb.connect()
    for statement in VIEWS:
        connection.execute(statement.replace("'scores/", f"'{settings['output.path']}/").replace(">= 20", ">= 17"))
    return connection


def test_the_page_has_a_dozen_questions_and_more():
    assert len(QUESTIONS) >= 12
    assert sum(not heading.endswith(SPARK_ONLY) for heading in QUESTIONS) >= 12


@pytest.mark.parametrize("heading", QUESTIONS)
def test_a_query_of_the_page_has_the_same_answer_in_spark_and_in_duckdb(heading, table, duck):
    query = QUESTIONS[heading].rstrip().removesuffix(";")
    answer = [tuple(row) for row in table.sql(query).collect()]
    if heading.endswith(SPARK_ONLY):
        assert answer
        return
    assert answer or "no score" in heading
    found = duck.execute(query)
    assert [column[0] for column in found.description] == table.sql(query).columns
    assert answer == comparable(found.fetchall())


@pytest.mark.parametrize("query", list(QUERIES.values())[1:])
def test_what_the_demo_proposes_is_answered_in_both(query, table, duck):
    answer = [tuple(row) for row in table.sql(query).collect()]
    assert answer and answer == comparable(duck.execute(query).fetchall())


def test_the_views_of_the_page_are_those_of_the_job():
    made = views_of(Shape("scores", "doc_id", "author", ("dt",), 20), lambda name: name)
    assert VIEWS[1:] == [f"CREATE VIEW {view.name} AS\n{view.sql};\n" for view in made]


def test_the_iceberg_form_answers_the_same_through_pyiceberg(score, settings, table, duck, tmp_path, capsys):
    pytest.importorskip("pyiceberg")
    score(settings | {"output.path": str(tmp_path / "scores"), "output.format": "iceberg"})
    (code,) = blocks(section("## Iceberg"), "python")
    names: dict[str, Any] = {}
    exec(code.replace("/data/scores.job", f"{tmp_path}/scores.job"), names)
    assert "2026-01-05" in capsys.readouterr().out
    iceberg = names["duck"]
    for statement in VIEWS[1:]:
        iceberg.execute(statement.replace(">= 20", ">= 17"))
    for heading in (
        "How do the traits go from day to day?",
        "Do authors differ at all, as far as the scores can tell?",
    ):
        query = QUESTIONS[heading]
        assert iceberg.execute(query).fetchall() == comparable(duck.execute(query).fetchall())
    assert len(iceberg.execute(QUESTIONS["How do the traits go from day to day?"]).fetchall()) == 7 * len(TRAITS)
