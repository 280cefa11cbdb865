"""What the catalog says of the score table: its columns with their comments, its properties, and its views."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from bigfive_udf import __version__
from bigfive_udf.model.artifact import Artifact
from bigfive_udf.model.evidence import Evidence, evidence_of
from bigfive_udf.settings.score import ScoreSettings
from bigfive_udf.spark.output.comments import score_fields
from bigfive_udf.spark.storage import quoted
from bigfive_udf.tables.ledger import Entry
from bigfive_udf.tables.views import Shape, View, views_of
from bigfive_udf.traits import TRAITS, Field

PREFIX = "bigfive."
DIGEST = f"{PREFIX}definition"
_KNOWN = f"{PREFIX}model."
"""prefix of the property with what is known of a model, as JSON; the model's id follows"""
PATH = f"{PREFIX}path"
COMMENT = (
    "Big Five scores, one row per document. A score is a guess about the wording of one text, not a measurement of a "
    "person: see docs/responsible-use.md"
)


@dataclass(frozen=True)
class Definition:
    """The table as it should stand in the catalog; `keys` are its partition columns, at the end of `columns`."""

    columns: tuple[Field, ...]
    keys: tuple[str, ...]
    properties: Mapping[str, str]
    views: tuple[View, ...]
    author_files: bool
    """whether the view by author is to be kept in files"""

    @property
    def digest(self) -> str:
        """A hash that shows a run in one comparison whether the catalog already has this definition."""
        content = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def shape_of(settings: ScoreSettings, keys: tuple[str, ...]) -> Shape:
    """The properties of output.table on which its views depend."""
    assert settings.output.catalog_name is not None
    database, table = settings.output.catalog_name
    columns, before = settings.input, f"{quoted(database)}." if database else ""
    return Shape(table, columns.id_column, columns.author_column, keys, settings.output.least_texts, before)


def definition_of(
    path: str,
    keys: tuple[str, ...],
    entries: Iterable[Entry],
    settings: ScoreSettings,
    artifact: Artifact,
    before: Mapping[str, str] | None = None,
) -> Definition:
    """The definition of output.table with the partitions `entries`; `before` are its properties in the catalog.

    It names the models and thresholds that the partitions were made with, whatever the settings of this run are.
    `before` has what is known of the models of earlier runs. The table has every column that any partition has. If the
    carried columns have changed, the newest entry's come first. A column that a partition's files lack is null.
    """
    newest = sorted(entries, key=lambda e: -e.sequence)
    carried: dict[str, str] = {}
    for entry in newest:
        for name, kind in entry.columns.items():
            carried.setdefault(name, kind)
    told = {settings.input.id_column: "which document: the id that it has in the corpus"}
    if settings.input.author_column is not None:
        told[settings.input.author_column] = "who wrote it, as the corpus says"
    this = evidence_of(artifact, str(settings.model.path))
    ids = dict.fromkeys(entry.model_id for entry in newest) or {artifact.model_id: None}
    models = [this if i == this.model_id else _recalled(i, before or {}) for i in ids]
    columns = (
        *(Field(name, kind, told.get(name, "as it came in the corpus")) for name, kind in carried.items()),
        *score_fields(models, [entry.thresholds for entry in newest]),
        *(Field(key, "string", "partition of the table, as its directory says") for key in keys),
    )
    properties = {PATH: path, f"{PREFIX}version": __version__, **_about_models(models)}
    if settings.output.purpose is not None:
        properties[f"{PREFIX}purpose"] = settings.output.purpose
    # The settings may name a column that no partition has yet.
    named = {c for c in (settings.input.id_column, settings.input.author_column) if c is not None}
    views = views_of(shape_of(settings, keys), quoted) if named <= carried.keys() else ()
    return Definition(columns, keys, properties, views, settings.output.author_files)


def _recalled(model_id: str, before: Mapping[str, str]) -> Evidence:
    """What an earlier run has stored in the catalog about a model."""
    try:
        return Evidence.from_json(before[_KNOWN + model_id])
    except (KeyError, ValueError, TypeError):
        return Evidence(model_id)


def _about_models(models: Sequence[Evidence]) -> dict[str, str]:
    """Properties with what is known of the models, newest first; if there are several, each value names its model."""
    said: dict[str, Mapping[str, str]] = {
        "artifact": {m.model_id: m.path for m in models if m.path is not None},
        **{f"evaluation.{trait}": {m.model_id: m.line(trait) for m in models} for trait in TRAITS},
        "evaluation.split": {m.model_id: f"by {m.split}" for m in models if m.split is not None},
    }
    lines = {
        f"{PREFIX}{key}": next(iter(of.values())) if len(models) == 1 else "; ".join(f"{m}: {of[m]}" for m in of)
        for key, of in said.items()
        if of
    }
    known = {_KNOWN + m.model_id: m.to_json() for m in models if m.path is not None}
    return {f"{PREFIX}model_id": ", ".join(m.model_id for m in models), **lines, **known}
