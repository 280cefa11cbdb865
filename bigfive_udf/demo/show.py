"""Show what a nightly scoring job leaves behind: five questions to its table, asked and answered in SQL.

    python -m bigfive_udf.demo.show --table demo/scores --corpus demo/corpus --authors demo/authors.parquet

Every statement is printed as it was run, to be copied. From the second question on DuckDB understands them too.
But: it reads local paths only, and the table anew for each question.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any

from bigfive_udf.command_line import main
from bigfive_udf.errors import InputError, SettingsError
from bigfive_udf.runs import Run
from bigfive_udf.spark.failures import spark_failures
from bigfive_udf.spark.session import job_session
from bigfive_udf.traits import LETTERS, SCORE_FIELDS, SCORED, TRAITS, probability_column

_MOST_WIDTH, _LEAST_WIDTH, _GAP = 100, 72, "  "
_COMMENTS = {field.name: field.comment for field in SCORE_FIELDS} | {
    "doc_id": "which text: the id that it has in the corpus",
    "author": "who wrote it, as the corpus says",
    "dt": "the day, taken from the name of the directory",
}
_NEEDED = {"scores": [*_COMMENTS], "corpus": ["doc_id", "text", "dt"], "authors": ["author", *TRAITS]}

_OPENING = "Three views of Parquet files: the scores, the scored texts, and what is known of their authors."
_DAILY = ",\n       ".join(f"round(avg({probability_column(trait)}), 3) AS {trait}" for trait in TRAITS)
_MEANS = ",\n         ".join(f"avg({probability_column(trait)}) AS {trait}" for trait in TRAITS)
QUESTIONS = {  # heading: what to know beforehand, and the question
    "What the table holds": (
        f"One row per text of the corpus. Probabilities and labels are NULL unless status is '{SCORED}'.",
        "DESCRIBE scores",
    ),
    "What became of the texts": (
        "Every text keeps its row. No score is not a low score: status_reason says why there is none.",
        """SELECT status, count(*) AS texts,
       round(100.0 * count(*) / sum(count(*)) OVER (), 2) AS percent, status_reason
FROM scores GROUP BY status, status_reason
ORDER BY texts DESC, status, status_reason""",
    ),
    "Day by day": (
        "The mean probability of each trait. The five are separate questions: they do not add up to 1.",
        f"""SELECT dt, count(*) AS texts,
       {_DAILY}
FROM scores WHERE status = '{SCORED}'
GROUP BY dt ORDER BY dt""",
    ),
    "The texts at both ends": (
        "The three short texts with the highest probability of extraversion, and the three with the lowest.",
        f"""WITH texts AS (
  SELECT c.text, count(*) AS times, max(s.n_tokens) AS tokens, avg(s.prob_extraversion) AS prob
  FROM scores AS s JOIN corpus AS c ON c.doc_id = s.doc_id AND c.dt = s.dt
  WHERE s.status = '{SCORED}' AND s.n_tokens BETWEEN 5 AND 40 GROUP BY c.text
), ends AS (
  (SELECT * FROM texts ORDER BY prob DESC, text LIMIT 3) UNION
  (SELECT * FROM texts ORDER BY prob, text LIMIT 3)
)
SELECT round(prob, 3) AS extraversion, tokens, times, text
FROM ends ORDER BY prob DESC, text""",
    ),
    "Do the scores follow what is known of the authors?": (
        "The authors' traits are known: 1 is high, -1 low. An author's score is the mean over the texts.",
        f"""WITH means AS (
  SELECT author,
         {_MEANS}
  FROM scores WHERE status = '{SCORED}' GROUP BY author
), predicted AS (
  SELECT * FROM means UNPIVOT (p FOR trait IN
    ({", ".join(TRAITS)}))
), known AS (
  SELECT * FROM authors UNPIVOT (level FOR trait IN
    ({", ".join(TRAITS)}))
)
SELECT trait, count(*) AS authors,
       round(avg(p) FILTER (WHERE level = 1), 3) AS high,
       round(avg(p) FILTER (WHERE level = -1), 3) AS low,
       round(avg(p) FILTER (WHERE level = 1)
             - avg(p) FILTER (WHERE level = -1), 3) AS difference,
       round(corr(p, level), 3) AS correlation
FROM predicted JOIN known USING (author, trait)
GROUP BY trait ORDER BY instr('{"".join(LETTERS).lower()}', left(trait, 1))""",
    ),
}

_ENDING = """\
These texts were made to be easy. Real texts are different: little signal in each, irony, quotes,
other topics. On 9,917 real statuses by 250 authors, published work with a sentence encoder gets a
mean ROC AUC of 0.594 under a random split, and 0.492, which is nothing, under a split that keeps
each author on one side. Do not judge a person by such scores: see docs/responsible-use.md.

The table is plain Parquet: any engine can query it. With DuckDB, for example:

    SELECT dt, count(*) FROM read_parquet('{table}/**/*.parquet',
      hive_partitioning=true, hive_types_autocast=false) GROUP BY dt ORDER BY dt;

