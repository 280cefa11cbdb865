"""Whether a model is better than chance for a trait, by its evaluation, and the words for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BETTER, NOT_BETTER, UNKNOWN = "better than chance", "no better than chance", "not known"


def better_than_chance(measured: Mapping[str, Any]) -> bool | None:
    """The verdict on one trait, from its figures in evaluation.json; None where they allow none.

    A verdict corrected for the number of traits takes precedence. Where one of the two labels is missing or too rare,
    there is no verdict, though the flags are false.
    """
    if any(key in measured and measured[key] is None for key in ("roc_auc", "roc_auc_ci_corrected")):
        return None
    return measured.get("better_than_chance_corrected", measured.get("better_than_chance"))


def in_words(better: bool | None) -> str:
    return UNKNOWN if better is None else BETTER if better else NOT_BETTER
