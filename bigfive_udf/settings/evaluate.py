"""Settings of the evaluate job."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bigfive_udf.settings.labelled import LabelledDataSettings
from bigfive_udf.settings.section import PATH, PATH_OR_HUB, PATH_OR_NAME, Section
from bigfive_udf.settings.train import EvaluationSettings


class EvaluatedModelSettings(Section):
    path: str = Field(
        description="artifact or Hugging Face checkpoint: a directory, or a name on the hub",
        json_schema_extra=PATH_OR_HUB,
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute; auto: a GPU if there is one")
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        "fp32", description="precision in which the evaluated scores are computed"
    )
    activation: Literal["sigmoid"] | None = Field(
        None, description="sigmoid: accept a checkpoint that does not say how it was trained"
    )
    base: str | None = Field(
        None,
        description="encoder that --compare-splits starts from; null: the one that the artifact was trained from",
        json_schema_extra=PATH_OR_NAME,
    )


class EvaluatedDataSettings(LabelledDataSettings):
    seen: Literal["leave_out", "keep"] = Field(
        "leave_out",
        description="what to do with texts and authors that the model was trained on: leave_out, or keep (the "
        "evaluation then says so)",
    )


class EvaluateOutputSettings(Section):
    path: str | None = Field(
        None, description="JSON file for the evaluation; null: evaluation.json in the model's directory",
        json_schema_extra=PATH,
    )  # fmt: skip


class EvaluateSettings(Section):
    """Settings of the evaluate job."""

    model: EvaluatedModelSettings
    data: EvaluatedDataSettings
    evaluation: EvaluationSettings = EvaluationSettings()
    output: EvaluateOutputSettings = EvaluateOutputSettings()
