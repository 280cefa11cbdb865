"""How far the scores of a reduced precision are from those in fp32, and how many labels flip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bigfive_udf.traits import TRAITS


@dataclass(frozen=True)
class Fidelity:
    """How far the scores of some documents are from those in fp32."""

    precision: str
    documents: int
    labels: int
    """labels compared, of all traits together: with a threshold and both probabilities, or with only one probability"""
    label_flips: float
    """share of the labels, of all traits together, that differ"""
    p99_difference: float
    """99th percentile of the differences of the probabilities"""
    max_difference: float


def compare(
    reduced: npt.NDArray[np.floating],
    exact: npt.NDArray[np.floating],
    thresholds: Mapping[str, float | None],
    precision: str,
) -> Fidelity:
    """Compare probabilities, both (documents, 5), NaN where there is none; a trait without threshold has no label."""
    both = np.isfinite(reduced) & np.isfinite(exact)
    limits = np.array([np.nan if (limit := thresholds[t]) is None else limit for t in TRAITS])
    labelled = both & np.isfinite(limits)
    flips = ((reduced >= limits) != (exact >= limits))[labelled]
    # A row that only one of the two could score is as wrong as can be.
    one_sided = np.isfinite(reduced) != np.isfinite(exact)
    differences = np.concatenate([np.abs(reduced - exact)[both], np.ones(int(one_sided.sum()))])
    n_flips, n_labels = int(flips.sum() + one_sided.sum()), len(flips) + int(one_sided.sum())
    return Fidelity(
        precision,
        documents=int((both | one_sided).any(axis=1).sum()),
        labels=n_labels,
        label_flips=n_flips / n_labels if n_labels else 0.0,
        p99_difference=float(np.quantile(differences, 0.99)) if len(differences) else 0.0,
        max_difference=float(differences.max(initial=0.0)),
    )
