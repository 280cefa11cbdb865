"""Why Keras shows 27 %, and what a model has learned: the figures of docs/why-27-percent.md, on a made-up table.

    python -m bigfive_udf.demo.puzzle --output demo/puzzle.csv

About ten seconds on one core. The learner is a plain one (words and logistic regression): it shows how to measure, not
how well one can do. But: the table is made up, and nothing about real texts follows from its figures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from bigfive_udf.demo.puzzle_table import COLUMNS, REAL_OPENNESS_FIRST, REAL_POSITIVES, TEXTS, make_table
from bigfive_udf.errors import BigFiveError, OutputError, SettingsError
from bigfive_udf.settings.labelled import LabelledDataSettings
from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.training import splits
from bigfive_udf.training.data import LabelledTexts, read_labelled
from bigfive_udf.training.evaluation import categorical_accuracy, evaluation_of
from bigfive_udf.training.metrics import Predictions
from bigfive_udf.traits import LETTERS, TRAITS

FOLDS, RESAMPLES = 5, 500
SPLITS = ("random", "author")
_LABEL_COLUMNS = {LETTERS[letter]: column for letter, column in COLUMNS.items()}
_THRESHOLDS = np.full(len(TRAITS), 0.5)
"""as in Keras's BinaryAccuracy"""


def labels_of(labelled: LabelledTexts) -> np.ndarray:
    """(n, 5) of 0 and 1."""
    return labelled.labels(np.ones(len(labelled), bool))[0]


def base_rates_alone(labels: np.ndarray) -> np.ndarray:
    """(n, 5) probabilities of a model that has learned how frequent each trait is, and nothing else."""
    return np.broadcast_to(labels.mean(0), labels.shape)


def everything_right(labels: np.ndarray) -> np.ndarray:
    """(n, 5) probabilities of a model that is right in every label, and surest of the traits that are frequent."""
    return np.where(labels == 1, 0.5 + labels.mean(0) / 2, 0.1)


def out_of_fold(labelled: LabelledTexts, by: str, resamples: int = RESAMPLES) -> dict[str, Any]:
    """The evaluation of a learner that predicts only texts (random) or authors (author) that it has not seen."""
    labels = labels_of(labelled)
    fold = splits.folds_of(splits.groups_of(labelled, by), labels, FOLDS, seed=0)
    probabilities = np.empty(labels.shape)
    for held in (fold == f for f in range(FOLDS)):
        probabilities[held] = _learned(labelled.take(~held).texts, labels[~held], labelled.take(held).texts)
    return evaluation_of(
        Predictions(labels, probabilities, _THRESHOLDS, labelled.authors, fold, cross_validated=True),
        labelled,
        resamples=resamples,
    )


