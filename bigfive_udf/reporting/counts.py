"""What was counted in the rows of a table: all that a report says of texts and scores comes from these arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bigfive_udf.reporting.drift import Side

LENGTHS = (0, 1, 8, 16, 32, 64, 128, 256, 512, 1024)
"""tokens from which a class of text lengths begins"""
GROUPS, LEAST_GROUPS, MOST_CELLS = 256, 64, 100_000
"""groups of authors that drift is judged by; fewer where there are many partitions"""


def groups_for(partitions: int) -> int:
    """How many groups authors are put into, so that partitions times groups stays a number that fits anywhere."""
    return int(min(GROUPS, max(LEAST_GROUPS, MOST_CELLS // max(1, partitions))))


@dataclass(frozen=True)
class Counts:
    """P partitions, G groups of authors (one where nothing is known of authors); traits in their order."""

    documents: np.ndarray
    """(P,)"""
    statuses: np.ndarray
    """(P, 3) in the order of `traits.STATUSES`"""
    truncated: np.ndarray
    """(P,)"""
    tokens: np.ndarray
    """(P,) of all texts together"""
    longest: np.ndarray
    """(P,) tokens of the longest text"""
    windows: np.ndarray
    """(P,)"""
    lengths: np.ndarray
    """(P, len(LENGTHS)) texts by length"""
    labels: np.ndarray
    """(P, 5) texts with a label"""
    positive: np.ndarray
    """(P, 5) of these, with a true one"""
    sums: np.ndarray
    """(P, G, 5) sums of probabilities"""
    scores: np.ndarray
    """(P, G, 5) how many they are"""
    bins: np.ndarray
    """(P, 5, BINS) probabilities by bin"""
    by_group: np.ndarray
    """(2, G, 5, BINS) the same by group of authors, of the reference and of the current side"""
    reasons: tuple[tuple[str, str, int], ...] = field(default=())
    """status, reason and number of texts, the most frequent first"""

    def side(self, number: int, partitions: np.ndarray) -> Side:
        """One side of the comparison: 0 the reference, 1 the current one; `partitions` (P,) is true for its own."""
        return Side(self.by_group[number], self.bins[partitions], self.sums[partitions], self.scores[partitions])
