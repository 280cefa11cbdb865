"""Figures agree with scikit-learn's own, intervals widen where rows depend on each other, and gaps stay gaps."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as oracle

from bigfive_udf.training.metrics import METRICS, evaluate, measure
from bigfive_udf.traits import TRAITS

THRESHOLDS = dict.fromkeys(TRAITS, 0.5)


def noisy(n: int, seed: int = 0, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(n, 5) labels, and probabilities that know something of them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (n, 5)).astype(float)
    logits = strength * (labels - 0.5) + rng.normal(size=(n, 5))
    return labels, 1 / (1 + np.exp(-logits))


def test_every_figure_agrees_with_scikit_learn() -> None:
    labels, probabilities = noisy(300)
    y, p = labels[:, 0].astype(int), probabilities[:, 0].round(2)  # rounded: ties
    threshold = 0.4
    expected = {
        "roc_auc": oracle.roc_auc_score(y, p),
        "average_precision": oracle.average_precision_score(y, p),
        "f1": oracle.f1_score(y, p >= threshold),
        "balanced_accuracy": oracle.balanced_accuracy_score(y, p >= threshold),
        "mcc": oracle.matthews_corrcoef(y, p >= threshold),
        "brier": oracle.brier_score_loss(y, p),
        "accuracy": oracle.accuracy_score(y, p >= threshold),
        "majority_accuracy": np.bincount(y).max() / len(y),
        "positives": y.sum(),
    }
    found = dict(zip(METRICS, measure(y, p, threshold), strict=True))
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_calibration_error_is_the_mean_gap_between_what_was_said_and_what_was_so() -> None:
    # 0.2 said of four, of which one was so: a gap of 0.05; 0.9 said of four, of which two were so: a gap of 0.4.
    found = measure(np.array([1, 0, 0, 0, 1, 1, 0, 0]), np.array([0.25 - 0.05] * 4 + [0.9] * 4), 0.5)
    assert found[METRICS.index("ece")] == pytest.approx((0.05 + 0.4) / 2)


def test_missing_labels_do_not_count_and_a_trait_without_any_has_no_figures() -> None:
    labels, probabilities = noisy(200)
    labels[:, 4] = np.nan
    labels[:50, 0] = np.nan
    found = evaluate(labels, probabilities, THRESHOLDS, resamples=20)
    kept = oracle.roc_auc_score(labels[50:, 0], probabilities[50:, 0])
    assert found["traits"][TRAITS[0]]["roc_auc"] == pytest.approx(kept, abs=1e-4)
    nothing = found["traits"][TRAITS[4]]
    assert all(nothing[m] is None and nothing[f"{m}_ci"] is None for m in METRICS)
    assert nothing["better_than_chance"] is False
    others = [found["traits"][t]["roc_auc"] for t in TRAITS[:4]]
    assert found["macro"]["roc_auc"] == pytest.approx(np.mean(others), abs=1e-4)


def test_one_class_only_has_an_accuracy_and_no_roc_auc() -> None:
    labels, probabilities = noisy(50)
    labels[:, 1] = 1
    found = evaluate(labels, probabilities, THRESHOLDS, resamples=20)["traits"][TRAITS[1]]
    assert found["roc_auc"] is None and found["roc_auc_ci"] is None and found["better_than_chance"] is False
    assert found["majority_accuracy"] == 1
    assert found["positives"] == 50


def test_better_than_chance_needs_the_whole_interval_above_one_half() -> None:
    strong = evaluate(*noisy(200, strength=2), THRESHOLDS, resamples=100)["traits"]
    none = evaluate(*noisy(200, strength=0), THRESHOLDS, resamples=100)["traits"]
    assert all(m["better_than_chance"] for m in strong.values())
    assert sum(m["better_than_chance"] for m in none.values()) <= 1
    for measured in (*strong.values(), *none.values()):
        low, high = measured["roc_auc_ci"]
        assert low <= measured["roc_auc"] <= high
        assert measured["better_than_chance"] == (low > 0.5)


def test_rows_of_one_author_are_resampled_together() -> None:
    labels, probabilities = noisy(40)
    copies = 10
    labels, probabilities = np.repeat(labels, copies, axis=0), np.repeat(probabilities, copies, axis=0)
    authors = np.repeat(np.arange(40), copies).tolist()
    by_row = evaluate(labels, probabilities, THRESHOLDS, resamples=200)["macro"]["roc_auc_ci"]
    by_author = evaluate(labels, probabilities, THRESHOLDS, authors=authors, resamples=200)["macro"]["roc_auc_ci"]
    # Ten copies of a row are no ten rows: the interval by row is too narrow by the square root of ten.
    assert 2 < (by_author[1] - by_author[0]) / (by_row[1] - by_row[0]) < 5


def test_the_same_rows_give_the_same_intervals() -> None:
    rows = noisy(60)
    assert evaluate(*rows, THRESHOLDS, resamples=30) == evaluate(*rows, THRESHOLDS, resamples=30)
