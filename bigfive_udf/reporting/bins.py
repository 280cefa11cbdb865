"""The bins for counting probabilities: hundredths, and finer ones at both ends, where all texts of a rare trait lie."""

from __future__ import annotations

import numpy as np

TAIL = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005)
"""edges below the first hundredth; above the last one they are mirrored"""
EDGES = np.array([*TAIL, *(i / 100 for i in range(1, 100)), *(1 - edge for edge in reversed(TAIL))])
"""A bin includes its lower edge and excludes its upper edge."""
BINS = len(EDGES) + 1
DRAWN = 20
"""bins of a chart, each a twentieth wide"""

_BOUNDS = np.concatenate([[0.0], EDGES, [1.0]])
_DRAWN_EDGES = np.searchsorted(EDGES, [i / DRAWN for i in range(1, DRAWN)], side="left") + 1


def counted(probabilities: np.ndarray) -> np.ndarray:
    """(n,) probabilities, NaN where there is none -> (BINS,) how many lie in each bin."""
    known = probabilities[~np.isnan(probabilities)]
    return np.bincount(np.searchsorted(EDGES, known, side="right"), minlength=BINS)


def drawn(counts: np.ndarray) -> np.ndarray:
    """(BINS,) counts -> (DRAWN,) counts of the bins of a chart."""
    return np.array([part.sum() for part in np.split(counts, _DRAWN_EDGES)])


def cumulative(counts: np.ndarray) -> np.ndarray:
    """(..., BINS) counts -> (..., BINS) the share of all that lies in a bin or below it; 0 where there is nothing."""
    total = counts.sum(-1, keepdims=True)
    return np.cumsum(counts, -1) / np.where(total > 0, total, 1)


def quantiles(counts: np.ndarray, shares: tuple[float, ...]) -> list[float | None]:
    """The probability below which each of `shares` (0 to 1) of (BINS,) counts lies, to within a bin; None if empty."""
    total = counts.sum()
    if total == 0:
        return [None] * len(shares)
    below = np.concatenate([[0], np.cumsum(counts)])
    found: list[float | None] = []
    for share in shares:
        at = int(np.searchsorted(below, share * total, side="right")) - 1
        inside = (share * total - below[at]) / counts[at]
        found.append(float(_BOUNDS[at] + inside * (_BOUNDS[at + 1] - _BOUNDS[at])))
    return found
