"""Figures agree with scikit-learn's own, intervals widen where rows depend on each other, and gaps stay gaps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn import metrics as oracle

from bigfive_udf.training.metrics import METRICS, Predictions, _Trait, evaluate, macro_roc_auc, roc_auc
from bigfive_udf.traits import TRAITS


def noisy(n: int, seed: int = 0, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(n, 5) labels, and probabilities that know something of them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (n, 5)).astype(float)
    logits = strength * (labels - 0.5) + rng.normal(size=(n, 5))
    return labels, 1 / (1 + np.exp(-logits))


def predictions(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float = 0.5, **more: np.ndarray
) -> Predictions:
    return Predictions(labels, probabilities, np.full(5, threshold), **more)


def figures(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, threshold: float) -> dict[str, float]:
    """What scikit-learn says of the first trait."""
    y, p = labels[:, 0].astype(int), probabilities[:, 0]
    about = {"sample_weight": weights}
    return {
        "roc_auc": oracle.roc_auc_score(y, p, **about),
        "average_precision": oracle.average_precision_score(y, p, **about),
        "f1": oracle.f1_score(y, p >= threshold, **about),
        "balanced_accuracy": oracle.balanced_accuracy_score(y, p >= threshold, **about),
        "mcc": oracle.matthews_corrcoef(y, p >= threshold, **about),
        "brier": oracle.brier_score_loss(y, p, **about),
        "accuracy": oracle.accuracy_score(y, p >= threshold, **about),
        "majority_accuracy": np.bincount(y, weights).max() / weights.sum(),
        "positives": weights @ y,
    }


@pytest.mark.parametrize("weighted", [False, True])
def test_every_figure_agrees_with_scikit_learn(weighted: bool) -> None:
    labels, probabilities = noisy(300)
    probabilities = probabilities.round(2)  # ties
    weights = np.random.default_rng(1).integers(0, 4, 300).astype(float) if weighted else np.ones(300)
    measured = dict(zip(METRICS, _Trait.of(predictions(labels, probabilities, 0.4), 0).measure(weights), strict=True))
    expected = figures(labels, probabilities, weights, 0.4)
    assert {name: measured[name] for name in expected} == pytest.approx(expected)


def test_calibration_error_is_the_mean_gap_between_what_was_said_and_what_was_so() -> None:
    # 0.2 said of four, of which one was so: a gap of 0.05; 0.9 said of four, of which two were so: a gap of 0.4.
    labels = np.repeat(np.array([1.0, 0, 0, 0, 1, 1, 0, 0])[:, None], 5, axis=1)
    said = np.repeat(np.array([0.2] * 4 + [0.9] * 4)[:, None], 5, axis=1)
    found = evaluate(predictions(labels, said), resamples=20)["traits"][TRAITS[0]]
    assert found["ece"] == pytest.approx((0.05 + 0.4) / 2)


def test_the_interval_of_the_calibration_error_lies_round_it() -> None:
    """A resample repeats rows, and a plain percentile interval lies above what it is the interval of."""
    rng = np.random.default_rng(0)
    said = rng.random((400, 5))
    found = evaluate(predictions((rng.random((400, 5)) < said).astype(float), said), resamples=200)
    for measured in (*found["traits"].values(), found["macro"]):
        low, high = measured["ece_ci"]
        assert low < measured["ece"] < high


def test_models_of_different_folds_are_not_compared() -> None:
    """Each fold ranks its own rows perfectly; pooled, the second fold's lows stand above the first one's highs."""
    labels = np.repeat(np.array([0.0, 0, 1, 1] * 2)[:, None], 5, axis=1)
    said = np.repeat(np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9])[:, None], 5, axis=1)
    folds = np.array([0] * 4 + [1] * 4)
    pooled = evaluate(predictions(labels, said), resamples=20)["macro"]
    within = evaluate(predictions(labels, said, folds=folds), resamples=20)["macro"]
    assert (within["roc_auc"], within["average_precision"]) == (1.0, 1.0)
    assert pooled["roc_auc"] < 1 and pooled["average_precision"] < 1
    assert within["accuracy"] == pooled["accuracy"]


def test_the_figure_of_folds_is_the_mean_of_theirs_weighted_by_pairs() -> None:
    labels, said = noisy(200)
    folds = np.repeat([2, 0, 1], [120, 50, 30])
    found = evaluate(predictions(labels, said, folds=folds), resamples=20)["traits"][TRAITS[0]]
    parts = [(labels[folds == f, 0], said[folds == f, 0]) for f in range(3)]
    aucs = [oracle.roc_auc_score(y, p) for y, p in parts]
    pairs = [y.sum() * (1 - y).sum() for y, _ in parts]
    assert found["roc_auc"] == pytest.approx(np.average(aucs, weights=pairs), abs=1e-4)
    precisions = [oracle.average_precision_score(y, p) for y, p in parts]
    expected = np.average(precisions, weights=[y.sum() for y, _ in parts])
    assert found["average_precision"] == pytest.approx(expected, abs=1e-4)


def test_missing_labels_do_not_count_and_a_trait_without_any_has_no_figures() -> None:
    labels, probabilities = noisy(200)
    labels[:, 4] = np.nan
    labels[:50, 0] = np.nan
    found = evaluate(predictions(labels, probabilities), resamples=20)
    kept = oracle.roc_auc_score(labels[50:, 0], probabilities[50:, 0])
    assert found["traits"][TRAITS[0]]["roc_auc"] == pytest.approx(kept, abs=1e-4)
    assert macro_roc_auc(labels, probabilities) == pytest.approx(found["macro"]["roc_auc"], abs=1e-4)
    nothing = found["traits"][TRAITS[4]]
    assert all(nothing[m] is None and nothing[f"{m}_ci"] is None for m in METRICS)
    assert nothing["better_than_chance"] is False and nothing["better_than_chance_corrected"] is False
    others = [found["traits"][t]["roc_auc"] for t in TRAITS[:4]]
    assert found["macro"]["roc_auc"] == pytest.approx(np.mean(others), abs=1e-4)


def test_a_text_that_could_not_be_scored_does_not_count() -> None:
    labels, probabilities = noisy(100)
    without = evaluate(predictions(labels[10:], probabilities[10:]), resamples=20)["macro"]
    probabilities[:10] = np.nan
    assert evaluate(predictions(labels, probabilities), resamples=20)["macro"]["roc_auc"] == without["roc_auc"]


def test_one_class_only_has_an_accuracy_and_no_roc_auc() -> None:
    labels, probabilities = noisy(50)
    labels[:, 1] = 1
    found = evaluate(predictions(labels, probabilities), resamples=20)["traits"][TRAITS[1]]
    assert found["roc_auc"] is None and found["roc_auc_ci"] is None and found["better_than_chance"] is False
    assert found["majority_accuracy"] == 1
    assert found["positives"] == 50
    for name in ("average_precision", "f1", "balanced_accuracy", "mcc"):
        assert found[name] is None and found[f"{name}_ci"] is None
        others = [
            figures(np.delete(labels, 1, 1)[:, i:], np.delete(probabilities, 1, 1)[:, i:], np.ones(50), 0.5)
            for i in range(4)
        ]
        macro = evaluate(predictions(labels, probabilities), resamples=20)["macro"][name]
        assert macro == pytest.approx(np.mean([one[name] for one in others]), abs=1e-4)
    assert np.isnan(roc_auc(labels[:, 1], probabilities[:, 1]))


def test_better_than_chance_needs_the_whole_interval_above_one_half() -> None:
    strong = evaluate(predictions(*noisy(200, strength=2)), resamples=100)["traits"]
    none = evaluate(predictions(*noisy(200, strength=0)), resamples=100)["traits"]
    assert all(m["better_than_chance"] and m["better_than_chance_corrected"] for m in strong.values())
    assert sum(m["better_than_chance"] for m in none.values()) <= 1
    for measured in (*strong.values(), *none.values()):
        low, high = measured["roc_auc_ci"]
        assert low <= measured["roc_auc"] <= high
        assert measured["better_than_chance"] == (low > 0.5)
        wide = measured["roc_auc_ci_corrected"]
        assert measured["better_than_chance_corrected"] <= (wide[0] > 0.5)
        assert wide[1] - wide[0] > high - low


def by_authors(seed: int, authors: int = 50, texts: int = 12) -> Predictions:
    """Scores that know nothing, of authors who have a label each and a way of their own to score."""
    rng = np.random.default_rng(seed)
    labels = np.repeat((rng.random((authors, 5)) < [0.42, 0.37, 0.53, 0.46, 0.74]).astype(float), texts, axis=0)
    own = np.repeat(rng.normal(size=(authors, 5)), texts, axis=0)
    said = 1 / (1 + np.exp(-(own + rng.normal(size=own.shape))))
    return predictions(labels, said, authors=np.repeat(np.arange(authors), texts))


def test_chance_is_not_called_skill_in_nineteen_of_twenty_tables() -> None:
    """Five traits are five opportunities: the plain intervals are fooled far more often, which is what is corrected."""
    corrected, plain = 0, 0
    for seed in range(60):
        traits = evaluate(by_authors(seed), resamples=150)["traits"].values()
        corrected += any(m["better_than_chance_corrected"] for m in traits)
        plain += any(m["better_than_chance"] for m in traits)
    assert corrected <= 3
    assert plain > 6, "or the check is too easy to show anything"


def cross_validated_noise(seed: int, authors: int = 100, folds: int = 5) -> Predictions:
    """Authors who resemble each other or not, labels that have nothing to do with it, and a model that predicts an
    author's label from the labels of those who resemble him: what a learner does where there is nothing to learn."""
    rng = np.random.default_rng(seed)
    alike = rng.normal(size=(authors, 60))
    alike = alike @ alike.T
    labels = rng.integers(0, 2, (authors, 5)).astype(float)
    fold = rng.permutation(np.arange(authors) % folds)
    taught_by = fold[:, None] != fold[None, :]
    logits = (alike * taught_by) @ (labels - 0.5) / 30
    return predictions(labels, 1 / (1 + np.exp(-logits)), folds=fold, cross_validated=True)


