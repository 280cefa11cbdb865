"""Whether the probabilities of a trait have moved, judged by how much they vary anyway.

A significance test of texts is of no use here. Texts of one author are alike, so it raises a false alarm on every
third or fourth table, and with a hundred million texts everything is significant. What counts is how far apart two
stretches of this table lie although nothing has happened. Two things move them. Other authors write: this is imitated
by resampling whole authors. Days differ: this is imitated by giving both sides the deviations of other days.

Authors are resampled in a few hundred groups, by a hash of their names, so that a table of any size fits into memory.
Deviations of different authors are independent, so the deviations of groups add up to the same variance (the method of
random groups: Wolter, Introduction to Variance Estimation, chapter 2). The variance between the days of a side is
compared with the variance between them that resampled authors cause; only the rest is attributed to the days.

But: a drift that began before the reference, or comes and goes within a side, is not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bigfive_udf.reporting.bins import BINS, cumulative
from bigfive_udf.traits import TRAITS

NONE, SMALL, LARGE, UNKNOWN = "none", "small", "large", "not known"
FALSE_ALARMS = 0.01
"""share of reports that show a drift of some trait although nothing has happened"""
LEAST_DISTANCE = 0.05
"""KS distance below which a shift is too small to matter, however certain: an eighth of a standard deviation"""
LARGE_DISTANCE, LARGE_PSI = 0.2, 0.25
"""a drift that reaches one of these is large: about half a standard deviation"""
LEAST_GROUPS, LEAST_DAYS = 8, 3
"""fewest groups of authors, and partitions beyond the first of each side: with fewer, their spread says nothing"""
_RESAMPLES = 1000
_PSI_BINS = 10


@dataclass(frozen=True)
class Side:
    """The counted texts of one side, by group of authors and by day; a day is a partition."""

    by_group: np.ndarray
    """(groups, 5, BINS); one group if authors are unknown; the two sides have the same groups"""
    by_day: np.ndarray
    """(days, 5, BINS); no days if the texts have none"""
    sums: np.ndarray
    """(days, groups, 5) sums of the probabilities"""
    counts: np.ndarray
    """(days, groups, 5) numbers of probabilities"""
    effective: tuple[float, ...] | None = None
    """by trait, the effective number of independent texts; only for texts whose authors are not at hand"""

    @property
    def total(self) -> np.ndarray:
        """(5, BINS)"""
        return self.by_group.sum(0)


@dataclass(frozen=True)
class Drift:
    """How far one trait has moved. `ordinary` is how far it can move although nothing has happened."""

    grade: str
    distance: float | None = None
    """Kolmogorov-Smirnov distance: the largest difference of the two sides' shares below one probability"""
    psi: float | None = None
    """population stability index, over ten bins that hold a tenth of the reference each"""
    ordinary: float | None = None


@dataclass(frozen=True)
class Judgement:
    """The drift of every trait, and what it was judged by."""

    traits: dict[str, Drift]
    by_authors: bool
    by_days: bool


def judge(reference: Side, current: Side, seed: int = 0) -> Judgement:
    """Compare the two sides, all traits together: `FALSE_ALARMS` is the share with a false alarm for some trait."""
    rng = np.random.default_rng(seed)
    sides = (reference, current)
    weights = _weights(sides, rng)
    by_days = _days_beyond_one(sides) >= LEAST_DAYS
    judged = [i for i in range(len(TRAITS)) if all(side.total[i].any() for side in sides)]
    ordinary: list[float | None] = [None] * len(TRAITS)
    if weights is not None or by_days:
        distances = np.abs(_noise(sides, weights, by_days, rng)).max(-1)
        ordinary = _ordinary(distances, judged).tolist()
    found = {trait: Drift(UNKNOWN) for trait in TRAITS}
    for i in judged:
        distance = float(np.abs(cumulative(reference.total[i]) - cumulative(current.total[i])).max())
        psi = stability_index(reference.total[i], current.total[i])
        found[TRAITS[i]] = Drift(_grade(distance, psi, ordinary[i]), distance, psi, ordinary[i])
    return Judgement(found, weights is not None, by_days)


def worst(grades: Sequence[str]) -> str:
    """The worst of the known grades; `UNKNOWN` if none is known."""
    return next((grade for grade in (LARGE, SMALL, NONE) if grade in grades), UNKNOWN)


def stability_index(reference: np.ndarray, current: np.ndarray) -> float:
    """Population stability index of (BINS,) counts; a bin without texts counts as half a text."""
    below = cumulative(reference)
    cuts = np.unique(np.searchsorted(below, np.arange(1, _PSI_BINS) / _PSI_BINS - 1e-12) + 1)
    cuts = cuts[cuts < BINS]
    shares = []
    for counts in (reference, current):
        held = np.maximum([part.sum() for part in np.split(counts.astype(float), cuts)], 0.5)
        shares.append(held / held.sum())
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _grade(distance: float, psi: float, ordinary: float | None) -> str:
    if ordinary is None:
        return UNKNOWN
    if distance <= max(ordinary, LEAST_DISTANCE):
        return NONE
    return LARGE if distance >= LARGE_DISTANCE or psi >= LARGE_PSI else SMALL


def _noise(sides: tuple[Side, Side], weights: np.ndarray | None, by_days: bool, rng: np.random.Generator) -> np.ndarray:
    """(resamples, 5, BINS) changes of the difference between the sides although nothing has happened."""
    noise = np.zeros((_RESAMPLES, len(TRAITS), BINS))
    for side, sign in zip(sides, (1, -1), strict=True):
        if side.effective is not None:
            noise += sign * _of_single_texts(side, side.effective, rng)
        elif weights is not None:
            noise += sign * _of_authors(side, weights, rng)
    if by_days:
        own = np.ones(len(TRAITS)) if weights is None else _days_own_share(sides, weights)
        noise += np.sqrt(own)[:, None] * _of_days(sides, rng)
    return noise


