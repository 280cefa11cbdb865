"""Settings of the score job."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from bigfive_udf.pseudonyms import KEY_VARIABLE
from bigfive_udf.settings.secrets import shown
from bigfive_udf.settings.section import PATH, PATH_OR_HUB, Section, Share, by_trait
from bigfive_udf.traits import SCORE_FIELDS


class InputSettings(Section):
    path: str | None = Field(
        None,
        description="corpus: a directory, file or glob on any file system that Spark reaches",
        json_schema_extra=PATH,
    )
    table: str | None = Field(None, description="corpus: a table of Spark's catalog, instead of a path")
    format: Literal["parquet", "json", "csv"] = Field("parquet", description="format of the files under input.path")
    where: str | None = Field(
        None, description="SQL condition on the corpus's columns; only rows that fulfil it are scored"
    )
    id_column: str = Field("doc_id", description="column of the documents' ids, copied to the table as it is")
    text_column: str = Field("text", description="column of the texts, of type string")
    author_column: str | None = Field(None, description="column of the authors, kept in the table")
    partition_columns: list[str] | None = Field(
        None, description="partition columns of the corpus; null: as the directories or the catalog say; []: none"
    )
    keep_columns: list[str] = Field([], description="further columns to keep in the table")
    pseudonymise: list[Literal["id", "author"]] = Field(
        [], description="columns whose values become keyed hashes in the table: id, author, both; []: none"
    )
    pseudonym_key: str = Field(
        KEY_VARIABLE,
        description="name of the environment variable that holds the key of the hashes; never the key itself",
    )
    ready_file: str | None = Field(
        None,
        description="file name, such as _SUCCESS: only partitions that hold such a file are considered; null: all",
    )

    @model_validator(mode="after")
    def _one_source(self) -> InputSettings:
        if (self.path is None) == (self.table is None):
            raise ValueError("set input.path or input.table, one of the two")
        if self.ready_file is not None and self.path is None:
            raise ValueError(f"input.ready_file {self.ready_file!r}: only a corpus of files has such; leave it out")
        if "author" in self.pseudonymise and self.author_column is None:
            raise ValueError("input.pseudonymise names the author, and there is none: set input.author_column")
        if not re.fullmatch(r"[A-Z][A-Z0-9_]{0,39}", self.pseudonym_key):  # never show the value: it may be the key
            raise ValueError(
                "input.pseudonym_key: must be the name of an environment variable in capitals, not the key"
            )
        return self

    @property
    def source(self) -> str:
        """The path or the table, whichever is set."""
        return self.path or self.table or ""

    @property
    def carried_columns(self) -> list[str]:
        """Columns that are copied to the table, in its column order, without the partition columns."""
        return [c for c in (self.id_column, self.author_column, *self.keep_columns) if c is not None]

    @property
    def pseudonymised_columns(self) -> list[str]:
        """The copied columns whose values the table holds as pseudonyms."""
        columns = {"id": self.id_column, "author": self.author_column}
        return [c for what, c in columns.items() if what in self.pseudonymise and c is not None]


# Names that a Hive metastore accepts, with room left for the longest suffix of a view's name.
_CATALOG_NAME = re.compile(r"(?:([A-Za-z0-9_]{1,100})\.)?([A-Za-z0-9_]{1,100})")

_ROOT = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*:(//[^/]*)?)?/*")


class OutputSettings(Section):
    path: str = Field(
        description="directory of the score table; the job's own files lie in PATH.job", json_schema_extra=PATH
    )
    format: Literal["parquet", "iceberg"] = Field(
        "parquet",
        description="kind of table; parquet: plain directories that every tool reads; iceberg: snapshots, by pyiceberg",
    )
    table: str | None = Field(
        None,
        description="parquet: name of an external table that the job keeps with its views in Spark's catalog, written "
        "as table or database.table; null: none; iceberg: the table's name in its catalog, written as namespace.table; "
        "null: bigfive.scores",
    )
    purpose: str | None = Field(
        None, max_length=1000, description="purpose of processing the scores, stored in the properties of output.table"
    )
    least_texts: int = Field(
        20,
        ge=2,
        description="minimum number of texts for which the view by author of output.table shows an author's mean",
    )
    author_files: bool = Field(
        False, description="compute the view by author of output.table once after each run, and keep it in files"
    )
    catalog: dict[str, str] = Field(
        {}, description="properties of the Iceberg catalog, as pyiceberg takes them; {}: SQLite in PATH.job"
    )
    target_file_mb: int = Field(
        128,
        ge=1,
        description="MB of shuffled scores for one file, which is half as large or less; "
        "a group of input files becomes one file",
    )
    compression: Literal["zstd", "snappy", "gzip", "none"] = Field("zstd", description="compression of the files")

    @field_validator("path")
    @classmethod
    def _has_room_beside_it(cls, value: str) -> str:
        # s3a://bucket.job is another bucket, abfss://c@account.dfs.core.windows.net.job another host.
        if _ROOT.fullmatch(value):
            raise ValueError(
                f"output.path {value}: it is the root of a bucket, container or disk, and the job's own files need a "
                f"place beside it, PATH.job; choose a directory below it, such as {value.rstrip('/')}/scores"
            )
        return value

    @model_validator(mode="after")
    def _names_of_the_format(self) -> OutputSettings:
        if self.format != "iceberg":
            if self.table is not None and _CATALOG_NAME.fullmatch(self.table) is None:
                raise ValueError(
                    f"output.table {self.table!r}: Hive takes letters, digits and _, at most 100 of them; write it as "
                    "table or database.table"
                )
            if self.catalog:
                raise ValueError("output.catalog: only output.format iceberg has one; leave it out")
        elif self.table is not None and (self.table.count(".") < 1 or not all(self.table.split("."))):
            raise ValueError(f"output.table {self.table!r}: write it as namespace.table")
        return self

    @model_validator(mode="after")
    def _nothing_for_views_that_are_not_made(self) -> OutputSettings:
        for name in ("purpose", "least_texts", "author_files"):
            if self.catalog_name is None and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"output.{name}: it is for output.table of the format parquet; set that, or leave it out"
                )
        return self

    @property
    def catalog_name(self) -> tuple[str | None, str] | None:
        """Database and name of the table that the job keeps in Spark's catalog; None where it keeps none."""
        match = _CATALOG_NAME.fullmatch(self.table) if self.table is not None and self.format == "parquet" else None
        return (match[1], match[2]) if match else None


