"""Rates without what a job costs once, such as starting workers and loading a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def marginal_rate(seconds: Callable[[Sequence[str]], float], small: Sequence[str], large: Sequence[str]) -> float:
    """Texts per second: the extra texts of a large job over a small one, by the extra seconds.

    The small job runs before and after the large one, so that a machine that gets slower meanwhile counts in both.
    """
    before, whole, after = (seconds(texts) for texts in (small, large, small))
    return (len(large) - len(small)) / (whole - (before + after) / 2)
