"""Typed settings: read from a YAML file, overridden by `--set`, validated before anything starts."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bigfive_udf.errors import SettingsError
from bigfive_udf.traits import LETTERS, SCORE_FIELDS, TRAITS

# A relative path is resolved against the folder of its file; a name on the model hub looks like one and is left alone.
_PATH: dict[str, Any] = {"path": "file system"}
_PATH_OR_HUB: dict[str, Any] = {"path": "file system or hub"}
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Settings that know every key they have and change nothing that they are given."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, str_min_length=1)


class InputSettings(Section):
    path: str | None = Field(
        None, description="corpus: a directory, file or glob on any file system of Spark", json_schema_extra=_PATH
    )
    table: str | None = Field(None, description="corpus: a table of Spark's catalog, instead of a path")
    format: Literal["parquet", "json", "csv"] = Field("parquet", description="format of the files under input.path")
    where: str | None = Field(
        None, description="SQL condition on the corpus's columns; only rows that fulfil it are scored"
    )
    id_column: str = Field("doc_id", description="column that names a document, kept as it came")
    text_column: str = Field("text", description="column of the texts, of type string")
    author_column: str | None = Field(None, description="column of the authors, kept in the table")
    partition_columns: list[str] | None = Field(
        None, description="partition columns of the corpus; null: those of the directories or of the table; []: none"
    )
    keep_columns: list[str] = Field([], description="further columns to keep in the table")

    @model_validator(mode="after")
    def _one_source(self) -> InputSettings:
        if (self.path is None) == (self.table is None):
            raise ValueError("set input.path or input.table, one of the two")
        return self

    @property
    def source(self) -> str:
        """The path or the table, whichever is set."""
        return self.path or self.table or ""

    @property
    def carried_columns(self) -> list[str]:
        """Columns that go through to the table, in its order, partition columns not among them."""
        return [c for c in (self.id_column, self.author_column, *self.keep_columns) if c is not None]


class OutputSettings(Section):
    path: str = Field(
        description="directory of the score table; the job's own files lie in PATH.job", json_schema_extra=_PATH
    )
    format: Literal["parquet"] = Field("parquet", description="kind of table")
    target_file_mb: int = Field(128, ge=1, description="MB that a file of the table should have, about")
    compression: Literal["zstd", "snappy", "gzip", "none"] = Field("zstd", description="compression of the files")


class ModelSettings(Section):
    path: str = Field(
        description="artifact or Hugging Face checkpoint: a directory, or a name on the hub",
        json_schema_extra=_PATH_OR_HUB,
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where to compute; auto: a GPU where every executor has one"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="arithmetic; auto: bf16 where the hardware has it, else fp16 on a GPU, fp32 on a CPU"
    )
    activation: Literal["sigmoid"] | None = Field(
        None, description="only for a checkpoint that does not say how it was trained"
    )


class LabelSettings(Section):
    thresholds: dict[str, Share] = Field(
        {}, description="probability from which a label is true, by trait; over the artifact's"
    )
    require_evidence: bool = Field(
        False, description="null labels for traits whose evaluation is not better than chance"
    )

    @field_validator("thresholds")
    @classmethod
    def _by_trait(cls, value: dict[str, float]) -> dict[str, float]:
        named = {LETTERS.get(key, key): threshold for key, threshold in value.items()}
        if twice := [key for key in value if LETTERS.get(key, key) != key and LETTERS.get(key) in value]:
            raise ValueError(f"{twice[0]} and {LETTERS[twice[0]]} are the same trait; give one of them")
        if unknown := sorted(set(named) - set(TRAITS)):
            raise ValueError(f"{unknown[0]!r} is no trait; the traits are {', '.join(TRAITS)}")
        return named


class TextSettings(Section):
    max_length: int | None = Field(
        None, ge=4, description="tokens of a window, special ones counted; null: the artifact's"
    )
    long_documents: Literal["windows", "truncate"] = Field(
        "windows", description="windows: score all of a long text; truncate: its first window only"
    )
    window_overlap: int = Field(0, ge=0, description="tokens that neighbouring windows share")
    max_windows: int | None = Field(
        256, ge=1, description="most windows of one document, the rest is left out; null: no limit"
    )

    @property
    def windows_limit(self) -> int | None:
        """Most windows of a document, whichever way it was asked for."""
        return 1 if self.long_documents == "truncate" else self.max_windows


class BatchingSettings(Section):
    max_batch_tokens: int | None = Field(
        None, ge=16, description="padded tokens of a batch; null: 512 on a CPU, 32768 on a GPU"
    )


class ScoreSettings(Section):
    """Settings of the score job."""

    input: InputSettings
    output: OutputSettings
    model: ModelSettings
    labels: LabelSettings = LabelSettings()
    text: TextSettings = TextSettings()
    batching: BatchingSettings = BatchingSettings()
    max_failed_share: Share = Field(
        0.01, description="share of a partition's rows that may fail; with more, the partition is not published"
    )

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


S = TypeVar("S", bound=Section)


def load_settings(kind: type[S], config: str | Path | None, overrides: Sequence[str] = ()) -> S:
    """Read `config`, if there is one, apply `key.path=value` overrides, resolve relative paths, validate.

    A relative path in the file is relative to the repository's root for the shipped files in conf/ and to the file's
    own folder elsewhere; one in an override is relative to the working directory.

    Raises:
        SettingsError: the file can't be read, or a key, type or value is wrong.
    """
    file = Path(config) if config is not None else None
    values = _resolved(kind, _read(file), _base_folder(file)) if file is not None else {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise SettingsError(f"--set {override}: write it as key.path=value")
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):  # ValueError: a date such as 2026-02-30
            raise SettingsError(f"--set {override}: the value is not YAML; put quotes around it") from None
        _assign(values, key, _resolved_key(kind, key.split("."), value, Path.cwd()), override)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_one_line(kind, error, file)) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"--config {file} can't be read: {error.strerror}; give the path of a YAML file") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date such as 2026-02-30
        place = getattr(error, "problem_mark", None)
        where = f" in line {place.line + 1}" if place else ""
        raise SettingsError(f"--config {file} is not YAML{where}: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(content or {}, dict):
        raise SettingsError(
            f"--config {file} holds {type(content).__name__}, expected sections such as input: and output:"
        )
    return content or {}


def _base_folder(file: Path) -> Path:
    folder = file.resolve().parent
    shipped = folder.name == "conf" and (folder.parent / "jobs" / "score.py").is_file()
    return folder.parent if shipped else folder


def _section(kind: type[Section], keys: Sequence[str]) -> type[Section] | None:
    for key in keys:
        annotation = kind.model_fields[key].annotation if key in kind.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            return None
        kind = annotation
    return kind


def _resolved(kind: type[Section], values: Mapping[str, Any], base: Path, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    return {key: _resolved_key(kind, (*keys, str(key)), value, base) for key, value in values.items()}


def _resolved_key(kind: type[Section], keys: Sequence[str], value: Any, base: Path) -> Any:
    if isinstance(value, Mapping):
        return _resolved(kind, value, base, tuple(keys))
    if value is None and _section(kind, keys) is not None:
        return {}  # a section whose keys are all commented out
    section = _section(kind, keys[:-1])
    field = section.model_fields.get(keys[-1]) if section else None
    marks = field.json_schema_extra if field else None
    if not isinstance(value, str) or not isinstance(marks, dict) or "path" not in marks:
        return value
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", value):
        return value  # a URI
    if not value:
        return value  # refused by name later, not taken for the folder itself
    path = base / os.path.expanduser(value)
    if marks == _PATH_OR_HUB and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", value) and not path.exists():
        return value
    return str(path)


def _assign(values: dict[str, Any], key: str, value: Any, override: str) -> None:
    *sections, last = key.split(".")
    for name in sections:
        inner = values.get(name)
        values[name] = dict(inner) if isinstance(inner, Mapping) else {}
        if inner is not None and not isinstance(inner, Mapping):
            raise SettingsError(f"--set {override}: {name} is a value, not a section")
        values = values[name]
    values[last] = value


def _one_line(kind: type[Section], error: ValidationError, file: Path | None) -> str:
    found = error.errors()
    first = found[0]
    keys = [str(part) for part in first["loc"]]
    key = ".".join(keys)
    value = first.get("input")
    if first["type"] == "extra_forbidden":
        section = _section(kind, keys[:-1])
        known = list(section.model_fields) if section else []
        close = difflib.get_close_matches(keys[-1], known, n=1)
        cure = f"did you mean {close[0]}?" if close else f"the keys there are {', '.join(known)}"
        message = f"{key}: there is no such setting; {cure}"
    elif first["type"] == "missing":
        place = f"in {file}" if file is not None else "in a file of --config"
        section = _section(kind, keys)
        needed = f"{key}.{next(iter(section.model_fields))}" if section else key
        message = f"{needed} is not set: set it {place} or with --set {needed}=..."
    elif first["type"] == "value_error":
        message = str(first["ctx"]["error"])
        message = message if "." in message.split(":")[0] or not key else f"{key}: {message}"
    elif first["type"] == "model_type":
        message = f"{key} {value!r}: must be a section of settings, written as {key}: and indented keys below it"
    elif first["type"] == "string_too_short":
        message = f"{key} {value!r}: must not be empty"
    else:
        message = f"{key} {value!r}: {re.sub('^Input should be', 'must be', first['msg'])}"
    return message + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")
