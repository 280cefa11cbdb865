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
    run: str | None = Field(None, description="run_id: only the partitions that this run has committed, and its record")
    since: str | None = Field(None, description="partitions from this one on, such as dt=2026-11-16; null: by last")
    until: str | None = Field(None, description="partitions up to this one, inclusive; null: the last one")
    last: int = Field(28, ge=1, le=366, description="most partitions of the page, the last ones of what is asked for")

    @model_validator(mode="after")
    def _one_way(self) -> ReportedPartitionsSettings:
        if self.run is not None and (self.since is not None or self.until is not None):
            raise ValueError(f"partitions.run {self.run!r}: leave out partitions.since and partitions.until with it")
        return self


class ReferenceSettings(Section):
    kind: Literal["auto", "table", "artifact", "none"] = Field(
        "auto",
        description="what drift is judged against: a past stretch of the table, the artifact's held-out texts, or "
        "nothing; auto: the partitions before those of the page, else the first half of these, else the artifact",
    )
    since: str | None = Field(None, description="first partition of the past stretch; null: by last")
    until: str | None = Field(
        None, description="last partition of the past stretch, which may lie on the page; null: the one before it"
    )
    last: int = Field(28, ge=1, le=1000, description="most partitions of the past stretch, its last ones")

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
        None, description="the model's directory, for its evaluation; null: that of the last run",
        json_schema_extra=PATH_OR_HUB,
    )  # fmt: skip


class CostSettings(Section):
    per_core_hour: float | None = Field(
        None, ge=0, description="price of one core for one hour; null: no money is named"
    )
    currency: str = Field("EUR", description="currency of cost.per_core_hour")


class ReportOutputSettings(Section):
    path: str = Field(
        description="file of the page, such as report.html, on any file system; its numbers lie beside it as .json",
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
