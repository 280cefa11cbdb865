"""The puzzle's table has the shape of the real one and no signal; the page's figures are what the command prints."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from bigfive_udf.demo import puzzle
from bigfive_udf.demo.puzzle_table import make_table
from bigfive_udf.settings.evaluate import EvaluateSettings
from bigfive_udf.settings.loading import load_settings
from bigfive_udf.settings.train import TrainSettings
from bigfive_udf.training.data import read_labelled
from bigfive_udf.training.evaluation import categorical_accuracy
from bigfive_udf.training.metrics import Predictions
from bigfive_udf.traits import LETTERS, TRAITS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "why-27-percent.md"
LABELS = {"A": "cAGR", "O": "cOPN", "C": "cCON", "E": "cEXT", "N": "cNEU"}
REAL_SHARES = {"E": 4210 / 9917, "N": 3717 / 9917, "A": 5268 / 9917, "C": 4556 / 9917, "O": 7370 / 9917}
REAL_BASE_RATES_ALONE = {"AOCEN": 0.272, "ENACO": 0.047, "OCEAN": 0.755}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return make_table()


@pytest.fixture(scope="module")
def labels(table: pd.DataFrame) -> np.ndarray:
    """(n, 5) of 0 and 1, in the order of TRAITS."""
    letters = {trait: letter for letter, trait in LETTERS.items()}
    return (table[[LABELS[letters[trait]] for trait in TRAITS]] == "y").to_numpy(float)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the command ran in, and what it printed. Another hash seed: nothing hangs on a set's order."""
    folder = tmp_path_factory.mktemp("puzzle")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bigfive_udf.demo.puzzle"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


def keras_accuracy(labels: Sequence[Sequence[float]], predictions: Sequence[Sequence[float]]) -> float:
    """`CategoricalAccuracy` after its definition: in how many rows the first highest values stand in one place."""
    pairs = list(zip(labels, predictions, strict=True))
    return sum(list(y).index(max(y)) == list(p).index(max(p)) for y, p in pairs) / len(pairs)


def in_order(values: np.ndarray, order: str) -> list[list[float]]:
    return values[:, [TRAITS.index(LETTERS[letter]) for letter in order]].tolist()


def cells(output: str, start: str) -> list[str]:
    """What a printed row holds after its name."""
    line = next(line for line in output.splitlines() if line.strip().startswith(start))
    return re.split(r" {2,}", line.strip())[1:]


def shares(output: str, start: str) -> list[float]:
    return [float(cell.removesuffix(" %")) / 100 for cell in cells(output, start)]


def test_another_process_writes_the_same_table(run: tuple[Path, str], table: pd.DataFrame) -> None:
    written = pd.read_csv(run[0] / "demo" / "puzzle.csv", dtype=str, keep_default_na=False)
    assert list(written.columns) == ["author", "text", *LABELS.values()]
    pd.testing.assert_frame_equal(written, table)
    assert not make_table(seed=1)["text"].equals(table["text"])


def test_shape_is_that_of_the_real_table(table: pd.DataFrame, labels: np.ndarray) -> None:
    assert len(table) == 9917
    texts = table["author"].value_counts()
    assert len(texts) == 250
    assert texts.max() > 5 * texts.median() > 20 * texts.min()
    assert set(np.unique(table[list(LABELS.values())])) == {"n", "y"}
    for trait, share in zip(TRAITS, labels.mean(0), strict=True):
        assert share == pytest.approx(REAL_SHARES[trait[0].upper()], abs=0.005)
    for order, real in REAL_BASE_RATES_ALONE.items():
        always_openness = [[float(letter == "O") for letter in order]] * len(labels)
        assert keras_accuracy(in_order(labels, order), always_openness) == pytest.approx(real, abs=0.005)


def test_rows_stand_in_no_order_and_an_author_has_one_set_of_labels(table: pd.DataFrame) -> None:
    assert (table.groupby("author")[list(LABELS.values())].nunique() == 1).all(axis=None)
    assert (table["author"] == table["author"].shift()).mean() < 0.05


def test_texts_tell_the_author_and_nothing_else(table: pd.DataFrame, labels: np.ndarray) -> None:
    """Another learner and other splits than the command's, all of scikit-learn."""
    model = make_pipeline(CountVectorizer(binary=True), MultinomialNB(alpha=0.1))
    folds = {
        "random": list(KFold(5, shuffle=True, random_state=0).split(table)),
        "author": list(GroupKFold(5).split(table, groups=table["author"])),
    }
    found = {}
    for name, split in folds.items():
        predicted = [cross_val_predict(model, table["text"], y, cv=split, method="predict_proba") for y in labels.T]
        found[name] = [roc_auc_score(y, p[:, 1]) for y, p in zip(labels.T, predicted, strict=True)]
    assert min(found["random"]) > 0.6
    assert np.mean(found["random"]) > 0.65
    assert 0.45 < np.mean(found["author"]) < 0.55
    assert all(0.4 < value < 0.6 for value in found["author"])


