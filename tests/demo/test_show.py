"""The page that a newcomer sees: its numbers are DuckDB's, and a wrong path is one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bigfive_udf.demo.show import QUESTIONS, display_width, table_lines
from bigfive_udf.traits import EMPTY, FAILED, SCORED, TRAITS, label_column, probability_column

ROOT = Path(__file__).resolve().parents[2]
DAYS = ("2026-11-21", "2026-11-22", "2026-11-23")
SCORE_SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("author", pa.string()),
        *((probability_column(trait), pa.float32()) for trait in TRAITS),
        *((label_column(trait), pa.bool_()) for trait in TRAITS),
        ("n_tokens", pa.int32()),
        ("n_windows", pa.int32()),
        ("truncated", pa.bool_()),
        ("status", pa.string()),
        ("status_reason", pa.string()),
        ("model_id", pa.string()),
        ("precision", pa.string()),
        ("run_id", pa.string()),
        ("scored_at", pa.timestamp("us", tz="UTC")),
    ]
)
SENTENCES = (
    "I talk to everybody on the train.",
    "It rained, and I read\nby the window.\r\n\tAlone.",
    "\x1b[31mRed\x1b[0m is my colour \N{PARTY POPPER}\N{HEAVY BLACK HEART}\ufe0f, always " + "and always " * 12,
    "今日は静かに本を読みました。" * 5,
    "My desk is tidy; my bills are paid.",
)


def write_demo(folder: Path, authors: int = 40, texts: int = 300, seed: int = 5) -> None:
    """A score table whose probabilities follow the authors' levels plus noise; every 19th text is empty."""
    random = np.random.default_rng(seed)
    levels = random.integers(-1, 2, size=(authors, len(TRAITS)))
    names = [f"author-{i:03d}" for i in range(authors)]
    known = {"author": names} | {trait: levels[:, i].astype("int32") for i, trait in enumerate(TRAITS)}
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(known), folder / "authors.parquet")
    number = 0
    for day in DAYS:
        scores: list[dict[str, Any]] = []
        corpus: list[dict[str, Any]] = []
        for i in range(texts // len(DAYS)):
            who, number = int(random.integers(authors)), number + 1
            status = EMPTY if number % 19 == 0 else FAILED if number % 97 == 0 else SCORED
            text = "  " if status == EMPTY else f"{SENTENCES[number % len(SENTENCES)]} ({number})"
            noisy = 1 / (1 + np.exp(-(1.5 * levels[who] + random.normal(0, 1.2, len(TRAITS)))))
            scored = status == SCORED
            carried = {"doc_id": f"doc-{i:03d}", "author": names[who]}  # the same ids every day
            corpus.append(carried | {"text": text})
            scores.append(
                carried
                | {probability_column(t): float(noisy[k]) if scored else None for k, t in enumerate(TRAITS)}
                | {label_column(t): bool(noisy[k] >= 0.5) if scored else None for k, t in enumerate(TRAITS)}
                | {"n_tokens": int(random.choice((4, 5, 20, 40, 41))) if scored else 0, "n_windows": int(scored)}
                | {"truncated": False, "status": status}
                | {"status_reason": {EMPTY: "only white space", FAILED: "no finite score"}.get(status)}
                | {"model_id": "0123456789ab", "precision": "fp32", "run_id": "20261123T020000Z-abcdef"}
                | {"scored_at": datetime(2026, 11, 23, 2, tzinfo=timezone.utc)}
            )
        corpus_schema = pa.schema([(name, pa.string()) for name in ("doc_id", "author", "text")])
        for name, rows, schema in (("scores", scores, SCORE_SCHEMA), ("corpus", corpus, corpus_schema)):
            (folder / name / f"dt={day}").mkdir(parents=True)
            pq.write_table(pa.Table.from_pylist(rows, schema), folder / name / f"dt={day}" / "part-0.parquet")
        (folder / "scores" / f"dt={day}" / "_SUCCESS").touch()


def run_show(*flags: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bigfive_udf.demo.show", *flags],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the demo's folders, under a name that has to be quoted in SQL."""
    made = tmp_path_factory.mktemp("new comer's")
    write_demo(made / "demo")
    return made


@pytest.fixture(scope="module")
def shown(folder: Path) -> subprocess.CompletedProcess[str]:
    return run_show("--table", str(folder / "demo" / "scores"), folder=folder)


@pytest.fixture(scope="module")
def duck(folder: Path) -> duckdb.DuckDBPyConnection:
    """The same three views in DuckDB."""
    connection = duckdb.connect()
    for view in ("scores", "corpus"):
        files = str(folder / "demo" / view / "**" / "*.parquet").replace("'", "''")
        options = "hive_partitioning=true, hive_types_autocast=false"
        connection.execute(f"CREATE VIEW {view} AS SELECT * FROM read_parquet('{files}', {options})")
    file = str(folder / "demo" / "authors.parquet").replace("'", "''")
    connection.execute(f"CREATE VIEW authors AS SELECT * FROM read_parquet('{file}')")
    return connection


def section(output: str, heading: str) -> tuple[str, list[list[str]]]:
    """The statement and the rows that are printed below a heading, the rows as their cells."""
    body = re.split(rf"^\d\. {re.escape(heading)}\n", output, flags=re.MULTILINE)[1]
    _, statement, table = body.split("\n\n")[:3]
    return statement.removesuffix(";"), [re.split(r" {2,}", line.strip()) for line in table.splitlines()[2:]]


def printed(rows: list[tuple[Any, ...]]) -> list[list[str]]:
    """DuckDB's rows in the page's form: three digits, NULL."""
    return [["NULL" if v is None else f"{v:.3f}" if isinstance(v, float) else str(v) for v in row] for row in rows]


def asked(duck: duckdb.DuckDBPyConnection, sql: str) -> list[list[str]]:
    return printed(duck.execute(sql).fetchall())


def test_the_page_ends_well_and_says_nothing_on_stderr(shown: subprocess.CompletedProcess[str]) -> None:
    assert (shown.returncode, shown.stderr) == (0, "")
    assert max(display_width(line) for line in shown.stdout.splitlines() if "new comer" not in line) <= 100
    assert "\x1b" not in shown.stdout
    ending = shown.stdout.split("What to make of it\n")[1].splitlines()[1:]
    assert len(ending) <= 12
    assert "docs/responsible-use.md" in "\n".join(ending)


def test_columns_are_those_of_the_files_with_the_comments_of_the_contract(
    shown: subprocess.CompletedProcess[str],
) -> None:
    _, rows = section(shown.stdout, "What the table holds")
    assert [row[0] for row in rows] == [*SCORE_SCHEMA.names, "dt"]
    by_name = {name: (kind, comment) for name, kind, comment in rows}
    assert by_name["label_openness"] == ("boolean", "predicted label: prob_openness >= threshold")
    assert by_name["dt"][0] == "string"


def test_statuses_are_counted_as_duckdb_counts_them(
    shown: subprocess.CompletedProcess[str], duck: duckdb.DuckDBPyConnection
) -> None:
    _, rows = section(shown.stdout, "What became of the texts")
    total = duck.execute("SELECT count(*) FROM scores").fetchall()[0][0]
    counts = duck.execute("SELECT status, status_reason, count(*) AS n FROM scores GROUP BY ALL ORDER BY n DESC")
    assert rows == [[s, str(n), f"{100 * n / total:.2f}", r or "NULL"] for s, r, n in counts.fetchall()]
    assert {row[0] for row in rows} == {SCORED, EMPTY, FAILED}


def test_daily_means_are_duckdbs(shown: subprocess.CompletedProcess[str], duck: duckdb.DuckDBPyConnection) -> None:
    _, rows = section(shown.stdout, "Day by day")
    means = ", ".join(f"avg({probability_column(trait)})" for trait in TRAITS)
    assert rows == asked(
        duck, f"SELECT dt, count(*), {means} FROM scores WHERE status = 'scored' GROUP BY dt ORDER BY 1"
    )
    assert [row[0] for row in rows] == list(DAYS)


def test_texts_at_both_ends_are_duckdbs_and_stay_on_their_lines(
    shown: subprocess.CompletedProcess[str], duck: duckdb.DuckDBPyConnection
) -> None:
    _, rows = section(shown.stdout, "The texts at both ends")
    found = duck.execute(
        "SELECT prob_extraversion::double, n_tokens, text FROM scores JOIN corpus USING (doc_id, dt) "
        "WHERE n_tokens BETWEEN 5 AND 40 AND status = 'scored' ORDER BY 1 DESC"
    ).fetchall()
    assert len(rows) == 6
    for (probability, tokens, times, text), (p, n, whole) in zip(rows, [*found[:3], *found[-3:]], strict=True):
        assert (probability, tokens, times) == (f"{p:.3f}", str(n), "1")
        start = " ".join("".join(c if c.isprintable() or c == "\ufe0f" else " " for c in whole).split())
        assert start.startswith(text.rstrip("\N{HORIZONTAL ELLIPSIS}"))


def test_traits_of_authors_are_compared_as_duckdb_does_it(
    shown: subprocess.CompletedProcess[str], duck: duckdb.DuckDBPyConnection
) -> None:
    _, rows = section(shown.stdout, "Do the scores follow what is known of the authors?")
    expected = []
    for trait in TRAITS:
        high, low, correlation, authors = duck.execute(
            f"SELECT avg(m) FILTER ({trait} = 1), avg(m) FILTER ({trait} = -1), corr(m, {trait}), count(*) "
            f"FROM (SELECT author, avg({probability_column(trait)}) AS m FROM scores GROUP BY author) "
            "JOIN authors USING (author)"
        ).fetchall()[0]
        expected += printed([(trait, authors, high, low, high - low, correlation)])
    assert rows == expected


def test_what_is_printed_can_be_copied_into_duckdb(
    shown: subprocess.CompletedProcess[str], duck: duckdb.DuckDBPyConnection
) -> None:
    for heading in list(QUESTIONS)[1:]:
        statement, rows = section(shown.stdout, heading)
        answer = asked(duck, statement)
        if heading == "The texts at both ends":  # texts are cut on the page
            rows, answer = [row[:3] for row in rows], [row[:3] for row in answer]
        if heading == "What became of the texts":  # a decimal in Spark, a double in DuckDB
            rows, answer = ([[*row[:2], f"{float(row[2]):.2f}", row[3]] for row in some] for some in (rows, answer))
        assert rows == answer, heading
    example = shown.stdout[shown.stdout.rindex("SELECT") : shown.stdout.rindex(";")]
    assert [row[0] for row in asked(duck, example)] == list(DAYS)


@pytest.mark.parametrize("flag, view", [("--table", "scores"), ("--corpus", "corpus"), ("--authors", "authors")])
def test_a_missing_input_is_one_line_and_code_3(folder: Path, flag: str, view: str) -> None:
    ended = run_show(flag, "not/here", folder=folder)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert re.fullmatch(rf"error: {view} not/here: no Parquet file .+\n", ended.stderr)


def test_files_of_something_else_are_one_line_and_code_3(folder: Path) -> None:
    ended = run_show("--table", "demo/corpus", folder=folder)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert re.fullmatch(r"error: scores demo/corpus: no column label_agreeableness; .+\n", ended.stderr)


def test_tables_align_wide_and_hostile_texts() -> None:
    rows = [(1234567, 0.5, "a\x1b[2Jb\n\tc\u202e"), (None, -0.0001, "今日は\N{PARTY POPPER} e\u0301, and so on")]
    assert table_lines(["n", "p", "text"], rows, 33) == [
        "          n      p  text",
        "  ---------  -----  -------------",
        "  1,234,567  0.500  a [2Jb c",
        "       NULL  0.000  今日は\N{PARTY POPPER} e\u0301,\N{HORIZONTAL ELLIPSIS}",
    ]


def test_a_table_without_rows_keeps_its_head() -> None:
    assert table_lines(["dt", "texts"], [], 80) == ["  dt  texts", "  --  -----"]
