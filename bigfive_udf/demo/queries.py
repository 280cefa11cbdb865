"""Three queries to begin with in the shell of `make sql`: python -m bigfive_udf.demo.queries prints them."""

from __future__ import annotations

import textwrap

QUERIES = {
    "what a column means, and how far to trust it": "DESCRIBE TABLE scores",
    "the traits from day to day": "SELECT dt, trait, scored, round(mean_probability, 3) AS mean\n"
    "FROM scores_by_partition ORDER BY trait, dt",
    "whether authors differ by more than chance would have them": "SELECT trait, count(mean_probability) AS authors,\n"
    "       round(stddev(mean_probability), 3) AS between_authors,\n"
    "       round(avg(mean_high - mean_low) / 4, 3) AS by_chance\n"
    "FROM scores_by_author GROUP BY trait ORDER BY trait",
}


def lines() -> list[str]:
    """The queries, each below the question that it answers, and where to find more."""
    found = ["", "Three queries to try with make sql (docs/sql.md has more):"]
    for about, query in QUERIES.items():
        found += ["", f"  -- {about}", *textwrap.indent(f"{query};", "  ").splitlines()]
    return [*found, ""]


if __name__ == "__main__":
    print("\n".join(lines()))