To score texts of your own, see 'Score your own table' in the README."""

FLAGS = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
FLAGS.add_argument("--table", default="demo/scores", help="what the score job wrote (default: %(default)s)")
FLAGS.add_argument("--corpus", default="demo/corpus", help="the texts that it read (default: %(default)s)")
FLAGS.add_argument("--authors", default="demo/authors.parquet", help="their known traits (default: %(default)s)")
FLAGS.add_argument("--verbose", action="store_true", help="show Spark's own log and stack traces")


def show(args: argparse.Namespace, run: Run) -> str:
    """Print the questions with their answers, and what to make of them."""
    paths = {"scores": args.table, "corpus": args.corpus, "authors": args.authors}
    # Checked before Spark starts, so that a wrong path is reported at once.
    for view, path in paths.items():
        if not (os.path.isfile(path) or any(Path(path).rglob("*.parquet"))):
            raise InputError(f"{view} {path}: no Parquet file is there; run make demo, or correct the path")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no emoji still gets the rest
    width = min(_MOST_WIDTH, max(_LEAST_WIDTH, shutil.get_terminal_size((_MOST_WIDTH, 24)).columns))
    try:
        with spark_failures():
            for line in page(_session(args.verbose).sql, paths, width):
                print(line, flush=True)
    except BrokenPipeError:  # `| head`, or a pager that was quit: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ""


def page(ask: Callable[[str], Any], paths: Mapping[str, str], width: int) -> Iterator[str]:
    """The lines of the page, each as soon as it is known; `ask` runs a statement of SQL."""
    rule = "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * width

    def opening(heading: str, note: str, sql: str) -> list[str]:
        return ["", heading, rule, *textwrap.wrap(note, width), "", *textwrap.indent(sql, "    ").splitlines()]

    views = "\n".join(_open(ask, view, path) for view, path in paths.items())
    yield from opening("A night's scores, through SQL", _OPENING, views)
    for number, (heading, (note, sql)) in enumerate(QUESTIONS.items(), 1):
        yield from opening(f"{number}. {heading}", note, f"{sql};")
        answer = ask(sql)
        rows: Sequence[tuple[Any, ...]] = answer.collect()
        if sql.startswith("DESCRIBE"):
            # The note above says when values are NULL; without that part every comment fits on its line.
            rows = [(n, t, (comment or _COMMENTS.get(n, "")).split("; null")[0]) for n, t, comment in rows]
        yield from ("", *table_lines(answer.columns, rows, width))
    yield from ("", "What to make of it", rule)
    yield from _ENDING.format(table=paths["scores"].rstrip("/").replace("'", "''")).splitlines()


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[Any]], width: int) -> list[str]:
    """Rows as aligned text, numbers to the right; the last column is cut to the width that the others leave."""
    shown = [[_cell(value) for value in row] for row in rows]
    right = [any(isinstance(row[i], (int, float, Decimal)) for row in rows) for i in range(len(columns))]
    widths = [max(display_width(row[i]) for row in [columns, *shown]) for i in range(len(columns))]
    room = width - len(_GAP) - sum(w + len(_GAP) for w in widths[:-1])
    widths[-1] = min(widths[-1], max(room, len(columns[-1])))
    lines = [columns, ["-" * w for w in widths], *shown]
    return [(_GAP + _GAP.join(map(_fitted, line, widths, right))).rstrip() for line in lines]


def display_width(text: str) -> int:
    """Columns of a terminal that `text` takes: two for East Asian characters and emoji, none for combining marks."""
    # subtle: U+FE0F turns the sign before it into an emoji of two columns, so U+FE0F counts as the second column.
    marks = sum(unicodedata.category(c) in ("Mn", "Me", "Cf") and c != "\ufe0f" for c in text)
    return len(text) - marks + sum(unicodedata.east_asian_width(c) in "WF" for c in text)


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, (int, float)):
        return f"{value:,}" if isinstance(value, int) else f"{round(value, 3) + 0.0:.3f}"  # no "-0.000"
    # A text may hold anything: line ends break tables, escape sequences terminals. U+200D joins emoji, so it stays.
    kinds = [(c, unicodedata.category(c)) for c in str(value)]
    return " ".join("".join(" " if k == "Cc" else c for c, k in kinds if k != "Cf" or c == "\u200d").split())


def _fitted(text: str, width: int, right: bool) -> str:
    """`text`, cut or padded to exactly `width` columns of the terminal."""
    if display_width(text) > width:
        fits = sum(end < width for end in accumulate(map(display_width, text)))
        text = text[:fits].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    blank = " " * (width - display_width(text))
    return blank + text if right else text + blank


def _session(verbose: bool) -> Any:
    """The job's session, without the warnings at its start: Java keeps the stderr that it was started with."""
    stderr = os.dup(2)
    if not verbose:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        return job_session("bigfive show", verbose=verbose)
    except RuntimeError as error:
        raise SettingsError(f"Spark does not start ({error}): install Java 17, or see --verbose") from error
    finally:
        os.dup2(stderr, 2)


def _open(ask: Callable[[str], Any], view: str, path: str) -> str:
    """Open a view, and return the statement that did it."""
    literal = path.replace("\\", "\\\\").replace("'", "\\'")
    statement = f"CREATE OR REPLACE TEMPORARY VIEW {view} USING parquet OPTIONS (path '{literal}')"
    ask(statement)
    if missing := set(_NEEDED[view]).difference(ask(f"SELECT * FROM {view}").columns):
        raise InputError(f"{view} {path}: no column {min(missing)}; run make demo again, or correct the path")
    return f"{statement};"


if __name__ == "__main__":
    main("show", FLAGS, show)