def test_cross_validation_of_noise_is_not_called_skill_either() -> None:
    """Two authors teach the models that predict each other, and a bootstrap of authors sees half of the variance."""
    corrected = as_if_independent = 0
    aucs, errors = [], []
    for seed in range(60):
        noise = cross_validated_noise(seed)
        found = evaluate(noise, resamples=100)["traits"].values()
        corrected += any(m["better_than_chance_corrected"] for m in found)
        aucs += [m["roc_auc"] for m in found]
        errors += [(m["roc_auc_ci"][1] - m["roc_auc_ci"][0]) / (2 * 1.96) for m in found]
        if seed < 40:
            other = evaluate(dataclasses.replace(noise, cross_validated=False), resamples=100)["traits"].values()
            as_if_independent += any(m["better_than_chance_corrected"] for m in other)
    assert corrected <= 3
    assert 0.85 < np.mean(errors) / np.std(aucs) < 1.15
    assert as_if_independent > 2, "or the check is too easy to show anything"


def test_skill_is_still_found() -> None:
    found = by_authors(0)
    knowing = Predictions(found.labels, 0.8 * found.probabilities + 0.2 * found.labels, found.thresholds, found.authors)
    traits = evaluate(knowing, resamples=300)["traits"].values()
    assert all(m["better_than_chance_corrected"] for m in traits)


