"""Settings of a labelled table, which the train and evaluate jobs read: texts with the traits of their authors."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from bigfive_udf.settings.section import PATH, Section, by_trait

Cut = float | Literal["median"]


class TextTableSettings(Section):
    """A table of texts, with or without other columns."""

    path: str = Field(description="table of texts: a file, or a directory of Parquet files", json_schema_extra=PATH)
    format: Literal["csv", "parquet", "json"] | None = Field(
        None, description="csv (with a header), parquet or json (one object a line); null: by the ending of the name"
    )
    encoding: Literal["utf-8", "latin-1", "cp1252"] = Field("utf-8", description="encoding of a csv or json file")
    separator: str = Field(",", description="the character between the values of a csv file; \\t: a tab")
    text_column: str = Field("text", description="column of the texts")

    @field_validator("separator")
    @classmethod
    def _one_character(cls, value: str) -> str:
        value = "\t" if value == r"\t" else value
        if len(value) != 1 or value in '\r\n"':
            raise ValueError(f"{value!r}; it must be one character, such as ';'")
        return value


class LabelledDataSettings(TextTableSettings):
    path: str = Field(description="labelled table: a file, or a directory of Parquet files", json_schema_extra=PATH)
    author_column: str | None = Field(None, description="column that names the author of a text; null: there is none")
    label_columns: dict[str, str] = Field(
        {},
        description="column of each trait's label, such as {openness: cOPN}; empty: the column named like the trait, "
        "else like its letter (E, N, A, C, O)",
    )
    cut: Cut | dict[str, Cut] | None = Field(
        None,
        description="for labels that are scores: the score from which a trait counts as high, or median "
        "(over the training authors); one value for all traits, or one per trait",
    )

    @field_validator("label_columns")
    @classmethod
    def _columns_by_trait(cls, value: dict[str, str]) -> dict[str, str]:
        return by_trait(value)

    @field_validator("cut", mode="before")
    @classmethod
    def _cuts_by_trait(cls, value: Any) -> Any:
        given = by_trait(value) if isinstance(value, dict) else value
        for cut in given.values() if isinstance(given, dict) else [given]:
            number = isinstance(cut, (int, float)) and not isinstance(cut, bool) and math.isfinite(cut)
            if not number and cut not in (None, "median"):
                raise ValueError(f"{cut!r}; it must be a number or median, or a map of traits to these")
        return given

    @model_validator(mode="after")
    def _one_meaning_each(self) -> LabelledDataSettings:
        seen = {self.text_column: "data.text_column"}
        named = [("data.author_column", self.author_column)]
        named += [(f"data.label_columns.{trait}", column) for trait, column in self.label_columns.items()]
        for key, column in named:
            if column is not None and column in seen:
                raise ValueError(f"{key}: {column!r} is also {seen[column]}; a column has one meaning")
            if column is not None:
                seen[column] = key
        return self

    def cut_of(self, trait: str) -> Cut | None:
        """The cut of one trait, set for all traits or for this one; None: its labels are no scores."""
        return self.cut.get(trait) if isinstance(self.cut, dict) else self.cut
