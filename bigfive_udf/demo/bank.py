"""The demo's labelled tables: a bank of made-up first-person statements, and others written apart from it.

    python -m bigfive_udf.demo.bank --output demo/statements

Writes training.csv (the bank, and the opposites that rules make of its statements) and written_apart.csv (by another
author, who saw nothing of the bank). The columns are text, statement and a label per trait, empty for the traits that a
statement says nothing about. `statement` names the statement that a text was made of. It takes the place of the author,
so that a statement and its opposite are never on two sides of a split.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import pandas as pd

from bigfive_udf.demo.opposites import with_opposites
from bigfive_udf.errors import BigFiveError, OutputError, SettingsError
from bigfive_udf.traits import TRAITS

STATEMENTS = Path(__file__).parent / "statements"
TRAINING, WRITTEN_APART = "training.csv", "written_apart.csv"


def read_bank() -> pd.DataFrame:
    """What the model is trained on: statements on one trait each, so that four of the five labels are missing."""
    files = [(trait, file) for trait in TRAITS for file in sorted(STATEMENTS.glob(f"{trait}*.csv"))]
    parts = [pd.read_csv(file).assign(trait=trait) for trait, file in files]
    return with_labels(pd.concat(parts, ignore_index=True))


def read_written_apart() -> pd.DataFrame:
    """What the model is evaluated on: statements by another author, who saw nothing of the bank."""
    return with_labels(pd.read_csv(STATEMENTS / "written_apart.csv"))


def with_labels(statements: pd.DataFrame) -> pd.DataFrame:
    """Add the five label columns to a table of text, trait and pole (high or low)."""
    high = (statements["pole"] == "high").astype(float)
    return statements.assign(**{trait: high.where(statements["trait"] == trait) for trait in TRAITS})


def unseen(bank: pd.DataFrame, held_out: pd.DataFrame) -> pd.DataFrame:
    """The bank without the statements that are in `held_out` too, ignoring case and punctuation."""

    def words(texts: pd.Series) -> pd.Series:
        return texts.str.lower().str.replace(r"[^a-z0-9]+", " ", regex=True).str.strip()

    return bank[~words(bank["text"]).isin(words(held_out["text"]))].reset_index(drop=True)


def tables() -> dict[str, pd.DataFrame]:
    """The two tables by file name; the training table holds no test statement, neither as it is nor as an opposite."""
    apart = read_written_apart()
    bank = unseen(read_bank(), apart)
    training = unseen(with_opposites(bank.assign(statement=_names("bank", len(bank)))), apart).drop_duplicates("text")
    apart = apart.assign(statement=_names("apart", len(apart)))
    columns = ["text", "statement", *TRAITS]
    return {TRAINING: training[columns], WRITTEN_APART: apart[columns]}


def _names(kind: str, n: int) -> list[str]:
    return [f"{kind}-{i:04d}" for i in range(n)]


def write(directory: Path) -> dict[str, pd.DataFrame]:
    """Write the tables into a new directory, both or none.

    Raises:
        OutputError: it exists, or can't be written.
    """
    if directory.exists():
        raise OutputError(f"{directory} exists: choose another --output or remove it")
    made = tables()
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as aside:
            whole = Path(aside) / "whole"
            whole.mkdir()
            for name, table in made.items():
                table.astype(dict.fromkeys(TRAITS, "Int64")).to_csv(whole / name, index=False)
            os.rename(whole, directory)
    except OSError as error:
        raise OutputError(f"{directory} can't be written: {error.strerror}; choose another --output") from error
    return made


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see --help")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = _Parser(prog="python -m bigfive_udf.demo.bank", description="Write the demo's labelled tables.")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory of the tables")
    parser.add_argument("--if-missing", action="store_true", help="leave tables that are there as they are")
    try:
        args = parser.parse_args(arguments)
        if args.if_missing and args.output.exists():
            return 0
        for name, table in write(args.output).items():
            print(f"{args.output / name}: {len(table):,} statements")
    except BigFiveError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
