"""How good five probabilities are, with intervals: what `evaluation.json` says under `traits` and `macro`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sklearn
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

from bigfive_udf.traits import TRAITS

METRICS = (
    "roc_auc",
    "average_precision",
    "f1",
    "balanced_accuracy",
    "mcc",
    "brier",
    "ece",
    "accuracy",
    "majority_accuracy",
    "positives",
)
_ECE_BINS = 10


def evaluate(
    labels: np.ndarray,
    probabilities: np.ndarray,
    thresholds: Mapping[str, float],
    *,
    authors: Sequence[Any] | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> dict[str, Any]:
    """The parts `traits` and `macro` of an evaluation.

    `labels` and `probabilities` are (rows, 5) in trait order, a missing label NaN. Every metric `m` comes with `m_ci`,
    its 95 % percentile bootstrap interval: rows are resampled, or whole authors where `authors` (one per row) are
    given. Each resample serves all traits, so that the macro average has an honest interval too. `positives` is a
    count. A metric that the rows can't give (one class only, no label at all) is None.
    """
    limits = [float(thresholds[trait]) for trait in TRAITS]
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):  # a third faster
        point = _by_trait(labels, probabilities, limits)
        rng = np.random.default_rng(seed)
        members = _members(len(labels), authors)
        replicates = np.empty((resamples, len(TRAITS), len(METRICS)))
        for r in range(resamples):
            rows = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
            replicates[r] = _by_trait(labels[rows], probabilities[rows], limits)
    traits = {trait: _with_intervals(point[i], replicates[:, i]) for i, trait in enumerate(TRAITS)}
    for measured in traits.values():
        interval = measured["roc_auc_ci"]
        measured["better_than_chance"] = interval is not None and interval[0] > 0.5
    return {"traits": traits, "macro": _with_intervals(_mean_over_traits(point), _mean_over_traits(replicates))}


def measure(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """(n,) labels 0 and 1 and their probabilities -> (10,) values in the order of `METRICS`, NaN where undefined."""
    if len(labels) == 0:
        return np.full(len(METRICS), np.nan)
    predicted = probabilities >= threshold
    tn, fp, fn, tp = confusion_matrix(labels, predicted, labels=[0, 1]).ravel().astype(float)
    n, positives, negatives = len(labels), tp + fn, tn + fp
    both_classes = positives > 0 and negatives > 0
    denominator = np.sqrt((tp + fp) * positives * negatives * (tn + fn))
    return np.array(
        [
            roc_auc_score(labels, probabilities) if both_classes else np.nan,
            average_precision_score(labels, probabilities) if positives else np.nan,
            2 * tp / (2 * tp + fp + fn) if positives else np.nan,
            (tp / positives + tn / negatives) / 2 if both_classes else np.nan,
            (tp * tn - fp * fn) / denominator if denominator else 0.0,
            np.mean((probabilities - labels) ** 2),
            _expected_calibration_error(labels, probabilities),
            (tp + tn) / n,
            max(positives, negatives) / n,
            positives,
        ]
    )


def _expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean distance of probability and observed share over ten bins of equal width, weighted by rows (Naeini 2015)."""
    bins = np.minimum((probabilities * _ECE_BINS).astype(int), _ECE_BINS - 1)
    gaps = np.bincount(bins, weights=probabilities - labels, minlength=_ECE_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def _by_trait(labels: np.ndarray, probabilities: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """(5, 10)"""
    measured = []
    for i, threshold in enumerate(thresholds):
        known = ~np.isnan(labels[:, i])
        measured.append(measure(labels[known, i].astype(int), probabilities[known, i].astype(float), threshold))
    return np.array(measured)


def _members(n_rows: int, authors: Sequence[Any] | None) -> list[np.ndarray]:
    """The rows of each author, or each row on its own."""
    if authors is None:
        return list(np.arange(n_rows)[:, None])
    _, author = np.unique(np.asarray(authors, dtype=str), return_inverse=True)
    return np.split(np.argsort(author, kind="stable"), np.cumsum(np.bincount(author))[:-1])


def _mean_over_traits(values: np.ndarray) -> np.ndarray:
    """(..., 5, 10) -> (..., 10); a trait without a value does not count."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0).sum(-2), known.sum(-2)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _with_intervals(point: np.ndarray, replicates: np.ndarray) -> dict[str, Any]:
    """(10,) values and (resamples, 10) of them resampled."""
    result: dict[str, Any] = {}
    for j, name in enumerate(METRICS):
        seen = replicates[:, j][~np.isnan(replicates[:, j])]
        known = not np.isnan(point[j]) and len(seen) > 0
        result[name] = _rounded(point[j]) if known else None
        result[f"{name}_ci"] = [_rounded(q) for q in np.percentile(seen, [2.5, 97.5])] if known else None
    return result


def _rounded(value: float) -> float:
    return round(float(value), 4)
