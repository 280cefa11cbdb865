"""Options and results of scoring; nothing here computes, so this module needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd

from bigfive_udf.traits import PROBABILITY_FIELDS, UDF_FIELDS

AUTO, SHARED, OWN = "auto", "shared", "own"
"""Where the weights of the products lie. shared: once per machine; own: in each worker, laid out for its processor;
auto: own unless they are large."""


@dataclass(frozen=True)
class ScoringOptions:
    """What the settings say about scoring a text; small, frozen, travels to every worker.

    `max_length` counts special tokens, as transformers does. `max_batch_tokens` None: what suits the device.
    """

    max_length: int
    window_overlap: int = 0
    max_windows: int | None = None
    max_batch_tokens: int | None = None
    weights: str = AUTO


@dataclass
class Effort:
    """What scoring took, to be added up over batches, workers and tasks."""

    repeats: int = 0
    """texts that took the scores of an equal text in the same call"""
    tokens: int = 0
    """tokens that the model was given, special tokens counted"""
    padded_tokens: int = 0
    """tokens that were computed, padding counted"""
    windows: int = 0
    batches: int = 0
    tokenize_seconds: float = 0.0
    model_seconds: float = 0.0

    def __iadd__(self, other: Effort) -> Effort:
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))
        return self

    def __sub__(self, earlier: Effort) -> Effort:
        return Effort(**{f.name: getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)})

    @property
    def padding_share(self) -> float:
        """The share of the computed tokens that are padding."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else 0.0

    @property
    def worker_seconds(self) -> dict[str, float]:
        """Seconds by stage, added up over all workers."""
        return {"tokenize": round(self.tokenize_seconds, 3), "model": round(self.model_seconds, 3)}


@dataclass(frozen=True)
class Scores:
    """One entry per text, in the order of the texts."""

    probabilities: np.ndarray
    """(n, 5) float32; NaN where the text was not scored, or the model knows nothing of the trait"""
    logits: np.ndarray
    """(n, 5) float64, the values before the sigmoid; NaN where the text was not scored"""
    n_tokens: np.ndarray
    """(n,) int32; -1 where the text could not be tokenized"""
    n_windows: np.ndarray
    truncated: np.ndarray
    status: np.ndarray
    status_reason: np.ndarray
    effort: Effort = field(default_factory=Effort)

    def to_frame(self) -> pd.DataFrame:
        """The columns of `UDF_FIELDS`, null where there is no value."""
        columns: dict[str, Any] = {f.name: self.probabilities[:, i] for i, f in enumerate(PROBABILITY_FIELDS)}
        columns["n_tokens"] = pd.Series(self.n_tokens, dtype="Int32").mask(self.n_tokens < 0)
        columns |= {name: getattr(self, name) for name in ("n_windows", "truncated", "status", "status_reason")}
        return pd.DataFrame(columns, columns=[f.name for f in UDF_FIELDS], copy=False)

    def at(self, rows: np.ndarray) -> Scores:
        """The entries at the given places, which may repeat; the effort stays that of the whole."""
        arrays = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "effort"}
        return Scores(**arrays, effort=self.effort)
