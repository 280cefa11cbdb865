"""Probabilities that mean what they say, and thresholds: fitted on held-out predictions, folded into the model.

Calibration is Platt's (1999): a slope and an intercept per trait on the logit. His smoothed targets keep the slope
finite when the model separates the classes perfectly. Calibration also undoes the effect of positive weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from bigfive_udf.traits import TRAITS

LEAST_SLOPE = 0.01
"""A model that knows nothing gets a slope of zero or below; this minimum keeps the order of its scores, nearly flat."""


@dataclass(frozen=True)
class Calibration:
    """probability = sigmoid(slope * logit + intercept), by trait; (5,) each."""

    slope: np.ndarray
    intercept: np.ndarray

    @classmethod
    def none(cls) -> Calibration:
        return cls(np.ones(len(TRAITS)), np.zeros(len(TRAITS)))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(n, 5) logits -> (n, 5) probabilities."""
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-(self.slope * logits + self.intercept)))

    def fold_into(self, model: Any) -> None:
        """Multiply the last layer, so that the model's own sigmoid gives these probabilities. Changes `model`."""
        last = last_layer(model)
        slope, intercept = (
            torch.from_numpy(v).to(last.weight.dtype).to(last.weight.device) for v in (self.slope, self.intercept)
        )
        with torch.no_grad():
            last.weight.mul_(slope[:, None])
            last.bias.mul_(slope).add_(intercept)


def fit(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Fit on held-out predictions: logits and labels (n, 5), labels NaN where missing.

    A trait that has not both classes keeps slope 1 and intercept 0.
    """
    found = Calibration.none()
    for i in range(len(TRAITS)):
        known = ~np.isnan(labels[:, i]) & np.isfinite(logits[:, i])
        if len(np.unique(labels[known, i])) == 2:
            found.slope[i], found.intercept[i] = _platt(logits[known, i], labels[known, i])
    return found


def _platt(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression

    positives, negatives = labels.sum(), len(labels) - labels.sum()
    # Platt's targets: as if each class had two more examples, one with its own label and one with the opposite label.
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    spread = float(logits.std())
    if spread < 1e-9:  # every text has the same logit
        return LEAST_SLOPE, float(np.log(target.mean() / (1 - target.mean())) - LEAST_SLOPE * logits.mean())
    x = np.concatenate([logits, logits])[:, None] / spread
    y = np.repeat([1, 0], len(logits))
    fitted = LogisticRegression(C=np.inf, solver="newton-cholesky", max_iter=200).fit(
        x, y, sample_weight=np.concatenate([target, 1 - target])
    )
    slope = float(fitted.coef_[0, 0]) / spread
    if slope >= LEAST_SLOPE:
        return slope, float(fitted.intercept_[0])
    share = target.mean()
    return LEAST_SLOPE, float(np.log(share / (1 - share)) - LEAST_SLOPE * logits.mean())


def thresholds(
    probabilities: np.ndarray, labels: np.ndarray, by: Literal["balanced_accuracy", "f1", "fixed"]
) -> np.ndarray:
    """(5,) the threshold that is best on held-out predictions, (n, 5) each.

    It is 0.5 where `by` is fixed, or a trait has not both classes. A threshold lies halfway between two observed
    probabilities, or between the lowest one and 0, so that rounding does not change a label.
    """
    found = np.full(len(TRAITS), 0.5)
    if by == "fixed":
        return found
    for i in range(len(TRAITS)):
        known = ~np.isnan(labels[:, i]) & np.isfinite(probabilities[:, i])
        y, p = labels[known, i], probabilities[known, i]
        if len(np.unique(y)) == 2:
            found[i] = _best_threshold(p, y, by)
    return found


def _best_threshold(p: np.ndarray, y: np.ndarray, by: str) -> float:
    order = np.argsort(-p, kind="stable")
    p, y = p[order], y[order]
    tp, fp = np.cumsum(y), np.cumsum(1 - y)
    positives, negatives = tp[-1], fp[-1]
    value = tp / positives - fp / negatives if by == "balanced_accuracy" else 2 * tp / (positives + tp + fp)
    value[np.append(p[1:] == p[:-1], False)] = -np.inf  # equal probabilities get equal labels
    best = int(np.argmax(value))
    return float((p[best] + p[best + 1]) / 2) if best + 1 < len(p) else float(p[best] / 2)


def last_layer(model: Any) -> nn.Linear:
    """The linear layer that gives the five logits."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == len(TRAITS)]
    if len(layers) != 1:
        raise ValueError(f"{type(model).__name__} has {len(layers)} linear layers of {len(TRAITS)} outputs, expected 1")
    return layers[0]