def _days_beyond_one(sides: tuple[Side, Side]) -> int:
    """The days of both sides, less one for each side with days: the degrees of freedom of their deviations."""
    return sum(max(0, len(side.by_day) - 1) for side in sides)


def _weights(sides: tuple[Side, Side], rng: np.random.Generator) -> np.ndarray | None:
    """(resamples, groups) how often each group of authors is drawn; None where there are too few to tell."""
    n = sides[1].by_group.shape[0]
    worth = min(_worth(_sizes(side)) for side in sides if side.effective is None)
    if worth < LEAST_GROUPS:
        return None
    return rng.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES).astype(float)


def _sizes(side: Side) -> np.ndarray:
    """(groups,) number of probabilities of each group of authors, all traits together."""
    return side.by_group.sum((1, 2))


def _worth(sizes: np.ndarray) -> float:
    """The effective number of groups: how many groups of equal size these are worth (Kish)."""
    return float(sizes.sum() ** 2 / (sizes.astype(float) ** 2).sum()) if sizes.any() else 0.0


def _of_authors(side: Side, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(resamples, 5, BINS) changes of the side with other authors.

    Authors of both sides are drawn for both. The fewer groups hold most of the texts, the less is known of their
    spread, hence Student's t instead of the normal distribution.
    """
    drawn = (weights @ side.by_group.reshape(len(side.by_group), -1)).reshape(len(weights), *side.total.shape)
    return (cumulative(drawn) - cumulative(side.total)) * _student(_worth(_sizes(side)) - 1, len(weights), rng)


def _of_single_texts(side: Side, effective: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
    """(resamples, 5, BINS) changes of a side of which only the effective number of independent texts is known."""
    parts = []
    for counts, worth in zip(side.total, effective, strict=True):
        n, share = max(1, round(worth)), counts / max(1, counts.sum())
        drawn = rng.multinomial(n, share, size=_RESAMPLES) if counts.any() else np.zeros((_RESAMPLES, BINS))
        parts.append(np.cumsum(drawn, -1) / n - np.cumsum(share))
    return np.stack(parts, 1)


def _days_own_share(sides: tuple[Side, Side], weights: np.ndarray) -> np.ndarray:
    """(5,) share of the variance between the mean probabilities of a side's days that its authors do not explain."""
    seen, explained = np.zeros(len(TRAITS)), np.zeros(len(TRAITS))
    for side in sides:
        days = len(side.counts)
        if days < 2:
            continue
        size = side.counts.sum(1)
        apart = _apart(side.sums.sum(1), size)
        drawn = [
            np.einsum("rg,dgt->rdt", weights, values, optimize=True).reshape(len(weights), days, len(TRAITS))
            for values in (side.sums, side.counts.astype(float))
        ]
        seen += (size * apart**2).sum(0)
        explained += (size * (_apart(*drawn) - apart) ** 2).sum(1).mean(0)
    return np.clip(1 - explained / np.where(seen > 0, seen, 1), 0, 1)


def _apart(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(..., days, 5) each day's mean less the mean of all days."""
    means = sums / np.maximum(counts, 1e-9)
    whole = sums.sum(-2, keepdims=True) / np.maximum(counts.sum(-2, keepdims=True), 1e-9)
    return np.where(counts > 0, means - whole, 0.0)


def _of_days(sides: tuple[Side, Side], rng: np.random.Generator) -> np.ndarray:
    """(resamples, 5, BINS) changes of the difference between the sides with other days.

    Each day of either side gets the deviation of a day drawn from both sides, with a random sign.
    """
    pool, shares = [], []
    for side in sides:
        days = len(side.by_day)
        size = side.by_day.sum((1, 2)).astype(float)
        shares.append(size / max(size.sum(), 1.0))
        if days > 1:
            apart = cumulative(side.by_day) - cumulative(side.by_day.sum(0))
            pool.append(apart * np.sqrt(days / (days - 1)))
    deviations = np.concatenate(pool).reshape(sum(map(len, pool)), -1)
    taken = np.zeros((_RESAMPLES, len(deviations)))
    for share in shares:
        rows = np.repeat(np.arange(_RESAMPLES), len(share))
        which = rng.integers(len(deviations), size=len(rows))
        np.add.at(taken, (rows, which), np.tile(share, _RESAMPLES) * rng.choice((-1.0, 1.0), size=len(rows)))
    noise = (taken @ deviations).reshape(_RESAMPLES, len(TRAITS), BINS)
    return noise * _student(_days_beyond_one(sides), _RESAMPLES, rng)


def _student(freedom: float, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(resamples, 1, 1) factors that turn a normal deviation into one of Student's t."""
    return np.sqrt(freedom / rng.chisquare(freedom, size=resamples))[:, None, None]


def _ordinary(distances: np.ndarray, judged: Sequence[int]) -> np.ndarray:
    """(resamples, 5) -> (5,) limits: in `FALSE_ALARMS` of the resamples some trait's distance exceeds its limit."""
    scale = np.sqrt((distances**2).mean(0))
    if not len(judged):
        return scale
    highest = (distances[:, judged] / np.maximum(scale[list(judged)], 1e-12)).max(1)
    return scale * np.quantile(highest, 1 - FALSE_ALARMS)
