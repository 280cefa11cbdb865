"""Settings of the train job."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from bigfive_udf.settings.labelled import LabelledDataSettings
from bigfive_udf.settings.section import PATH, PATH_OR_NAME, Section, Share

PARTS = ("train", "validation", "test")


class TrainDataSettings(LabelledDataSettings):
    test_path: str | None = Field(
        None,
        description="another labelled table of the same form, used as the test part; null: data.path is split",
        json_schema_extra=PATH,
    )


class SplitSettings(Section):
    by: Literal["author", "random"] | None = Field(
        None, description="author: all texts of an author are in one part; null: author if there is an author column"
    )
    folds: int = Field(
        5, ge=0, description="folds, each with a model for out-of-fold predictions; 0: one split, see split.fractions"
    )
    fractions: dict[str, Share] = Field(
        {"train": 0.8, "validation": 0.1, "test": 0.1},
        description="share of each part if split.folds is 0; with folds only validation counts, for early stopping",
    )

    @field_validator("folds")
    @classmethod
    def _not_one(cls, value: int) -> int:
        if value == 1:
            raise ValueError("1 fold leaves nothing to train on; set 0 (one split) or at least 2")
        return value

    @field_validator("fractions")
    @classmethod
    def _whole(cls, value: dict[str, float]) -> dict[str, float]:
        if set(value) != set(PARTS):
            raise ValueError(f"names {', '.join(value) or 'nothing'}; give train, validation and test")
        if not math.isclose(sum(value.values()), 1, abs_tol=1e-6):
            raise ValueError(f"the parts add up to {sum(value.values()):g}; they must add up to 1")
        if value["train"] == 0 or value["validation"] == 0:
            raise ValueError("train and validation must be more than 0: calibration needs a part of its own")
        return value


class BaseModelSettings(Section):
    base: str = Field(
        description="encoder to start from: a name on the hub, a directory, or minilm (the extra demo)",
        json_schema_extra=PATH_OR_NAME,
    )
    head: Literal["linear", "mlp"] = Field("linear", description="linear, or mlp: hidden -> 256 -> 128 -> 5")
    pooling: Literal["cls", "mean"] = Field("cls", description="input of the head: the first token, or the mean")
    max_length: int = Field(256, ge=4, description="tokens of a text that training reads, special tokens included")
    languages: list[str] = Field([], description="languages of the texts, for the model card: [en]")


class TrainerSettings(Section):
    epochs: int = Field(3, ge=1, description="maximum number of passes over the training part")
    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate of the encoder; falls linearly to zero")
    head_rate_factor: float = Field(
        10.0, gt=0, description="factor on the learning rate for the head, which starts from random weights"
    )
    batch_size: int = Field(32, ge=1, description="texts per step and device")
    gradient_accumulation: int = Field(1, ge=1, description="steps whose gradients are added up before an update")
    warmup_share: Share = Field(0.1, description="share of all updates during which the learning rate rises")
    weight_decay: float = Field(0.01, ge=0, description="weight decay of AdamW, except for biases and norms")
    positive_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: for each trait, its positives weigh as much as its negatives"
    )
    frozen_layers: int | None = Field(
        None, ge=0, description="lowest layers to freeze, together with the embeddings; 0: embeddings only; null: none"
    )
    early_stopping: int | None = Field(
        None, ge=1, description="stop after so many epochs without a better validation ROC AUC; null: train all epochs"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="precision of the matrix products; weights stay fp32; auto: bf16 where the hardware has it"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute; auto: a GPU if there is one")
    seed: int = Field(0, ge=0, description="random seed of the split, of new weights and of the order of texts")
    seeds: int = Field(1, ge=1, description="trainings per fold, with seeds from train.seed on; the spread is reported")
    processes: int = Field(
        1,
        ge=1,
        description="processes that train together, by Spark's TorchDistributor; each takes batch_size texts per step",
    )
    trainer: dict[str, Any] = Field({}, description="further arguments of transformers' TrainingArguments")


class AfterTrainingSettings(Section):
    calibrate: bool = Field(
        True, description="fit slope and intercept per trait on held-out predictions, and fold them into the last layer"
    )
    thresholds: Literal["balanced_accuracy", "f1", "fixed"] = Field(
        "balanced_accuracy", description="metric that thresholds are optimized for, on held-out predictions; fixed: 0.5"
    )


class TrainOutputSettings(Section):
    path: str = Field(
        description="directory of the artifact, which must not exist; work in progress lies in PATH.job",
        json_schema_extra=PATH,
    )
    notes: str | None = Field(
        None,
        description="Markdown file for the model card that says where the data is from",
        json_schema_extra=PATH,
    )
    license: str | None = Field(None, description="licence of the model, for its card, such as apache-2.0")


class EvaluationSettings(Section):
    resamples: int = Field(1000, ge=100, description="bootstrap resamples of the authors for each interval")


class TrainSettings(Section):
    """Settings of the train job."""

    data: TrainDataSettings
    split: SplitSettings = SplitSettings()
    model: BaseModelSettings
    train: TrainerSettings = TrainerSettings()
    labels: AfterTrainingSettings = AfterTrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    output: TrainOutputSettings

    @model_validator(mode="after")
    def _split_fits(self) -> TrainSettings:
        if self.split.by == "author" and self.data.author_column is None:
            raise ValueError("split.by author: data.author_column is not set; set it, or split.by=random")
        if self.data.test_path is not None and self.split.folds == 0 and self.split.fractions["test"] > 0:
            raise ValueError(
                f"split.fractions.test {self.split.fractions['test']:g}: data.test_path is the test part; set it to 0"
            )
        return self

    @property
    def split_by(self) -> str:
        """author or random, with the default resolved."""
        return self.split.by or ("author" if self.data.author_column is not None else "random")
