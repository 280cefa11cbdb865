"""The comments on the score columns: what each one is, its range, the threshold, and whether to trust it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bigfive_udf.model.evidence import Evidence
from bigfive_udf.traits import (
    LABEL_FIELDS,
    MODEL_FIELDS,
    PROBABILITY_FIELDS,
    RUN_FIELDS,
    TEXT_FIELDS,
    TRAITS,
    Field,
    probability_column,
)

Thresholds = Mapping[str, float | None]


def probability_fields(models: Sequence[Evidence]) -> tuple[Field, ...]:
    """The probability columns, with what is known of the models that wrote them."""
    return tuple(_with_evidence(f, models, trait) for trait, f in zip(TRAITS, PROBABILITY_FIELDS, strict=True))


def label_fields(models: Sequence[Evidence], thresholds: Sequence[Thresholds]) -> tuple[Field, ...]:
    """The label columns, with the thresholds that their labels were made with."""
    return tuple(
        _with_evidence(_with_threshold(f, trait, {t[trait] for t in thresholds if trait in t}), models, trait)
        for trait, f in zip(TRAITS, LABEL_FIELDS, strict=True)
    )


def score_fields(models: Sequence[Evidence], thresholds: Sequence[Thresholds]) -> tuple[Field, ...]:
    """All score columns of the table, in its order."""
    return (
        *probability_fields(models),
        *label_fields(models, thresholds),
        *TEXT_FIELDS,
        *MODEL_FIELDS,
        *RUN_FIELDS,
    )


def _with_threshold(field: Field, trait: str, thresholds: set[float | None]) -> Field:
    known = sorted(t for t in thresholds if t is not None)
    if not thresholds:
        return field
    if not known:
        return replace(field, comment="always null: labels.require_evidence keeps it back")
    said = f"predicted label: {probability_column(trait)} >= "
    if len(thresholds) == 1:
        return replace(field, comment=f"{said}{known[0]!r}")
    low, high = known[0], known[-1]
    which = f"a threshold that differs by partition, {low!r} to {high!r}" if low != high else repr(low)
    kept_back = "; null where labels.require_evidence kept it back" if None in thresholds else ""
    return replace(field, comment=f"{said}{which}{kept_back}")


def _with_evidence(field: Field, models: Sequence[Evidence], trait: str) -> Field:
    """A trait's column, with warnings in its comment; of several models, a warning names those it is about."""
    said = field.comment
    if silent := [m for m in models if trait in m.silent]:
        if len(silent) == len(models):
            return replace(field, comment=f"always null: the model was trained without labels of {trait}")
        said += f"; null by {_named(silent)}, trained without labels of it"
    if useless := [m for m in models if m not in silent and m.better.get(trait) is False]:
        of_whom = "its evaluation" if len(models) == 1 else f"the evaluation of {_named(useless)}"
        said += f"; by {of_whom} NO better than chance"
    evaluated = [m for m in models if m not in silent and m.split is not None]
    if evaluated and all(m.better.get(trait) is None for m in evaluated):
        said += "; not known whether better than chance"
    return replace(field, comment=said)


def _named(models: Sequence[Evidence]) -> str:
    return f"{'models' if len(models) > 1 else 'model'} {_some(m.model_id for m in models)}"


def _some(words: Iterable[str], most: int = 3) -> str:
    """The first `most` words in one line, because a comment in a metastore may have at most 256 characters."""
    found = list(words)
    return ", ".join(found[:most]) + (f" and {len(found) - most} others" if len(found) > most else "")