@pytest.mark.parametrize("order", REAL_BASE_RATES_ALONE)
def test_categorical_accuracy_is_keras_own(order: str, run: tuple[Path, str], labels: np.ndarray) -> None:
    models = [np.tile(labels.mean(0), (len(labels), 1)), puzzle.everything_right(labels)]
    assert ((models[1] >= 0.5) == (labels == 1)).all()
    models.append(np.random.default_rng(0).integers(0, 3, labels.shape) / 2)  # with ties
    expected = [keras_accuracy(in_order(labels, order), in_order(p, order)) for p in models]
    traits = [LETTERS[letter] for letter in order]
    for probabilities, value in zip(models, expected, strict=True):
        shown = categorical_accuracy(Predictions(labels, probabilities, np.full(5, 0.5)), traits)
        assert shown is not None
        assert shown["value"] == pytest.approx(value, abs=5e-5)
    alone, _, right = shares(run[1], " ".join(order))
    assert (alone, right) == (pytest.approx(expected[0], abs=6e-4), pytest.approx(expected[1], abs=6e-4))


def test_only_the_author_split_shows_that_nothing_was_learned(run: tuple[Path, str]) -> None:
    output = run[1]
    random, author = (float(cell.split()[0]) for cell in cells(output, "ROC AUC"))
    assert random > 0.65
    assert 0.45 < author < 0.55
    accuracy, majority = shares(output, "accuracy"), shares(output, "the more frequent label")
    assert accuracy[0] > majority[0] == majority[1] > accuracy[1]
    # Whatever was learned, Keras's number stays near what the base rates alone get.
    keras, alone = shares(output, "Keras"), shares(output, "base rates alone")
    assert max(abs(np.subtract(keras, alone))) < 0.05
    assert "random split: better than chance for all 5 traits\n" in output
    assert "author split: no better than chance for any of 5 traits\n" in output


def test_the_page_shows_what_the_command_prints(run: tuple[Path, str]) -> None:
    blocks = re.findall(r"^```text\n(.*?)\n```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == 4
    printed = run[1].strip("\n")
    assert "\n\n".join(blocks) == printed, f"run python -m bigfive_udf.demo.puzzle and bring {PAGE.name} up to date"


def test_figures_in_the_pages_words_are_printed_too(run: tuple[Path, str]) -> None:
    words = re.sub(r"^```.*?^```$", "", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)
    figures = re.findall(r"\d+\.\d+ %|\d\.\d{3}|\d,\d{3}", words)
    assert len(figures) >= 10
    measured_on_the_real_texts = re.findall(r"\| (0\.\d{3}) \|", (ROOT / "docs" / "responsible-use.md").read_text())
    known = {*re.findall(r"\d+\.\d+ %|\d\.\d{3}|\d,\d{3}", run[1]), *measured_on_the_real_texts}
    assert not [figure for figure in figures if figure not in known]


def test_the_printed_commands_are_the_jobs_settings(run: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, output = run
    monkeypatch.chdir(folder)
    printed = output[output.index("4. Your own model") :].replace("\\\n", " ").splitlines()
    commands = {words[1]: words[2:] for line in printed if (words := shlex.split(line))[:1] == ["python"]}
    assert all(words[::2] == ["--set"] * (len(words) // 2) for words in commands.values())
    train = load_settings(TrainSettings, None, commands["jobs/train.py"][1::2])
    evaluate = load_settings(EvaluateSettings, None, commands["jobs/evaluate.py"][1::2])
    assert train.split_by == "author"
    for data in (train.data, evaluate.data):
        found = read_labelled(data)
        assert len(found) == 9917
        assert found.column_order == tuple(LETTERS[letter] for letter in LABELS)


@pytest.mark.parametrize(
    ("flags", "code", "named"),
    [
        (["--output", "mine.csv"], 7, "mine.csv"),
        (["--output", "folder"], 7, "folder"),
        (["--output", "mine.csv/puzzle.csv"], 7, "mine.csv"),
        (["--outputs", "3", "--seed"], 2, "--seed"),
    ],
)
def test_user_errors_are_one_line_and_destroy_nothing(
    flags: list[str],
    code: int,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(puzzle, "make_table", lambda: pd.DataFrame({"author": ["a"], "text": ["b"], "cAGR": ["y"]}))
    (tmp_path / "mine.csv").write_text("author,text\nme,my only copy\n")
    (tmp_path / "folder").mkdir()

    assert puzzle.main(flags) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: ")
    assert named in err
    assert (tmp_path / "mine.csv").read_text() == "author,text\nme,my only copy\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "mine.csv"]


def test_a_table_of_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    output = tmp_path / "puzzle.csv"
    output.write_text(f"author,text,{','.join(LABELS.values())}\nstale,row,y,y,y,y,y\n")
    assert next(iter(puzzle.show(output))).startswith(f"{output}: 9,917 made-up texts")
    assert "stale" not in output.read_text()