class ModelSettings(Section):
    path: str = Field(
        description="artifact or Hugging Face checkpoint: a directory, or a name on the hub",
        json_schema_extra=PATH_OR_HUB,
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="where to compute; auto: on GPUs if every executor has one (on a cluster, one that Spark assigns "
        "to tasks)",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        "auto",
        description="arithmetic of the model; auto: bf16 where the hardware has it, else fp16 on a GPU, fp32 on a CPU; "
        "int8: on CPUs only, with a model that jobs/quantize.py has made",
    )
    weights: Literal["auto", "shared", "own"] = Field(
        "auto",
        description="on CPUs; shared: one copy of the weights for all workers of a machine; own: each worker keeps its "
        "own copy in the layout of its processor, which is faster; auto: own up to 256 MB per worker, else shared",
    )
    activation: Literal["sigmoid"] | None = Field(
        None, description="sigmoid: accept a checkpoint that does not say how it was trained"
    )


class LabelSettings(Section):
    thresholds: dict[str, Share] = Field(
        {}, description="probability from which a label is true, by trait; overrides the artifact's threshold"
    )
    require_evidence: bool = Field(
        False, description="write null labels for traits whose evaluation is missing or not better than chance"
    )

    @field_validator("thresholds")
    @classmethod
    def _by_trait(cls, value: dict[str, float]) -> dict[str, float]:
        return by_trait(value)


class TextSettings(Section):
    max_length: int | None = Field(
        None, ge=4, description="tokens per window, special tokens included; null: as in the artifact"
    )
    long_documents: Literal["windows", "truncate"] = Field(
        "windows", description="windows: score all of a long text; truncate: score its first window only"
    )
    window_overlap: int = Field(0, ge=0, description="tokens that neighbouring windows share")
    max_windows: int | None = Field(
        256, ge=1, description="maximum number of windows per document, the rest is not scored; null: no limit"
    )

    @property
    def windows_limit(self) -> int | None:
        """Maximum number of windows per document, by `long_documents` and `max_windows`; None: no limit."""
        return 1 if self.long_documents == "truncate" else self.max_windows