def test_a_handful_of_authors_gives_no_verdict() -> None:
    labels, said = noisy(40, strength=9)
    found = evaluate(predictions(labels, said, authors=np.repeat(np.arange(4), 10)), resamples=50)["traits"]
    assert all(m["roc_auc_ci_corrected"] is None and not m["better_than_chance_corrected"] for m in found.values())


def test_scores_in_perfect_order_have_an_interval_that_tells_how_few_they_are() -> None:
    widths = []
    for n in (5, 50):
        labels = np.repeat(np.repeat([0.0, 1.0], n)[:, None], 5, axis=1)
        for order in (labels, 1 - labels):
            found = evaluate(predictions(labels, 0.2 + 0.6 * order), resamples=50)["traits"][TRAITS[0]]
            (low, high), (lower, higher) = found["roc_auc_ci"], found["roc_auc_ci_corrected"]
            assert found["roc_auc"] == order[-1, 0]
            assert lower < low < high <= 1 or 0 <= low < high < higher
            widths.append(high - low)
    # Half of it lies beyond what there is: by Hanley and McNeil, 1.96 times 0.049 for five of each kind.
    assert widths[0] == pytest.approx(1.96 * 0.049, abs=0.002)
    assert widths[0] == pytest.approx(widths[1]) and widths[2] < widths[0] / 5
    halves = []
    for few in (0.0, 1.0):
        labels = np.repeat(np.repeat([few, 1 - few], [5, 500])[:, None], 5, axis=1)
        for crossed in (False, True):
            about = dataclasses.replace(predictions(labels, 0.2 + 0.6 * labels), cross_validated=crossed)
            low, _ = evaluate(about, resamples=20)["traits"][TRAITS[0]]["roc_auc_ci_corrected"]
            halves.append(1 - low)
    assert halves[0] == halves[2] > 0.01, "five of either kind prove as little"
    assert halves[1] == pytest.approx(halves[0] * np.sqrt(2), rel=0.02), "a cross-validation has twice the variance"


