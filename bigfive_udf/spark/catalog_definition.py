"""What the catalog says of the score table: its columns with their comments, its properties, and its views."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from bigfive_udf import __version__
from bigfive_udf.model.artifact import Artifact
from bigfive_udf.settings.score import ScoreSettings
from bigfive_udf.spark.comments import score_fields
from bigfive_udf.spark.planning import Scoring
from bigfive_udf.spark.storage import quoted
from bigfive_udf.tables.ledger import Entry
from bigfive_udf.tables.views import Shape, View, views_of
from bigfive_udf.traits import TRAITS, Field

PREFIX = "bigfive."
DIGEST = f"{PREFIX}definition"
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
        """By which a run sees at one look whether the catalog has this very definition."""
        content = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def shape_of(settings: ScoreSettings, keys: tuple[str, ...]) -> Shape:
    """What the views of output.table depend on."""
    assert settings.output.catalog_name is not None
    database, table = settings.output.catalog_name
    columns, before = settings.input, f"{quoted(database)}." if database else ""
    return Shape(table, columns.id_column, columns.author_column, keys, settings.output.least_texts, before)


def definition_of(
    path: str, keys: tuple[str, ...], entries: Iterable[Entry], settings: ScoreSettings, scoring: Scoring
) -> Definition:
    """The definition of output.table, whose partitions are `entries`.

    It has every column that a partition has: where the carried columns have changed, the newest entry's come first,
    and what a partition's files lack is null.
    """
    carried: dict[str, str] = {}
    for entry in sorted(entries, key=lambda e: -e.sequence):
        for name, kind in entry.columns.items():
            carried.setdefault(name, kind)
    told = {settings.input.id_column: "which document: the id that it has in the corpus"}
    if settings.input.author_column is not None:
        told[settings.input.author_column] = "who wrote it, as the corpus says"
    columns = (
        *(Field(name, kind, told.get(name, "as it came in the corpus")) for name, kind in carried.items()),
        *score_fields(scoring.artifact, scoring.recipe.thresholds),
        *(Field(key, "string", "partition of the table, as its directory says") for key in keys),
    )
    properties = {
        PATH: path,
        f"{PREFIX}model_id": scoring.recipe.model_id,
        f"{PREFIX}artifact": str(settings.model.path),
        f"{PREFIX}version": __version__,
        **_evaluation(scoring.artifact),
    }
    if settings.output.purpose is not None:
        properties[f"{PREFIX}purpose"] = settings.output.purpose
    # The settings may name a column that no partition has yet.
    named = {c for c in (settings.input.id_column, settings.input.author_column) if c is not None}
    views = views_of(shape_of(settings, keys), quoted) if named <= carried.keys() else ()
    return Definition(columns, keys, properties, views, settings.output.author_files)


def _evaluation(artifact: Artifact) -> dict[str, str]:
    """What is known of each trait, in a line, and how the authors were split for it."""
    said = {f"{PREFIX}evaluation.{trait}": _figures(artifact, trait) for trait in TRAITS}
    split = artifact.evaluation.get("split")
    return said | ({f"{PREFIX}evaluation.split": f"by {split}"} if split else {})


def _figures(artifact: Artifact, trait: str) -> str:
    verdict = {True: "better than chance", False: "NO better than chance", None: "not known"}
    measured = (artifact.evaluation.get("traits") or {}).get(trait) or {}
    area, interval = measured.get("roc_auc"), measured.get("roc_auc_ci")
    said = verdict[artifact.better_than_chance(trait)]
    if area is None or interval is None:
        return said
    return f"{said}; ROC AUC {area:.3f}, 95 % interval {interval[0]:.3f} to {interval[1]:.3f}"
