"""Everything that a partition's scores depend on, kept in parts, so that a plan can say what has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bigfive_udf.tables.filesystem import FileInfo
from bigfive_udf.tables.partitions import Partition, relative_path


@dataclass(frozen=True)
class ScoreRecipe:
    """Everything that decides what a run writes for a text, in whichever partition the text lies.

    `settings` are only the settings that change scores; a thread count, for example, does not. `columns` are the
    carried columns in their order, `thresholds` the label thresholds by trait. `pseudonyms` maps each pseudonymised
    column to the fingerprint of its key.
    """

    model_id: str
    settings: Mapping[str, Any]
    columns: tuple[str, ...]
    thresholds: Mapping[str, float | None]
    pseudonyms: Mapping[str, str] = field(default_factory=dict)


def input_digest(partition: Partition, root: str) -> str:
    """A digest of the partition's files: path below `root`, size, and the content's tag or else the modification time.

    So a corpus that is moved as a whole keeps its digests if its modification times are kept. Without a tag, new
    content of the same size and time is not noticed.
    """
    return _digest([partition.version, *_lines(partition.files, root)])


def fingerprint(digest: str, recipe: ScoreRecipe) -> str:
    """One digest of everything that a partition's scores depend on, and so without thresholds and carried columns."""
    return _digest([digest, recipe.model_id, json.dumps(recipe.settings, sort_keys=True)])


def _lines(files: Iterable[FileInfo], root: str) -> list[str]:
    return sorted(f"{relative_path(f.path, root)}\n{f.size}\n{f.etag or f.modified!r}" for f in files)


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]
