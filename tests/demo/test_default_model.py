"""The default model: good on statements it has never seen, reproducible, honest about itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from bigfive_udf.demo.bank import (
    TRAINING,
    WRITTEN_APART,
    main,
    read_bank,
    read_written_apart,
    tables,
    unseen,
    with_labels,
)
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.training.evaluation import table
from bigfive_udf.training.metrics import METRICS
from bigfive_udf.traits import TRAITS, probability_column

NEUTRAL = ("The bus was late this morning.", "We had soup for lunch.")


def macro_auc(statements: pd.DataFrame, scores: pd.DataFrame) -> float:
    """Mean over traits of the ROC AUC among the statements on that trait."""
    aucs = []
    for trait in TRAITS:
        about = statements[trait].notna().to_numpy()
        aucs.append(roc_auc_score(statements.loc[about, trait], scores.loc[about, probability_column(trait)]))
    return float(np.mean(aucs))


@pytest.mark.slow
def test_it_tells_the_poles_of_statements_by_another_author(default_model: Any) -> None:
    held_out = read_written_apart()
    scores = load_artifact(default_model.path).predict(held_out["text"].tolist())
    assert macro_auc(held_out, scores) >= 0.85


@pytest.mark.slow
def test_trait_sentences_show_among_neutral_ones(default_model: Any) -> None:
    held_out = read_written_apart()
    texts, groups = [], []
    for (trait, pole), group in held_out.groupby(["trait", "pole"], sort=False):
        first, second = group["text"].iloc[::2], group["text"].iloc[1::2]
        texts += [f"{NEUTRAL[0]} {a} {b} {NEUTRAL[1]}" for a, b in zip(first, second, strict=True)]
        groups += [(trait, pole)] * len(first)
    mixed = with_labels(pd.DataFrame(groups, columns=["trait", "pole"]))
    assert macro_auc(mixed, load_artifact(default_model.path).predict(texts)) >= 0.85


@pytest.mark.slow
def test_it_is_better_than_chance_for_every_trait(default_model: Any) -> None:
    evaluation = load_artifact(default_model.path).evaluation
    assert all(measured["better_than_chance"] is True for measured in evaluation["traits"].values())
    assert evaluation["verdict"]["summary"] == "better than chance for all 5 traits"


@pytest.mark.slow
def test_one_epoch_has_taught_it_something(hurried_model: Any) -> None:
    held_out = read_written_apart()
    scores = load_artifact(hurried_model.path).predict(held_out["text"].tolist())
    assert macro_auc(held_out, scores) >= 0.6


def test_its_evaluation_says_what_its_scores_say(built: Any) -> None:
    artifact = load_artifact(built.path)
    held_out = read_written_apart()
    scores = artifact.predict(held_out["text"].tolist(), precision="fp32")
    evaluation = artifact.evaluation
    assert evaluation["macro"]["roc_auc"] == pytest.approx(macro_auc(held_out, scores), abs=1e-3)
    assert evaluation["model_id"] == artifact.model_id
    assert evaluation["split"] == "author"
    assert evaluation["rows"]["test"] == len(held_out)
    assert set(evaluation["traits"]) == set(TRAITS)
    names = {name for metric in METRICS for name in (metric, f"{metric}_ci")}
    assert set(evaluation["macro"]) == names
    for measured in evaluation["traits"].values():
        assert names < set(measured)
        assert measured["positives"] == 30


def test_its_description_and_card_are_complete(built: Any) -> None:
    about = json.loads((built.path / "bigfive.json").read_text())
    assert about["languages"] == ["en"]
    assert about["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert about["training_data"].startswith("sha256:")
    assert set(about["files"]) == {p.name for p in built.path.iterdir()} - {"bigfive.json", "evaluation.json"}
    card = (built.path / "README.md").read_text()
    evaluation = json.loads((built.path / "evaluation.json").read_text())
    assert all(f"{evaluation['traits'][trait]['roc_auc']:.3f} (" in card for trait in TRAITS)
    assert "A demonstration model" in card
    assert "docs/responsible-use.md" in card


def test_the_commands_print_the_figures_and_no_noise(built: Any) -> None:
    assert built.stderr == ""
    evaluation = json.loads((built.path / "evaluation.json").read_text())
    assert table(evaluation) in built.stdout
    assert "epoch 1/" in built.stdout
    assert max(map(len, built.stdout.splitlines())) <= 200


def test_tables_that_are_there_are_left_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "statements"
    assert main(["--output", str(directory)]) == 0
    assert sorted(p.name for p in directory.iterdir()) == [TRAINING, WRITTEN_APART]
    (directory / TRAINING).write_text("mine")
    capsys.readouterr()
    assert main(["--output", str(directory), "--if-missing"]) == 0
    assert main(["--output", str(directory)]) == 7
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert (directory / TRAINING).read_text() == "mine"


def test_wrong_flags_are_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "x"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_the_bank_is_as_the_issue_asks() -> None:
    bank = read_bank()
    assert len(bank) >= 700
    assert (bank.groupby("trait")["facet"].nunique() >= 6).all()
    assert set(bank["pole"]) == {"high", "low"}
    assert (bank[list(TRAITS)].notna().sum(axis=1) == 1).all()


def test_nothing_that_is_tested_on_was_trained_on() -> None:
    bank, held_out = read_bank(), read_written_apart()
    bank.loc[0, "text"] = held_out.loc[5, "text"].upper().replace(".", "!")
    kept = unseen(bank, held_out)
    assert bank.loc[0, "text"] not in set(kept["text"])
    assert len(bank) - 20 < len(kept) < len(bank)
    assert not set(kept["text"]) & set(held_out["text"])
    made = tables()
    assert not set(made[TRAINING]["text"]) & set(made[WRITTEN_APART]["text"])
    assert made[TRAINING]["text"].is_unique


def test_a_statement_and_its_opposite_have_one_name() -> None:
    training = tables()[TRAINING].set_index("text")
    pairs = [("I chat with strangers on the bus.", "I don't chat with strangers on the bus.")]
    for statement, opposite in pairs:
        assert training.loc[statement, "statement"] == training.loc[opposite, "statement"]
        assert training.loc[statement, "extraversion"] == 1 - training.loc[opposite, "extraversion"]
