"""Settings of the quantize job."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bigfive_udf.settings.labelled import TextTableSettings
from bigfive_udf.settings.section import PATH, Section, Share


class QuantizedModelSettings(Section):
    path: str = Field(description="directory of the artifact to quantize", json_schema_extra=PATH)


class SampleSettings(TextTableSettings):
    path: str = Field(
        description="some thousand unlabelled texts like those that will be scored: a file, or a directory of Parquet "
        "files; it is read completely",
        json_schema_extra=PATH,
    )
    documents: int = Field(
        2000, ge=100, description="number of texts to use; half for calibration, the other half for measuring"
    )
    seed: int = Field(0, ge=0, description="random seed for choosing the texts")


class Int8Settings(Section):
    exact_columns: int = Field(
        16, ge=0, le=64, description="inputs of each matrix product that stay exact: those with the largest values"
    )
    activation_bits: Literal["auto", 7, 8] = Field(
        "auto",
        description="bits of the activations: 8 is more exact, and the model then runs only on processors with VNNI; "
        "auto: 8 where this processor has VNNI, else 7",
    )


class QuantizeOutputSettings(Section):
    path: str = Field(description="directory of the new model; must not exist", json_schema_extra=PATH)


class QuantizeSettings(Section):
    """Settings of the quantize job."""

    model: QuantizedModelSettings
    data: SampleSettings
    int8: Int8Settings = Int8Settings()
    max_label_flips: Share = Field(
        0.01,
        description="share of labels that may flip, by the upper confidence bound on the measured half; to stay below "
        "it, 0, 1, 2, 4 and so on up to half of the matrix products stay in fp32",
    )
    output: QuantizeOutputSettings
