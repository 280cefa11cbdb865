"""Settings of the report job."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from bigfive_udf.settings.section import PATH, PATH_OR_HUB, Section


class ReportedTableSettings(Section):
    path: str = Field(description="score table: output.path of the score job", json_schema_extra=PATH)
    author_column: str | None = Field(
        None, description="column of the authors, for judging drift; null: input.author_column of the last run"
    )


class ReportedPartitionsSettings(Section):
    run: str | None = Field(
        None, description="run_id: show only the partitions that this run has committed, and its record"
    )
    since: str | None = Field(
        None, description="first partition to show, such as dt=2026-11-16; null: decided by partitions.last"
    )
    until: str | None = Field(None, description="last partition to show; null: the last one of the table")
    last: int = Field(
        28, ge=1, le=366, description="maximum number of partitions on the page; of more, the last ones are shown"
    )

    @model_validator(mode="after")
    def _one_way(self) -> ReportedPartitionsSettings:
        if self.run is not None and (self.since is not None or self.until is not None):
            raise ValueError(f"partitions.run {self.run!r}: leave out partitions.since and partitions.until with it")
        return self


class ReferenceSettings(Section):
    kind: Literal["auto", "table", "artifact", "none"] = Field(
        "auto",
        description="what drift is judged against; table: a past stretch of the table; artifact: the artifact's "
        "held-out texts; none: nothing; auto: the partitions before those on the page, else the first half of the "
        "page's partitions, else the artifact",
    )
    since: str | None = Field(None, description="first partition of the past stretch; null: decided by reference.last")
    until: str | None = Field(
        None, description="last partition of the past stretch, may be on the page; null: the last one before the page"
    )
    last: int = Field(
        28, ge=1, le=1000, description="maximum number of partitions in the past stretch; of more, the last ones count"
    )

    @model_validator(mode="after")
    def _of_the_table(self) -> ReferenceSettings:
        for key in ("since", "until"):
            if getattr(self, key) is not None and self.kind in ("artifact", "none"):
                raise ValueError(
                    f"reference.{key} {getattr(self, key)!r}: only a past stretch of the table has partitions; set "
                    "reference.kind to table"
                )
        return self


class ReportedModelSettings(Section):
    path: str | None = Field(
        None, description="directory of the model, for its evaluation; null: the model of the last run",
        json_schema_extra=PATH_OR_HUB,
    )  # fmt: skip


class CostSettings(Section):
    per_core_hour: float | None = Field(
        None, ge=0, description="price of one core for one hour; null: no costs are shown"
    )
    currency: str = Field("EUR", description="currency of cost.per_core_hour")


class ReportOutputSettings(Section):
    path: str = Field(
        description="file for the page, such as report.html, on any file system; its numbers go beside it as .json",
        json_schema_extra=PATH,
    )


class ReportSettings(Section):
    """Settings of the report job."""

    table: ReportedTableSettings
    partitions: ReportedPartitionsSettings = ReportedPartitionsSettings()
    reference: ReferenceSettings = ReferenceSettings()
    model: ReportedModelSettings = ReportedModelSettings()
    cost: CostSettings = CostSettings()
    output: ReportOutputSettings
