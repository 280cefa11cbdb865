"""The counts of a table's rows: everything that a report says about texts and scores comes from these arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bigfive_udf.reporting.drift import Side

LENGTHS = (0, 1, 8, 16, 32, 64, 128, 256, 512, 1024)
"""lower bounds of the classes of text lengths, in tokens"""
GROUPS, LEAST_GROUPS, MOST_CELLS = 256, 64, 100_000
"""groups of authors for judging drift; fewer where there are many partitions"""


def groups_for(partitions: int) -> int:
    """Number of groups of authors, chosen so that partitions times groups fits into any machine's memory."""
    return int(min(GROUPS, max(LEAST_GROUPS, MOST_CELLS // max(1, partitions))))


@dataclass(frozen=True)
class Counts:
    """Counts of P partitions and G groups of authors (one if authors are unknown); traits in the order of `TRAITS`."""

    documents: np.ndarray
    """(P,)"""
    statuses: np.ndarray
    """(P, 3) in the order of `traits.STATUSES`"""
    truncated: np.ndarray
    """(P,)"""
    tokens: np.ndarray
    """(P,) tokens of all texts together"""
    longest: np.ndarray
    """(P,) tokens of the longest text"""
    windows: np.ndarray
    """(P,)"""
    lengths: np.ndarray
    """(P, len(LENGTHS)) texts by length"""
    labels: np.ndarray
    """(P, 5) texts with a label"""
    positive: np.ndarray
    """(P, 5) texts with a label that is true"""
    sums: np.ndarray
    """(P, G, 5) sums of probabilities"""
    scores: np.ndarray
    """(P, G, 5) numbers of probabilities"""
    bins: np.ndarray
    """(P, 5, BINS) probabilities by bin"""
    by_group: np.ndarray
    """(2, G, 5, BINS) probabilities by group of authors and bin, of the reference and of the current side"""
    reasons: tuple[tuple[str, str, int], ...] = field(default=())
    """status, reason and number of texts, the most frequent first"""

    def side(self, number: int, partitions: np.ndarray) -> Side:
        """One side of the comparison, 0 the reference or 1 the current one; `partitions` holds partition indices."""
        return Side(self.by_group[number], self.bins[partitions], self.sums[partitions], self.scores[partitions])