class BatchingSettings(Section):
    max_batch_tokens: int | None = Field(
        None, ge=16, description="maximum tokens in a batch, padding included; null: 1024 on a CPU, 32768 on a GPU"
    )


class PlanSettings(Section):
    max_rescored_share: Share = Field(
        0.2, description="share of the table's documents that a run may score again, or take out, without being told to"
    )


class CommitSettings(Section):
    partitions: int = Field(1000, ge=1, description="maximum number of partitions in a step, committed together")
    minutes: float = Field(
        10.0,
        gt=0,
        description="approximate minutes per step: a kill loses at most one step; a partition that takes longer is a "
        "step of its own",
    )


class RetentionSettings(Section):
    trash_days: float = Field(2.0, ge=0, description="days that replaced rows stay in PATH.job/trash; 0: none")
    snapshot_days: float = Field(7.0, ge=0, description="days that an Iceberg snapshot is kept for its readers")
    record_days: float = Field(400.0, ge=1, description="days that run records and logs are kept")


Policy = Literal["refuse", "rescore", "only_new"]


class ScoreSettings(Section):
    """Settings of the score job."""

    input: InputSettings
    output: OutputSettings
    model: ModelSettings
    labels: LabelSettings = LabelSettings()
    text: TextSettings = TextSettings()
    batching: BatchingSettings = BatchingSettings()
    on_model_change: Policy = Field(
        "refuse",
        description="if the table was scored with another model: refuse to run, rescore everything, or score only_new "
        "partitions",
    )
    on_schema_change: Policy = Field(
        "refuse",
        description="if the table has other input columns than asked for: refuse to run, rescore everything, or score "
        "only_new partitions",
    )
    plan: PlanSettings = PlanSettings()
    commit_every: CommitSettings = CommitSettings()
    retention: RetentionSettings = RetentionSettings()
    max_failed_share: Share = Field(
        0.01, description="share of a partition's rows that may fail; with more, the partition is not published"
    )

    max_label_flips: Share = Field(
        0.01,
        description="share of labels that may flip in a reduced precision, measured on a sample in every run; with "
        "more, the run computes in a more exact precision, and refuses to recompute labels from stored probabilities; "
        "an int8 model whose quantization flipped more is refused",
    )

    log_texts: bool = Field(
        False, description="write excerpts of texts that can't be scored to the run's log; false: no log holds any text"
    )

    @property
    def needs_catalog(self) -> bool:
        """Whether Spark's own catalog must keep tables from one session to the next."""
        source = self.input.table
        is_sparks = source is not None and (source.count(".") < 2 or source.startswith("spark_catalog."))
        return self.output.catalog_name is not None or is_sparks

    def for_record(self) -> dict[str, Any]:
        """All settings, with stars in place of catalog properties, or parts of them, that may be secret."""
        catalog = {key: shown(key, value) for key, value in self.output.catalog.items()}
        settings = self.model_dump()
        settings["output"]["catalog"] = catalog
        return settings

    def that_change_scores(self, max_length: int) -> dict[str, Any]:
        """Settings that change a text's scores, or which texts are scored; `max_length` is the one in effect."""
        return {
            "input.text_column": self.input.text_column,
            "input.where": self.input.where,
            "model.precision": self.model.precision,
            "text.max_length": max_length,
            "text.window_overlap": self.text.window_overlap,
            "text.max_windows": self.text.windows_limit,
        }

    @model_validator(mode="after")
    def _no_collisions(self) -> ScoreSettings:
        seen = {f.name: "a score column" for f in SCORE_FIELDS}
        named = [("input.id_column", self.input.id_column), ("input.author_column", self.input.author_column)]
        named += [("input.keep_columns", c) for c in self.input.keep_columns]
        named += [("input.partition_columns", c) for c in self.input.partition_columns or []]
        for key, column in named:
            if column is None:
                continue
            if column.lower() in seen:
                raise ValueError(
                    f"{key}: {column!r} is already {seen[column.lower()]} of the table; leave it out or rename it"
                )
            seen[column.lower()] = f"the {key}"
        return self