def test_copies_of_a_text_are_resampled_together_where_there_are_no_authors() -> None:
    labels, probabilities = noisy(40)
    alone = evaluate(predictions(labels, probabilities), resamples=400)["traits"][TRAITS[0]]
    labels, probabilities = np.repeat(labels, 10, axis=0), np.repeat(probabilities, 10, axis=0)
    texts = np.repeat([f"text {i}" for i in range(40)], 10)
    copies = evaluate(predictions(labels, probabilities, texts=texts), resamples=400)["traits"][TRAITS[0]]
    (low, high), (copied_low, copied_high) = alone["roc_auc_ci_corrected"], copies["roc_auc_ci_corrected"]
    assert copied_high - copied_low == pytest.approx(high - low, rel=0.15)
    each = np.array([f"row {i}" for i in range(400)])
    rows = evaluate(predictions(labels, probabilities, texts=each), resamples=400)["traits"][TRAITS[0]]
    assert np.ptp(rows["roc_auc_ci_corrected"]) < (high - low) / 2, "or the check is too easy to show anything"


def test_rows_of_one_author_are_resampled_together() -> None:
    labels, probabilities = noisy(40)
    copies = 10
    labels, probabilities = np.repeat(labels, copies, axis=0), np.repeat(probabilities, copies, axis=0)
    rows = predictions(labels, probabilities)
    authors = predictions(labels, probabilities, authors=np.repeat(np.arange(40), copies))
    by_row = evaluate(rows, resamples=200)["macro"]["roc_auc_ci"]
    by_author = evaluate(authors, resamples=200)["macro"]["roc_auc_ci"]
    # Ten copies of a row are no ten rows: the interval by row is too narrow by the square root of ten.
    assert 2 < (by_author[1] - by_author[0]) / (by_row[1] - by_row[0]) < 5


def test_the_same_rows_give_the_same_intervals() -> None:
    rows = predictions(*noisy(60))
    assert evaluate(rows, resamples=30) == evaluate(rows, resamples=30)
