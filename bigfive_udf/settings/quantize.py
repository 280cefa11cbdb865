"""Settings of the quantize job."""

from __future__ import annotations

from pydantic import Field

from bigfive_udf.settings.labelled import TextTableSettings
from bigfive_udf.settings.section import PATH, Section, Share


class QuantizedModelSettings(Section):
    path: str = Field(description="artifact to make another one of: a directory", json_schema_extra=PATH)


class SampleSettings(TextTableSettings):
    path: str = Field(
        description="some thousand texts like those that will be scored, without labels: a file, or a directory of "
        "Parquet files; it is read whole",
        json_schema_extra=PATH,
    )
    documents: int = Field(
        2000, ge=100, description="how many of them; half are calibrated on, the other half measured"
    )
    seed: int = Field(0, ge=0, description="of the choice of texts")


class Int8Settings(Section):
    exact_columns: int = Field(
        16, ge=0, le=64, description="inputs of each product, those with the largest values, that stay exact"
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
        description="share of labels that may turn over, by the upper end of what the measured half allows: 0, 1, 2, 4 "
        "and so on up to half of the products stay in fp32 until that is so",
    )
    output: QuantizeOutputSettings
