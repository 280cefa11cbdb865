"""The default model: good on statements it has never seen, reproducible, honest about itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from bigfive_udf.demo import default_model as module
from bigfive_udf.demo.default_model import build, main, read_bank, read_written_apart, recipe, unseen, with_labels
from bigfive_udf.errors import OutputError
from bigfive_udf.model.artifact import load_artifact
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


def test_it_tells_the_poles_of_statements_by_another_author(default_model: Any) -> None:
    held_out = read_written_apart()
    scores = load_artifact(default_model.path).predict(held_out["text"].tolist())
    assert macro_auc(held_out, scores) >= 0.85


def test_trait_sentences_show_among_neutral_ones(default_model: Any) -> None:
    held_out = read_written_apart()
    texts, groups = [], []
    for (trait, pole), group in held_out.groupby(["trait", "pole"], sort=False):
        first, second = group["text"].iloc[::2], group["text"].iloc[1::2]
        texts += [f"{NEUTRAL[0]} {a} {b} {NEUTRAL[1]}" for a, b in zip(first, second, strict=True)]
        groups += [(trait, pole)] * len(first)
    mixed = with_labels(pd.DataFrame(groups, columns=["trait", "pole"]))
    assert macro_auc(mixed, load_artifact(default_model.path).predict(texts)) >= 0.85


def test_its_evaluation_says_what_its_scores_say(default_model: Any) -> None:
    artifact = load_artifact(default_model.path)
    held_out = read_written_apart()
    scores = artifact.predict(held_out["text"].tolist(), precision="fp32")
    evaluation = artifact.evaluation
    assert evaluation["macro"]["roc_auc"] == pytest.approx(macro_auc(held_out, scores), abs=1e-3)
    assert evaluation["model_id"] == artifact.model_id
    assert evaluation["split"] == "author"
    assert set(evaluation["traits"]) == set(TRAITS)
    names = {name for metric in METRICS for name in (metric, f"{metric}_ci")}
    assert set(evaluation["macro"]) == names
    for measured in evaluation["traits"].values():
        assert set(measured) == names | {"better_than_chance"}
        assert measured["better_than_chance"] is True
        assert measured["positives"] == 30


def test_its_description_and_card_are_complete(default_model: Any) -> None:
    about = json.loads((default_model.path / "bigfive.json").read_text())
    assert about["languages"] == ["en"]
    assert about["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert about["training_data"].startswith("sha256:")
    assert set(about["files"]) == {p.name for p in default_model.path.iterdir()} - {"bigfive.json", "evaluation.json"}
    card = (default_model.path / "README.md").read_text()
    evaluation = json.loads((default_model.path / "evaluation.json").read_text())
    assert module.table(evaluation) in card
    assert "docs/responsible-use.md" in card


def test_the_command_prints_the_figures_and_no_noise(default_model: Any) -> None:
    assert default_model.stderr == ""
    assert all(trait in default_model.stdout for trait in (*TRAITS, "macro average", "epoch 1/"))
    assert max(map(len, default_model.stdout.splitlines())) <= 200


def test_a_model_that_is_there_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m/config.json").write_text("mine")
    assert main(["--output", str(tmp_path / "m"), "--if-missing"]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert main(["--output", str(tmp_path / "m")]) == 7
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert (tmp_path / "m/config.json").read_text() == "mine"


def test_a_missing_encoder_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bigfive_udf.training.base_models.MINILM_PACKAGE", "no-such-package-here")
    assert main(["--output", str(tmp_path / "m")]) == 4
    assert "make setup" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_wrong_flags_are_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "x"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_the_same_seed_gives_the_same_model(tmp_path: Path, checkpoint: Callable[..., Path]) -> None:
    bank, held_out = (
        read_bank().groupby(["trait", "pole"]).head(3),
        read_written_apart().groupby(["trait", "pole"]).head(4),
    )
    options = dataclasses.replace(recipe(), epochs=1, max_length=64)
    for name in ("first", "again"):
        build(tmp_path / name, bank, held_out, str(checkpoint("bert")), options)
    first, again = (load_artifact(tmp_path / name) for name in ("first", "again"))
    assert first.model_id == again.model_id
    with pytest.raises(OutputError, match="never overwritten"):
        build(tmp_path / "first", bank, held_out, str(checkpoint("bert")), options)


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
