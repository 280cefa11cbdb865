"""How good five probabilities are, with intervals: the parts `traits` and `macro` of `evaluation.json`.

Everything is computed from weighted rows: a bootstrap resample of whole authors is a weight per author, so nothing is
copied and a thousand resamples of ten thousand rows take seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

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
_ERROR_RATE = 0.05
"""error rate of the verdict over all labelled traits together"""
LEAST_GROUPS = 5
"""fewest authors of the rarer class: with fewer, the spread of resamples says nothing, and there is no verdict"""


@dataclass(frozen=True)
class Predictions:
    """Predictions for rows that were not trained on; one entry per row in every field, traits as in `TRAITS`."""

    labels: np.ndarray
    """(n, 5) 0 or 1, NaN where missing"""
    probabilities: np.ndarray
    """(n, 5), NaN where the text could not be scored"""
    thresholds: np.ndarray
    """(5,), or (n, 5) where each fold has its own"""
    authors: np.ndarray | None = None
    """(n,) author of each row, whose rows are resampled together; None: there are no authors"""
    folds: np.ndarray | None = None
    """(n,) number of the model that predicted the row: ranks of different models are never compared; None: one model"""
    cross_validated: bool = False
    """whether the models that predicted some of the rows were trained on the other rows"""
    texts: np.ndarray | None = None
    """(n,) a name for each text, equal for equal texts: without authors, copies of a text are resampled together"""


def evaluate(predictions: Predictions, *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """The parts `traits` and `macro` of an evaluation.

    Every metric `m` comes with `m_ci`, its 95 % percentile bootstrap interval: whole authors are resampled where there
    are any, else texts with their copies. Each resample serves all traits, so that the macro average has an honest
    interval too. `positives` is a count. A metric that the rows can't give (one class only, no label at all) is None.

    With several folds, ROC AUC and average precision compare rows of one fold only, and a fold weighs as much as it
    has to compare (Forman and Scholz 2010). Pooled ranks would be biased downwards, because the models saw different
    base rates.

    In a cross-validation every two authors meet twice: once the model learns from the first, once from the second. If
    there is nothing to learn, both meetings give the same result, and a resample of authors shows only half of the
    variance (there is no unbiased estimate of it: Bengio and Grandvalet 2004). Intervals of a cross-validation are
    therefore widened by the square root of two. That is exact for a model that knows nothing, and on the safe side for
    a model that knows something.

    `better_than_chance` is true where the 95 % interval of the trait's own ROC AUC lies above 0.5. But five traits give
    chance five opportunities, and a percentile interval of few authors is too narrow. `roc_auc_ci_corrected` is
    therefore the interval for all labelled traits together (Bonferroni), by Student's t on the bootstrap's standard
    error. Its degrees of freedom are the number of authors of the rarer class, less one. `better_than_chance_corrected`
    is true where both intervals lie above 0.5.

    If every pair is in order, so is every pair of every resample, and their spread of zero does not show how few pairs
    there are. Both intervals of such a trait use the standard error of Hanley and McNeil (1982).
    """
    traits = [_Trait.of(predictions, i) for i in range(len(TRAITS))]
    group, n_groups = _groups(predictions)
    point = np.array([trait.measure(np.ones(len(group))) for trait in traits])
    rng = np.random.default_rng(seed)
    replicates = np.empty((resamples, len(TRAITS), len(METRICS)))
    for r in range(resamples):
        weights = np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups)[group].astype(float)
        replicates[r] = [trait.measure(weights) for trait in traits]
    if predictions.cross_validated:
        of_the_model = [name not in ("majority_accuracy", "positives") for name in METRICS]
        wider = point + np.sqrt(2) * (replicates - point)
        replicates = np.where(of_the_model, wider, replicates)
    measured = {trait: _with_intervals(point[i], replicates[:, i]) for i, trait in enumerate(TRAITS)}
    looked_at = max(1, int((~np.isnan(point[:, 0])).sum()))
    for i, trait in enumerate(TRAITS):
        found, own = measured[trait], measured[trait]["roc_auc_ci"]
        groups = traits[i].groups_by_class(group)
        error = _standard_error(point[i, 0], replicates[:, i, 0], groups, predictions.cross_validated)
        if point[i, 0] in (0.0, 1.0) and own is not None:
            found["roc_auc_ci"] = own = _around(point[i, 0], stats.norm.ppf(0.975) * error)
        corrected = _corrected_interval(point[i, 0], error, min(groups), looked_at)
        found["roc_auc_ci_corrected"] = corrected
        found["better_than_chance"] = own is not None and own[0] > 0.5
        found["better_than_chance_corrected"] = bool(
            found["better_than_chance"] and corrected is not None and corrected[0] > 0.5
        )
    return {"traits": measured, "macro": _with_intervals(_mean_over_traits(point), _mean_over_traits(replicates))}


def roc_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """ROC AUC of (n,) labels 0 and 1, NaN where one class is missing."""
    ranks = _Ranks.of(labels, scores, np.zeros(len(labels), int))
    return ranks.roc_auc(np.ones(len(labels)))


def macro_roc_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean ROC AUC over the traits that have one: labels (n, 5) and scores (n, 5), NaN where missing."""
    known = ~np.isnan(labels) & ~np.isnan(scores)
    values = [roc_auc(labels[k, i], scores[k, i]) for i, k in enumerate(known.T) if k.any()]
    values = [v for v in values if not np.isnan(v)]
    return float(np.mean(values)) if values else float("nan")


