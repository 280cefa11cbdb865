"""The SQL views beside a score table: by author, by partition, and with a row for each document and trait.

Plain SQL, without Spark: apart from quoted names, every engine takes the same text. docs/sql.md prints it for DuckDB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bigfive_udf.traits import EMPTY, FAILED, SCORED, TRAITS, label_column, probability_column

_TRAITS = ", ".join(f"('{trait}')" for trait in TRAITS)
# 1 where a label is true, 0 where it is false, null where there is none.
_POSITIVE = "CASE label WHEN true THEN 1.0E0 WHEN false THEN 0.0E0 END"


@dataclass(frozen=True)
class View:
    """A view: its name, its columns with what a reader should know of them, and its query."""

    name: str
    columns: tuple[tuple[str, str], ...]
    sql: str


@dataclass(frozen=True)
class Shape:
    """The properties of a table on which its views depend; `keys` are the partition columns.

    `database` is put unchanged before the names of tables, for an engine that needs it there.
    """

    table: str
    id_column: str
    author_column: str | None
    keys: Sequence[str]
    least_texts: int
    database: str = ""


def view_names(table: str) -> tuple[str, ...]:
    """The names of all views that a table may have."""
    return f"{table}_long", f"{table}_by_partition", f"{table}_by_author"


def views_of(shape: Shape, quoted: Callable[[str], str]) -> tuple[View, ...]:
    """The views that the table has; `quoted` writes a name as the engine wants it.

    Without partition columns there is no view by partition; without an author column there is no view by author.
    """
    found = [_long(shape, quoted)]
    if shape.keys:
        found.append(_by_partition(shape, quoted))
    if shape.author_column is not None:
        found.append(_by_author(shape, shape.author_column, quoted))
    return tuple(found)


def _long(shape: Shape, quoted: Callable[[str], str]) -> View:
    author = [(shape.author_column, "who wrote it")] if shape.author_column is not None else []
    whose = [(shape.id_column, "which document"), *author]
    keys = [(key, "partition of the table") for key in shape.keys]
    about = [
        ("trait", f"one of {', '.join(TRAITS)}"),
        ("probability", "of a high trait, 0 to 1; null unless status is scored"),
        ("label", "predicted label: probability >= the threshold of the trait"),
        ("status", f"{SCORED}, {EMPTY} or {FAILED}"),
        ("n_tokens", "tokens in the whole text"),
        ("model_id", "which model; compare scores of one model only"),
    ]
    carried = ", ".join(f"s.{quoted(name)}" for name, _ in whose)
    rest = ", ".join(f"s.{quoted(name)}" for name in ("status", "n_tokens", "model_id", *shape.keys))
    sql = f"""SELECT {carried}, t.trait,
       {_of_trait(probability_column)} AS probability,
       {_of_trait(label_column)} AS label,
       {rest}
FROM {shape.database}{quoted(shape.table)} AS s CROSS JOIN (VALUES
       {_TRAITS}) AS t(trait)"""
    return View(f"{shape.table}_long", (*whose, *about, *keys), sql)


def _by_partition(shape: Shape, quoted: Callable[[str], str]) -> View:
    keys = ", ".join(quoted(key) for key in shape.keys)
    columns = (
        *((key, "partition of the table") for key in shape.keys),
        ("model_id", "which model; compare scores of one model only"),
        ("trait", f"one of {', '.join(TRAITS)}"),
        ("documents", "rows of the partition by that model"),
        ("scored", "rows with scores"),
        ("empty", "rows without anything to score"),
        ("failed", "rows that could not be scored"),
        ("mean_tokens", "mean number of tokens of the scored rows"),
        ("mean_probability", "mean over the scored rows"),
        ("sd_probability", "standard deviation over the scored rows"),
        ("share_positive", "share of the scored rows whose label is true"),
    )
    sql = f"""SELECT {keys}, model_id, trait, count(*) AS documents,
       {_counted(SCORED)},
       {_counted(EMPTY)},
       {_counted(FAILED)},
       avg(CASE WHEN status = '{SCORED}' THEN n_tokens END) AS mean_tokens,
       avg(CAST(probability AS DOUBLE)) AS mean_probability,
       stddev_samp(CAST(probability AS DOUBLE)) AS sd_probability,
       avg({_POSITIVE}) AS share_positive
