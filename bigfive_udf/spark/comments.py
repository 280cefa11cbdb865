"""What a reader of the score columns is told of each: what it is, its range, the threshold, and whether to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bigfive_udf.model.artifact import Artifact
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


def probability_fields(artifact: Artifact) -> tuple[Field, ...]:
    """The probability columns, with what the artifact's evaluation says of each trait."""
    return tuple(_with_evidence(f, artifact, trait) for trait, f in zip(TRAITS, PROBABILITY_FIELDS, strict=True))


def label_fields(artifact: Artifact, thresholds: Mapping[str, float | None]) -> tuple[Field, ...]:
    """The label columns, with the threshold that is in force."""
    return tuple(
        _with_evidence(_with_threshold(f, trait, thresholds[trait]), artifact, trait)
        for trait, f in zip(TRAITS, LABEL_FIELDS, strict=True)
    )


def score_fields(artifact: Artifact, thresholds: Mapping[str, float | None]) -> tuple[Field, ...]:
    """All score columns of the table, in its order."""
    return (
        *probability_fields(artifact),
        *label_fields(artifact, thresholds),
        *TEXT_FIELDS,
        *MODEL_FIELDS,
        *RUN_FIELDS,
    )


def _with_threshold(field: Field, trait: str, threshold: float | None) -> Field:
    if threshold is None:
        return replace(field, comment="always null: labels.require_evidence keeps it back")
    return replace(field, comment=f"predicted label: {probability_column(trait)} >= {threshold!r}")


def _with_evidence(field: Field, artifact: Artifact, trait: str) -> Field:
    if trait in artifact.silent_traits:
        return replace(field, comment=f"always null: the model was trained without labels of {trait}")
    if artifact.better_than_chance(trait) is not False:
        return field
    return replace(field, comment=f"{field.comment}; by its evaluation NO better than chance")
