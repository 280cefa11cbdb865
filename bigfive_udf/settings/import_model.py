"""Settings of the import job."""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal

from pydantic import Field, field_validator, model_validator

from bigfive_udf.settings.section import PATH, PATH_OR_HUB, PATH_OR_NAME, Section, Share, by_trait
from bigfive_udf.traits import LETTERS, TRAITS

KERAS_ENDINGS = (".h5", ".hdf5", ".keras")


class SourceSettings(Section):
    path: str = Field(
        description="the model you have: a Hugging Face checkpoint (a directory, or a name on the hub), or a file "
        "that Keras saved",
        json_schema_extra=PATH_OR_HUB,
    )
    format: Literal["auto", "huggingface", "keras"] = Field(
        "auto", description="auto: keras where the name ends in .h5, .hdf5 or .keras, else huggingface"
    )
    base: str | None = Field(
        None,
        description="keras: the model that the encoder was loaded from, with its configuration and tokenizer; "
        "huggingface: the model that has the tokenizer, if the checkpoint has none; a directory, or a name on the hub",
        json_schema_extra=PATH_OR_NAME,
    )
    labels: list[str] | None = Field(
        None,
        description="traits of the model's outputs, in output order: five names, or letters such as [E, N, A, C, O]; "
        "null: as id2label in the checkpoint's config.json says; required for a Keras file, which does not say it",
    )
    activation: Literal["sigmoid"] | None = Field(
        None, description="sigmoid: accept a checkpoint that does not say how it was trained"
    )

    @field_validator("labels")
    @classmethod
    def _the_five_traits(cls, value: list[str] | None) -> list[str] | None:
        if value is None:
            return None
        named = [LETTERS.get(label.strip().upper(), label.strip().lower()) for label in value]
        if unknown := [label for label, name in zip(value, named, strict=True) if name not in TRAITS]:
            raise ValueError(f"{unknown[0]!r} is no trait; the traits are {', '.join(TRAITS)}")
        if sorted(named) != sorted(TRAITS):
            raise ValueError(f"names {', '.join(named) or 'nothing'}; it must name each of the five traits once")
        return named

    @model_validator(mode="after")
    def _keras_needs_more(self) -> SourceSettings:
        if self.kind == "keras":
            if self.base is None:
                raise ValueError(
                    "source.base is not set: a Keras file has neither the encoder's configuration nor its tokenizer; "
                    "set it to what TFDistilBertModel.from_pretrained was given, a directory or a name on the hub"
                )
            if self.labels is None:
                raise ValueError(
                    "source.labels is not set: a Keras file does not say which output is which trait; "
                    "name them in the order of the label columns that it was trained with, such as [E, N, A, C, O]"
                )
        return self

    @property
    def kind(self) -> str:
        """The format, huggingface or keras, with auto resolved."""
        if self.format != "auto":
            return self.format
        return "keras" if PurePath(self.path).suffix.lower() in KERAS_ENDINGS else "huggingface"


class ImportedModelSettings(Section):
    max_length: int | None = Field(
        None,
        ge=4,
        description="tokens per window, special tokens included, as in the model's training; null: the most that the "
        "model takes, up to 512",
    )
    languages: list[str] = Field([], description="languages of the training texts, such as [en]")


class ImportedLabelSettings(Section):
    thresholds: dict[str, Share] = Field(
        {}, description="probability from which a label is true, by trait; 0.5 for traits that are not named"
    )

    @field_validator("thresholds")
    @classmethod
    def _by_trait(cls, value: dict[str, float]) -> dict[str, float]:
        return by_trait(value)


class ImportOutputSettings(Section):
    path: str = Field(description="directory of the artifact, which must not exist", json_schema_extra=PATH)


class ImportSettings(Section):
    """Settings of the import job."""

    source: SourceSettings
    model: ImportedModelSettings = ImportedModelSettings()
    labels: ImportedLabelSettings = ImportedLabelSettings()
    output: ImportOutputSettings