@dataclass(frozen=True)
class _Ranks:
    """Rows sorted by fold and score, and where ties and folds begin: what weighted rank statistics need."""

    order: np.ndarray
    positive: np.ndarray
    """(n,) 0.0 or 1.0, in the sorted order"""
    ties: np.ndarray
    """start of each group of equal scores within a fold"""
    folds: np.ndarray
    """start of each fold, as an index into `ties`"""

    @classmethod
    def of(cls, labels: np.ndarray, scores: np.ndarray, folds: np.ndarray) -> _Ranks:
        order = np.lexsort((scores, folds))
        s, f = scores[order], folds[order]
        new = np.ones(len(s), bool)
        new[1:] = (s[1:] != s[:-1]) | (f[1:] != f[:-1])
        ties = np.flatnonzero(new)
        _, first = np.unique(f[ties], return_index=True)
        return cls(order, labels[order].astype(float), ties, first)

    def _by_tie(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weight of positives and of negatives in each tie group."""
        w = weights[self.order]
        return np.add.reduceat(w * self.positive, self.ties), np.add.reduceat(w * (1 - self.positive), self.ties)

    def _before(self, values: np.ndarray) -> np.ndarray:
        """For each tie group, the sum over the earlier tie groups of its fold."""
        total = np.cumsum(values) - values
        sizes = np.diff(np.append(self.folds, len(values)))
        return total - np.repeat(total[self.folds], sizes)

    def roc_auc(self, weights: np.ndarray) -> float:
        """Share of pairs, a positive and a negative of one fold, that are in the right order; ties count half."""
        if not len(self.order):
            return float("nan")
        positive, negative = self._by_tie(weights)
        pairs = np.add.reduceat(positive, self.folds) @ np.add.reduceat(negative, self.folds)
        return float(positive @ (self._before(negative) + negative / 2) / pairs) if pairs > 0 else float("nan")

    def average_precision(self, weights: np.ndarray) -> float:
        """Mean precision over the positives, each at its own score, within its fold."""
        if not len(self.order):
            return float("nan")
        positive, negative = self._by_tie(weights)
        sizes = np.diff(np.append(self.folds, len(positive)))
        above = [
            np.repeat(np.add.reduceat(v, self.folds), sizes) - self._before(v) for v in (positive, positive + negative)
        ]
        total = positive.sum()
        precision = np.divide(above[0], above[1], out=np.zeros_like(above[0]), where=above[1] > 0)
        return float(positive @ precision / total) if total > 0 else float("nan")


@dataclass(frozen=True)
class _Trait:
    """One trait's rows that have a label and a score, ready to be measured under any weights."""

    rows: np.ndarray
    """indices of these rows"""
    y: np.ndarray
    p: np.ndarray
    predicted: np.ndarray
    ranks: _Ranks
    bins: np.ndarray

    @classmethod
    def of(cls, predictions: Predictions, i: int) -> _Trait:
        known = ~np.isnan(predictions.labels[:, i]) & ~np.isnan(predictions.probabilities[:, i])
        y, p = predictions.labels[known, i].astype(float), predictions.probabilities[known, i].astype(float)
        folds = np.zeros(len(y), int) if predictions.folds is None else predictions.folds[known]
        bins = np.minimum((p * _ECE_BINS).astype(int), _ECE_BINS - 1)
        predicted = p >= np.broadcast_to(predictions.thresholds, predictions.labels.shape)[known, i]
        return cls(np.flatnonzero(known), y, p, predicted.astype(float), _Ranks.of(y, p, folds), bins)

    def measure(self, weights: np.ndarray) -> np.ndarray:
        """(10,) values in the order of `METRICS`, NaN where undefined; `weights` are those of all rows."""
        w = weights[self.rows]
        n = w.sum()
        if n == 0:
            return np.full(len(METRICS), np.nan)
        wy, right = w * self.y, self.predicted == self.y
        tp, positives, flagged = wy @ self.predicted, wy.sum(), w @ self.predicted
        negatives, fp = n - positives, flagged - tp
        tn, fn = negatives - fp, positives - tp
        both_classes = positives > 0 and negatives > 0
        denominator = np.sqrt(flagged * positives * negatives * (n - flagged))
        gaps = np.bincount(self.bins, weights=w * (self.p - self.y), minlength=_ECE_BINS)
        return np.array(
            [
                self.ranks.roc_auc(w),
                self.ranks.average_precision(w) if both_classes else np.nan,
                2 * tp / (2 * tp + fp + fn) if both_classes else np.nan,
                (tp / positives + tn / negatives) / 2 if both_classes else np.nan,
                (tp * tn - fp * fn) / denominator if denominator else (0.0 if both_classes else np.nan),
                w @ (self.p - self.y) ** 2 / n,
                # Mean distance of probability and observed share over bins of equal width (Naeini et al. 2015).
                np.abs(gaps).sum() / n,
                w @ right / n,
                max(positives, negatives) / n,
                positives,
            ]
        )

    def groups_by_class(self, group: np.ndarray) -> tuple[int, int]:
        """The number of authors, or texts, with a positive label, and the number with a negative one."""
        own = group[self.rows]
        return len(np.unique(own[self.y == 1])), len(np.unique(own[self.y == 0]))


def _groups(predictions: Predictions) -> tuple[np.ndarray, int]:
    together = predictions.authors if predictions.authors is not None else predictions.texts
    if together is None:
        return np.arange(len(predictions.labels)), len(predictions.labels)
    names, group = np.unique(together, return_inverse=True)
    return group, len(names)


def _standard_error(area: float, replicates: np.ndarray, groups: tuple[int, int], cross_validated: bool) -> float:
    """The standard error of a ROC AUC: from its replicates, or from the groups per class if all pairs are in order.

    The second way assumes an area with half a pair out of order and takes the class that varies more. It doubles the
    variance of a cross-validation, as `evaluate` explains.
    """
    seen = replicates[~np.isnan(replicates)]
    if area not in (0.0, 1.0):
        return float(seen.std(ddof=1)) if len(seen) > 1 else float("nan")
    positive, negative = groups
    below = 1 - 1 / (2 * positive * negative)
    of_two = below / (2 - below) - below**2, 2 * below**2 / (1 + below) - below**2
    between = max((positive - 1) * a + (negative - 1) * b for a, b in (of_two, of_two[::-1]))
    variance = (below * (1 - below) + between) / (positive * negative)
    return float(np.sqrt(variance * (2 if cross_validated else 1)))


def _corrected_interval(area: float, error: float, rarer: int, traits: int) -> list[float] | None:
    if np.isnan(area) or np.isnan(error) or rarer < LEAST_GROUPS:
        return None
    return _around(area, stats.t.ppf(1 - _ERROR_RATE / 2 / traits, rarer - 1) * error)


def _around(area: float, half: float) -> list[float]:
    return [_rounded(max(0.0, area - half)), _rounded(min(1.0, area + half))]


def _mean_over_traits(values: np.ndarray) -> np.ndarray:
    """(..., 5, 10) -> (..., 10); a trait without a value does not count."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0).sum(-2), known.sum(-2)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _with_intervals(point: np.ndarray, replicates: np.ndarray) -> dict[str, Any]:
    """Each metric with its interval, from (10,) values and their (resamples, 10) replicates."""
    result: dict[str, Any] = {}
    for j, name in enumerate(METRICS):
        seen = replicates[:, j][~np.isnan(replicates[:, j])]
        known = not np.isnan(point[j]) and len(seen) > 0
        if known and name == "ece":
            # A resample repeats rows, which looks like additional miscalibration: that amount is subtracted.
            seen = seen - seen.mean() + point[j]
        result[name] = _rounded(point[j]) if known else None
        if known and name not in ("mcc", "positives"):
            seen = np.clip(seen, 0, 1)
        result[f"{name}_ci"] = [_rounded(q) for q in np.percentile(seen, [2.5, 97.5])] if known else None
    return result


def _rounded(value: float) -> float:
    return round(float(value), 4)
