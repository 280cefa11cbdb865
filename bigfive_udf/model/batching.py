"""Windows of a document, batches bounded in padded tokens, and the way back to one value per document.

Imports neither torch nor pyspark. Everything here is about counts of tokens; the tokens themselves stay where they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BATCH_OVERHEAD = 1 / 32
"""Fixed cost of a batch as a share of the tokens of a full one: its calls, and reading the weights (measured)."""
_MULTIPLE = 32
"""Rows of two tiles of AMX."""


def filled(rows: int) -> int:
    """Rows that oneDNN's products compute for `rows`: the next multiple of 32, so that few different numbers occur."""
    return -(-rows // _MULTIPLE) * _MULTIPLE


@dataclass(frozen=True)
class WindowRule:
    """How to cut a document that has more tokens than the model takes.

    `capacity` is the most text tokens in a window (special tokens not counted), `overlap` the tokens that two
    neighbouring windows share, `max_windows` the most windows of one document (None: no limit). With `max_windows=1`
    a long document is truncated.
    """

    capacity: int
    overlap: int = 0
    max_windows: int | None = None

    def __post_init__(self) -> None:
        if self.capacity < 1 or not 0 <= self.overlap < self.capacity:
            raise ValueError(f"a window of {self.capacity} tokens can't overlap by {self.overlap}")
        if self.max_windows is not None and self.max_windows < 1:
            raise ValueError(f"max_windows must be at least 1, not {self.max_windows}")


def split_windows(n_tokens: int, rule: WindowRule) -> tuple[list[tuple[int, int]], bool]:
    """Cut `n_tokens` tokens into windows; return their (start, stop) and whether tokens were left out at the end.

    The windows are as few as possible and of even size, so that no document ends in a stub of three tokens that the
    model reads without context: 520 tokens at a capacity of 510 become 260 + 260.

    >>> split_windows(520, WindowRule(capacity=510))
    ([(0, 260), (260, 520)], False)
    >>> split_windows(520, WindowRule(capacity=510, max_windows=1))
    ([(0, 510)], True)
    """
    if n_tokens <= rule.capacity:  # almost all texts
        return ([(0, n_tokens)] if n_tokens > 0 else []), False
    step = rule.capacity - rule.overlap
    count = 1 - (rule.capacity - n_tokens) // step
    truncated = rule.max_windows is not None and count > rule.max_windows
    if truncated:
        count = rule.max_windows  # type: ignore[assignment]
        n_tokens = rule.capacity + (count - 1) * step
    # Window i starts at i * (n - overlap) / count: starts and sizes differ by at most one token.
    starts = [i * (n_tokens - rule.overlap) // count for i in range(count + 1)]
    return [(starts[i], starts[i + 1] + rule.overlap) for i in range(count)], truncated


def plan_batches(
    lengths: np.ndarray, max_batch_tokens: int, computed: Callable[[int], int] = filled
) -> list[np.ndarray]:
    """Group windows into batches of at most `max_batch_tokens` padded tokens, longest first.

    `lengths` are the windows' tokens, special tokens counted, shape (n_windows,). Returns arrays of indices into
    `lengths`; every window is in exactly one batch, and the windows of a batch are ordered longest first. A batch of r
    windows holds r times the tokens of its longest window; `computed` turns this number into the tokens that the device
    computes. A window that alone is over the bound gets a batch to itself.

    Windows of one length fill batches without padding. The rest of each length, less than a batch, is merged with the
    next shorter lengths where the padding costs less than one more batch.

    >>> [batch.tolist() for batch in plan_batches(np.array([10, 500, 9, 10]), 512)]
    [[1], [0, 3, 2]]
    """
    order = np.argsort(-lengths, kind="stable")
    batches: list[np.ndarray] = []
    rest: list[np.ndarray] = []
    for same in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1) if len(order) else ():
        rows = max(1, max_batch_tokens // max(1, int(lengths[same[0]])))
        if len(same) > rows:
            rows = _rows(int(lengths[same[0]]), rows, max_batch_tokens, computed)
        *full, left = np.split(same, range(rows, len(same) + 1, rows))
        batches += full
        rest += [left] if len(left) else []
    batches += _cheapest(rest, [int(lengths[left[0]]) for left in rest], max_batch_tokens, computed)
    # Longest first, because memory is then claimed at its peak once.
    return sorted(batches, key=lambda batch: -int(lengths[batch[0]]))


def _rows(length: int, most: int, max_batch_tokens: int, computed: Callable[[int], int]) -> int:
    """How many windows of one length a full batch gets: the number up to `most` with the least cost per window."""
    for_a_batch = max_batch_tokens * BATCH_OVERHEAD
    numbers = range(most, most * 3 // 4, -1)
    return min(numbers, key=lambda rows: (computed(rows * length) + for_a_batch) / rows)


def _cheapest(
    groups: list[np.ndarray], lengths: list[int], max_batch_tokens: int, computed: Callable[[int], int]
) -> list[np.ndarray]:
    """Merge neighbouring groups into batches at the least cost: padded tokens, plus a fixed cost per batch.

    Each group fits in a batch, and `lengths` decrease. Shortest path over the groups, from the last to the first.
    """
    for_a_batch = max_batch_tokens * BATCH_OVERHEAD
    cost, stop = [0.0] * (len(groups) + 1), [0] * len(groups)
    for i in reversed(range(len(groups))):
        rows, cost[i] = 0, math.inf
        for j in range(i, len(groups)):
            rows += len(groups[j])
            if j > i and rows * lengths[i] > max_batch_tokens:
                break
            total = computed(rows * lengths[i]) + for_a_batch + cost[j + 1]
            if total < cost[i]:
                cost[i], stop[i] = total, j + 1
    batches, i = [], 0
    while i < len(groups):
        batches.append(np.concatenate(groups[i : stop[i]]))
        i = stop[i]
    return batches


def plan_packed_batches(lengths: np.ndarray, max_batch_tokens: int) -> list[np.ndarray]:
    """Group windows laid end to end like `plan_batches`, but without padding: a batch costs the sum of its windows."""
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    batches, at = [], 0
    while at < len(order):
        before = int(ends[at - 1]) if at else 0
        stop = max(at + 1, int(np.searchsorted(ends, before + max_batch_tokens, side="right")))
        batches.append(order[at:stop])
        at = stop
    return batches


def mean_by_document(values: np.ndarray, document: np.ndarray, weights: np.ndarray, n_documents: int) -> np.ndarray:
    """Average windows' values into documents, weighted: (n_windows, k) -> (n_documents, k) in float64.

    `document` says to which document each window belongs. A document without windows gets NaN. This is where the row
    order is restored: whatever order the batches ran in, row i of the result is document i.
    """
    total = np.bincount(document, weights=weights, minlength=n_documents)
    sums = (
        np.stack(
            [
                np.bincount(document, weights=weights * column, minlength=n_documents)
                for column in values.T.astype(float)
            ],
            axis=1,
        )
        if len(values)
        else np.zeros((n_documents, values.shape[1]))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums / total[:, None]
