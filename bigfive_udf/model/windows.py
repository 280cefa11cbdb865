"""The windows of one call's texts: their tokens, the text that each belongs to, and the token ids of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bigfive_udf.model.batching import WindowRule, split_windows


@dataclass(frozen=True)
class Windows:
    """Windows in the order of their texts.

    Held as arrays, so that no Python code runs for each token: beside a GPU, Python's time is needed to feed it.
    """

    ids: np.ndarray
    """(tokens,) token ids of all windows, one window after the other, special tokens included"""
    lengths: np.ndarray
    """(windows,) number of token ids of each window"""
    document: np.ndarray
    """(windows,) number of the text that each window belongs to"""
    weight: np.ndarray
    """(windows,) text tokens of each window, special tokens not counted"""
    truncated: list[int]
    """numbers of the texts that have more tokens than their windows hold"""

    @classmethod
    def cut(
        cls, texts: Iterable[tuple[int, Sequence[int]]], rule: WindowRule, prefix: list[int], suffix: list[int]
    ) -> Windows:
        """Cut texts, given as (number, token ids), into windows, each between the special tokens."""
        ids: list[int] = []
        document: list[int] = []
        weight: list[int] = []
        truncated: list[int] = []
        for i, tokens in texts:
            spans, too_long = split_windows(len(tokens), rule)
            if too_long:
                truncated.append(i)
            for start, stop in spans:
                ids += prefix
                ids += tokens if len(spans) == 1 and not too_long else tokens[start:stop]
                ids += suffix
                document.append(i)
                weight.append(stop - start)
        weights = np.array(weight, np.int64)
        lengths = weights + len(prefix) + len(suffix)
        return cls(np.array(ids, np.int32), lengths, np.array(document, np.int64), weights, truncated)

    @cached_property
    def _starts(self) -> np.ndarray:
        starts: np.ndarray = self.lengths.cumsum() - self.lengths
        return starts

    def __len__(self) -> int:
        return len(self.lengths)

    def end_to_end(self, batch: np.ndarray) -> np.ndarray:
        """Token ids of the windows of a batch, one after the other: (tokens,)."""
        lengths = self.lengths[batch]
        place = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)
        return self.ids[np.repeat(self._starts[batch], lengths) + place].astype(np.int64)

    def padded(self, batch: np.ndarray, pad: int) -> np.ndarray:
        """Token ids of the windows of a batch, each filled up with `pad` to the longest: (rows, longest)."""
        lengths = self.lengths[batch]
        ids = np.full((len(batch), int(lengths.max())), pad, dtype=np.int64)
        ids[np.arange(ids.shape[1]) < lengths[:, None]] = self.end_to_end(batch)
        return ids
