"""Partitions of a directory tree: names such as dt=2026-11-22, what lies in them, and which of them a run takes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bigfive_udf.errors import InputError, SettingsError
from bigfive_udf.tables.filesystem import FileInfo

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
"""The directory name that stands for a null partition value."""

Values = tuple[str | None, ...]
"""One value for each partition column, as strings, to the letter."""

_LEVEL = re.compile(r"([^=/]+)=([^/]*)")
# The characters that Spark and Hive write as %XX in directory names. Others, letters of any script among them, stay.
_ESCAPED = re.compile(r"[\x01-\x1f\x7f\"#%'*/:=?\\{\[\]^]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class Partition:
    """One partition of the corpus and the files in it (none for a table of the catalog)."""

    values: Values
    files: tuple[FileInfo, ...] = ()

    @property
    def size(self) -> int:
        return sum(f.size for f in self.files)


@dataclass(frozen=True)
class Layout:
    """How a corpus or table is divided: its partition columns, and its partitions by name order."""

    columns: tuple[str, ...]
    partitions: tuple[Partition, ...]


@dataclass(frozen=True)
class Selection:
    """What the command line narrows a run to; all conditions hold together, `limit` counts partitions."""

    partitions: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    limit: int | None = None
    numeric_columns: frozenset[str] = field(default_factory=frozenset)
    """partition columns of a catalog table that are ordered as numbers"""


def partition_name(columns: Sequence[str], values: Values) -> str:
    """The name of a partition, which is its directory: dt=2026-11-22/country=nl; empty where there are no columns.

    >>> partition_name(("dt", "country"), ("2026-11-22", None))
    'dt=2026-11-22/country=__HIVE_DEFAULT_PARTITION__'
    """
    pairs = zip(columns, values, strict=True)
    return "/".join(f"{_escaped(column)}={_escaped(value) if value else HIVE_NULL}" for column, value in pairs)


def is_hidden(relative_path: str) -> bool:
    """Whether Spark passes over a file: for a part of its path that begins with . or _ (and is no partition directory),
    or that Hadoop is still copying."""
    return any(
        part.startswith(".") or (part.startswith("_") and "=" not in part) or part.endswith("._COPYING_")
        for part in relative_path.split("/")
    )


def layout_of(root: str, files: Iterable[FileInfo]) -> Layout:
    """Group the data files below `root` by the partition directories above them.

    Raises:
        InputError: some files lie in other partition directories than the rest.
    """
    columns: tuple[str, ...] | None = None
    first = ""
    found: dict[Values, list[FileInfo]] = {}
    for file in files:
        relative = (
            os.path.relpath(file.path, root) if "://" not in root else file.path.removeprefix(root.rstrip("/") + "/")
        )
        if is_hidden(relative):
            continue
        levels = _levels(relative)
        if empty := next((m[1] for m in levels if not m[2]), None):
            raise InputError(f"{file.path} lies in a partition {empty}= without a value: rename the directory")
        here = tuple(_unescaped(m[1]) for m in levels)
        if columns is None:
            columns, first = here, file.path
        if here != columns:
            raise InputError(
                f"{file.path} is partitioned by {', '.join(here) or 'nothing'}, {first} by "
                f"{', '.join(columns) or 'nothing'}: give input.path a corpus of one layout"
            )
        values = tuple(None if m[2] == HIVE_NULL else _unescaped(m[2]) for m in levels)
        found.setdefault(values, []).append(file)
    ordered = sorted(found.items(), key=lambda item: _sort_key(item[0]))
    return Layout(columns or (), tuple(Partition(values, tuple(group)) for values, group in ordered))


def _levels(relative: str) -> list[re.Match[str]]:
    """The partition directories right above a file; like Spark, not those beyond a directory of another kind."""
    levels: list[re.Match[str]] = []
    for part in reversed(relative.split("/")[:-1]):
        if match := _LEVEL.fullmatch(part):
            levels.insert(0, match)
        elif levels:
            break
    return levels


def select(layout: Layout, selection: Selection) -> tuple[Partition, ...]:
    """The partitions of a run, in order.

    Raises:
        SettingsError: a flag does not name a partition column.
        InputError: a partition named on the command line is not there.
    """
    chosen = list(layout.partitions)
    if selection.partitions:
        wanted = [(_parse(layout.columns, "--partition", text), text) for text in selection.partitions]
        kept = []
        for condition, text in wanted:
            matching = [p for p in chosen if _matches(layout.columns, p.values, condition)]
            if not matching:
                raise InputError(
                    f"--partition {text} is not in the input, which has {_range_of(layout)}; "
                    "correct it or load it first"
                )
            kept += matching
        chosen = [p for p in chosen if p in kept]
    for flag, bound_text, keep in (("--since", selection.since, 1), ("--until", selection.until, -1)):
        if bound_text is not None:
            ((column, bound),) = _parse(layout.columns, flag, bound_text, single=True).items()
            at = layout.columns.index(column)
            numeric = column in selection.numeric_columns
            if bound is None or (numeric and not _NUMBER.fullmatch(bound)):
                raise SettingsError(f"{flag} {bound_text}: give a {'number' if numeric else 'value that is not null'}")
            chosen = [p for p in chosen if (v := p.values[at]) is not None and _compare(v, bound, numeric) * keep >= 0]
    if selection.limit is not None and selection.limit < 0:
        raise SettingsError(f"--limit {selection.limit}: give the number of partitions, 1 or more")
    return tuple(chosen[: selection.limit])


def _escaped(text: str) -> str:
    return _ESCAPED.sub(lambda m: f"%{ord(m[0]):02X}", text)


def _unescaped(name: str) -> str:
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)), name)


def _parse(columns: Sequence[str], flag: str, text: str, single: bool = False) -> dict[str, str | None]:
    condition: dict[str, str | None] = {}
    for part in text.strip("/").split("/"):
        match = _LEVEL.fullmatch(part)
        if match is None or match[1] not in columns:
            have = (
                f"the partition columns are {', '.join(columns)}" if columns else "the corpus has no partition columns"
            )
            raise SettingsError(f"{flag} {text}: write it as column=value; {have}")
        condition[match[1]] = None if match[2] == HIVE_NULL else _unescaped(match[2])
    if single and len(condition) > 1:
        raise SettingsError(f"{flag} {text}: give one column, such as {columns[0]}=...")
    return condition


def _matches(columns: Sequence[str], values: Values, condition: dict[str, str | None]) -> bool:
    return all(values[columns.index(column)] == value for column, value in condition.items())


def _compare(value: str, bound: str, numeric: bool) -> int:
    if numeric:
        return (float(value) > float(bound)) - (float(value) < float(bound))
    return (value > bound) - (value < bound)


def _sort_key(values: Values) -> tuple[tuple[bool, str], ...]:
    return tuple((v is None, v or "") for v in values)


def _range_of(layout: Layout) -> str:
    names = [partition_name(layout.columns, p.values) for p in layout.partitions]
    return f"{names[0]} to {names[-1]}" if len(names) > 1 else (names[0] if names else "no partitions")