FROM {shape.database}{quoted(shape.table + "_long")}
GROUP BY {keys}, model_id, trait"""
    return View(f"{shape.table}_by_partition", columns, sql)


def _by_author(shape: Shape, author: str, quoted: Callable[[str], str]) -> View:
    enough = f"CASE WHEN texts >= {shape.least_texts} THEN"
    columns = (
        (author, "who wrote the texts"),
        ("model_id", "which model; compare scores of one model only"),
        ("trait", f"one of {', '.join(TRAITS)}"),
        ("texts", "scored texts of the author"),
        ("mean_probability", f"mean over the texts; null with fewer than {shape.least_texts}"),
        ("mean_low", "95 % interval of that mean as texts vary; of the model's own errors it says nothing"),
        ("mean_high", "its upper end"),
        ("share_positive", f"share of the texts whose label is true; null with fewer than {shape.least_texts} texts"),
        ("share_low", "95 % interval of that share as texts vary (Wilson)"),
        ("share_high", "its upper end"),
    )
    # The mean's interval has Student's quantile for texts - 1 degrees of freedom, 1.96 + (1.96^3 + 1.96) / 4(texts - 1)
    # to the first order: within half a percent from 20 texts on.
    sql = f"""SELECT who AS {quoted(author)}, model_id, trait, texts,
       {enough} mean END AS mean_probability,
       {enough} greatest(0.0E0, mean - half) END AS mean_low,
       {enough} least(1.0E0, mean + half) END AS mean_high,
       {enough} share END AS share_positive,
       {enough} (share + 1.92E0 / labels - wide) / (1.0E0 + 3.84E0 / labels) END AS share_low,
       {enough} (share + 1.92E0 / labels + wide) / (1.0E0 + 3.84E0 / labels) END AS share_high
FROM (
  SELECT who, model_id, trait, texts, labels, mean, share,
         (1.96E0 + 2.37E0 / nullif(texts - 1, 0)) * sd / sqrt(texts) AS half,
         1.96E0 * sqrt(share * (1.0E0 - share) / labels + 0.96E0 / (labels * labels)) AS wide
  FROM (
    SELECT who, model_id, trait, count(p) AS texts, nullif(count(positive), 0) AS labels,
           avg(p) AS mean, stddev_samp(p) AS sd, avg(positive) AS share
    FROM (
      SELECT {quoted(author)} AS who, model_id, trait, CAST(probability AS DOUBLE) AS p,
             {_POSITIVE} AS positive
      FROM {shape.database}{quoted(shape.table + "_long")}
      WHERE status = '{SCORED}' AND {quoted(author)} IS NOT NULL
    ) AS scored
    GROUP BY who, model_id, trait
  ) AS sums
) AS bounds"""
    return View(f"{shape.table}_by_author", columns, sql)


def _of_trait(column: Callable[[str], str]) -> str:
    """SQL that takes, in the row of each trait, that trait's own column."""
    cases = [f"WHEN '{trait}' THEN s.{column(trait)}" for trait in TRAITS]
    return "CASE t.trait " + ("\n" + " " * 9).join(cases) + " END"


def _counted(status: str) -> str:
    return f"count(CASE WHEN status = '{status}' THEN 1 END) AS {status}"


def twice_named(views: Iterable[View]) -> tuple[str, str] | None:
    """The first view that would have two columns of one name, and that name; None where all is well."""
    for view in views:
        seen: set[str] = set()
        for name, _ in view.columns:
            if name.lower() in seen:
                return view.name, name
            seen.add(name.lower())
    return None
