"""The five traits, their order, and the columns of the score table: the only place they are decided."""

from __future__ import annotations

from dataclasses import dataclass

TRAITS = ("extraversion", "neuroticism", "agreeableness", "conscientiousness", "openness")
"""The order of the traits everywhere: in tensors, columns, files and messages."""

LETTERS = {trait[0].upper(): trait for trait in TRAITS}
"""E, N, A, C, O: the usual abbreviations."""

SCORED, EMPTY, FAILED = "scored", "empty", "failed"
STATUSES = (SCORED, EMPTY, FAILED)
"""What can become of a row: it has scores, it has no text to score, or it could not be scored."""


@dataclass(frozen=True)
class Field:
    """A column: its name, its Spark SQL type, and what a reader of the table should know about it."""

    name: str
    sql_type: str
    comment: str


def probability_column(trait: str) -> str:
    return f"prob_{trait}"


def label_column(trait: str) -> str:
    return f"label_{trait}"


PROBABILITY_FIELDS = tuple(
    Field(probability_column(trait), "float", f"probability of high {trait}, 0 to 1; null unless status is scored")
    for trait in TRAITS
)
LABEL_FIELDS = tuple(
    Field(label_column(trait), "boolean", f"predicted label: {probability_column(trait)} >= threshold")
    for trait in TRAITS
)
TEXT_FIELDS = (
    Field("n_tokens", "int", "tokens in the whole text, special tokens not counted"),
    Field("n_windows", "int", "stretches of the text that were scored"),
    Field("truncated", "boolean", "true where part of the text was left out"),
    Field("status", "string", "scored, empty (nothing to score) or failed"),
    Field("status_reason", "string", "why a row is empty or failed; null when scored"),
)
MODEL_FIELDS = (
    Field("model_id", "string", "first 12 hex digits of the model's digest"),
    Field("precision", "string", "precision of the arithmetic: fp32, bf16, fp16 or int8"),
)
RUN_FIELDS = (
    Field("run_id", "string", "the run that wrote the row; its record is in <output>.job/runs"),
    Field("scored_at", "timestamp", "start of that run, UTC"),
)

UDF_FIELDS = PROBABILITY_FIELDS + TEXT_FIELDS
"""What the model computes for a text, in the order of the UDF's struct."""

PREDICTION_FIELDS = PROBABILITY_FIELDS + LABEL_FIELDS + TEXT_FIELDS + MODEL_FIELDS
"""What `score_dataframe` and `predict` return for a text."""

SCORE_FIELDS = PREDICTION_FIELDS + RUN_FIELDS
"""The score columns of the table, between the kept columns and the partition columns."""