def _learned(texts: Sequence[str], labels: np.ndarray, new: Sequence[str]) -> np.ndarray:
    """(new texts, 5) probabilities from the words of the texts, by a logistic regression for each trait."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise SettingsError(
            "the learner takes scikit-learn, which is not installed; pip install scikit-learn"
        ) from None
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    seen, unseen = words.fit_transform(texts), words.transform(new)
    # liblinear: no threads and no BLAS, so that the figures are the same on every machine.
    models = [LogisticRegression(solver="liblinear", random_state=0).fit(seen, column) for column in labels.T]
    return np.stack([model.predict_proba(unseen)[:, 1] for model in models], axis=1)


def show(path: Path) -> Iterator[str]:
    """Make the table, read it as the jobs do, and yield the lines of the page, each as soon as it is known."""
    _write(path, make_table())
    settings = LabelledDataSettings(path=str(path), author_column="author", label_columns=_LABEL_COLUMNS)
    labelled = read_labelled(settings)
    assert labelled.authors is not None
    own = pd.Series(labelled.authors).value_counts()
    each = f"{own.min()} to {own.max()} texts each"
    yield f"{path}: {len(labelled):,} made-up texts by {len(own)} made-up authors, {each}"
    labels = labels_of(labelled)
    yield from ("", "1. The labels, as frequent as in a real table", "", *_base_rates(labels))
    yield from ("", '2. What Keras shows as "acc", by order of the columns', "", *_by_column_order(labels))
    yield from ("", "3. A model that has read the texts", "", *_learner(labelled))
    yield from ("", "4. Your own model, measured so", "", *_commands(path))


def _base_rates(labels: np.ndarray) -> list[str]:
    rows = [("trait", "column", "texts", "share", "real texts", "share")]
    for trait, column in _LABEL_COLUMNS.items():
        n, real = int(labels[:, TRAITS.index(trait)].sum()), REAL_POSITIVES[trait[0].upper()]
        rows.append((trait, column, f"{n:,}", _percent(n / len(labels)), f"{real:,}", _percent(real / TEXTS)))
    return _aligned(rows)


def _by_column_order(labels: np.ndarray) -> list[str]:
    rows = [("order", "base rates alone", "the same in the real table", "all labels right")]
    for order, real in REAL_OPENNESS_FIRST.items():
        traits = [LETTERS[letter] for letter in order]
        shown = [
            categorical_accuracy(Predictions(labels, probabilities, _THRESHOLDS), traits)
            for probabilities in (base_rates_alone(labels), everything_right(labels))
        ]
        alone, right = (_percent(one["value"]) for one in shown if one is not None)
        rows.append((" ".join(order), alone, _percent(real), right))
    return _aligned(rows)


def _learner(labelled: LabelledTexts) -> Iterator[str]:
    by_split = {by: out_of_fold(labelled, by) for by in SPLITS}
    random, author = (by_split[by] for by in SPLITS)

    def row(name: str, figure: Callable[[dict[str, Any]], str]) -> tuple[str, ...]:
        return (name, *(figure(one) for one in (random, author)))

    def area(measured: dict[str, Any]) -> str:
        low, high = measured["roc_auc_ci"]
        return f"{measured['roc_auc']:.3f} ({low:.3f} to {high:.3f})"

    def area_of(trait: str) -> tuple[str, ...]:
        return row(f"  {trait}", lambda e: area(e["traits"][trait]))

    yield from _aligned(
        [
            ("", "random split", "author split"),
            row('Keras\'s "acc"', lambda e: _percent(e["categorical_accuracy"]["value"])),
            row("  base rates alone", lambda e: _percent(e["categorical_accuracy"]["base_rates_alone"])),
            row("accuracy, mean of the traits", lambda e: _percent(e["macro"]["accuracy"])),
            row("  the more frequent label", lambda e: _percent(e["macro"]["majority_accuracy"])),
            row("ROC AUC, mean of the traits", lambda e: area(e["macro"])),
            *map(area_of, _LABEL_COLUMNS),
        ]
    )
    yield ""
    for by in SPLITS:
        yield f"  {by} split: {by_split[by]['verdict']['summary']}"


def _commands(path: Path) -> list[str]:
    columns = ", ".join(f"{letter}: {column}" for letter, column in COLUMNS.items())
    data = [f"--set data.path={path} --set data.author_column=author", f"--set 'data.label_columns={{{columns}}}'"]
    train = ["python jobs/train.py --set model.base=minilm --set output.path=models/puzzle", *data]
    evaluation = "--set output.path=demo/puzzle-evaluation.json"
    evaluate = [f"python jobs/evaluate.py --set model.path=models/default {evaluation}", *data]
    return [f"  {line}" for command in (train, evaluate) for line in " \\\n    ".join(command).split("\n")]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as text; the first row is the heading, and all columns but the first are right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return ["  ".join(["", line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]


def _write(path: Path, table: pd.DataFrame) -> None:
    """Write the table whole, or not at all. Raises OutputError where that fails, or where another file is there."""
    header = ",".join(table.columns)
    try:
        if path.exists() and path.read_bytes().split(b"\n", 1)[0].decode("utf-8", "replace").strip() != header:
            raise OutputError(f"--output {path} holds something other than this table: name another file")
        LocalFileSystem().put(str(path.absolute()), table.to_csv(index=False, lineterminator="\n"))
    except OSError as error:
        raise OutputError(f"{path} can't be written ({error}): free the path or name another") from None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see --help")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = _Parser(
        prog="python -m bigfive_udf.demo.puzzle", description="Make the puzzle's table, and measure on it."
    )
    parser.add_argument(
        "--output", type=Path, default=Path("demo/puzzle.csv"), metavar="FILE", help="the table (default: %(default)s)"
    )
    try:
        for line in show(parser.parse_args(arguments).output):
            print(line, flush=True)
    except BigFiveError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
