"""Partitions of a directory tree: their names (such as dt=2026-11-22), their files, and which of them a run takes.

A corpus without partition columns is divided into groups of files instead, see groups.py: each group is a partition
whose only value is the group's name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bigfive_udf.errors import InputError, SettingsError
from bigfive_udf.tables.filesystem import FileInfo

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
"""The directory name that stands for a null partition value."""

GROUP = "__bigfive_group"
"""The column that names a row's group while it is scored, where the corpus has no partition columns."""

Values = tuple[str | None, ...]
"""The exact string value of each partition column; without partition columns, the name of the group."""

_LEVEL = re.compile(r"([^=/]+)=([^/]*)")
# The characters that Spark and Hive write as %XX in directory names. Others, letters of any script among them, stay.
_ESCAPED = re.compile(r"[\x01-\x1f\x7f\"#%'*/:=?\\{\[\]^]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class Partition:
    """One partition of the corpus, and the files in it; `version` stands for the content where there are no files."""

    values: Values
    files: tuple[FileInfo, ...] = ()
    version: str = ""

    @property
    def size(self) -> int:
        return sum(f.size for f in self.files)


@dataclass(frozen=True)
class Layout:
    """How a corpus or table is divided: its partition columns, and its partitions in order of their values."""

    columns: tuple[str, ...]
    partitions: tuple[Partition, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that determine a row's partition: the partition columns, or else the column with its group."""
        return self.columns or (GROUP,)

    def name(self, values: Values) -> str:
        return partition_name(self.columns, values)


@dataclass(frozen=True)
class Selection:
    """What the command line asks of a run; all conditions apply together, `limit` is a number of partitions."""

    partitions: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    limit: int | None = None
    rescore: bool = False
    """score also partitions that the table has already"""
    prune: bool = False
    """remove partitions that are gone from the input"""
    numeric_columns: frozenset[str] = field(default_factory=frozenset)
    """partition columns of a catalog table that are ordered as numbers"""

    def about(self) -> dict[str, Any]:
        """The conditions and the limit, for the run record; empty where the whole corpus is asked for."""
        asked = {"partitions": list(self.partitions), "since": self.since, "until": self.until, "limit": self.limit}
        return {key: value for key, value in asked.items() if value}


def partition_name(columns: Sequence[str], values: Values) -> str:
    """The name of a partition: its directory, such as dt=2026-11-22/country=nl, or the name of its group.

    >>> partition_name(("dt", "country"), ("2026-11-22", None))
    'dt=2026-11-22/country=__HIVE_DEFAULT_PARTITION__'
    """
    if not columns:
        return str(values[0])
    pairs = zip(columns, values, strict=True)
    return "/".join(f"{_escaped(column)}={_escaped(value) if value else HIVE_NULL}" for column, value in pairs)


def partition_values(name: str) -> Values:
    """The values in a partition's name, as Spark and Hive write it.

    >>> partition_values("dt=2026-11-22/country=__HIVE_DEFAULT_PARTITION__")
    ('2026-11-22', None)
    """
    return tuple(None if m[2] == HIVE_NULL else _unescaped(m[2]) for m in _levels(name))


def is_hidden(relative_path: str) -> bool:
    """Whether Spark ignores a file: a part of its path begins with . or _ (and is no partition directory), or Hadoop is
    still copying it."""
    return any(
        part.startswith(".") or (part.startswith("_") and "=" not in part) or part.endswith("._COPYING_")
        for part in relative_path.split("/")
    )


def layout_of(root: str, files: Iterable[FileInfo]) -> Layout:
    """Group the data files below `root` by the partition directories above them.

    Without partition directories, the layout has no columns, and one partition without a value holds all files.

    Raises:
        InputError: some files have other partition columns than the rest, or their partition directories lie in
            another directory than those of the rest, or a partition directory has no value.
    """
    columns: tuple[str, ...] | None = None
    first, first_above = "", ""
    found: dict[Values, list[FileInfo]] = {}
    known: dict[str, Values | None] = {}
    for file in files:
        directory, name = os.path.split(relative_path(file.path, root))
        if is_hidden(name):
            continue
        if directory not in known:
            known[directory] = None
            if not directory or not is_hidden(directory):
                here, known[directory] = _partition_of(directory, file.path)
                above = _above_partitions(directory)
                if columns is None:
                    columns, first, first_above = here, file.path, above
                if here != columns:
                    raise InputError(
                        f"{file.path} is partitioned by {', '.join(here) or 'nothing'}, {first} by "
                        f"{', '.join(columns) or 'nothing'}: give input.path a corpus of one layout"
                    )
                if above != first_above and columns:
                    raise InputError(
                        f"{file.path} and {first} are partitioned in two directories, {above or root} and "
                        f"{first_above or root}, which Spark can't read together: name these directories column=value, "
                        "or score each in a run of its own, to an output.path of its own"
                    )
        values = known[directory]
        if values is not None:
            found.setdefault(values, []).append(file)
    ordered = sorted(found.items(), key=lambda item: _sort_key(item[0]))
    return Layout(columns or (), tuple(Partition(values, tuple(group)) for values, group in ordered))


def relative_path(path: str, root: str) -> str:
    """The path below `root`, or the file's name where `root` is the file."""
    return path.removeprefix(root.rstrip("/") + "/") if path != root else os.path.basename(path)


def _above_partitions(directory: str) -> str:
    """The directory that holds a file's partition directories, as Spark finds it: from the file upwards."""
    levels = directory.split("/")
    while levels and "=" not in levels[-1]:
        levels.pop()
    while levels and "=" in levels[-1]:
        levels.pop()
    return "/".join(levels)


def _partition_of(directory: str, file: str) -> tuple[tuple[str, ...], Values]:
    levels = _levels(directory)
    if empty := next((m[1] for m in levels if not m[2]), None):
        raise InputError(f"{file} lies in a partition {empty}= without a value: rename the directory")
    return tuple(_unescaped(m[1]) for m in levels), tuple(
        None if m[2] == HIVE_NULL else _unescaped(m[2]) for m in levels
    )


def _levels(directory: str) -> list[re.Match[str]]:
    """The partition directories nearest above a file, in one unbroken row, as Spark takes them."""
    levels: list[re.Match[str]] = []
    for part in reversed(directory.split("/")):
        if match := _LEVEL.fullmatch(part):
            levels.insert(0, match)
        elif levels:
            break
    return levels


def select(layout: Layout, selection: Selection) -> tuple[Partition, ...]:
    """The partitions that the conditions on the command line allow, in order; `limit` is not applied here.

    Raises:
        SettingsError: a flag does not name a partition column.
        InputError: a partition named on the command line is not there.
    """
    chosen = list(layout.partitions)
    if selection.partitions:
        kept: set[Values] = set()
        for text in selection.partitions:
            condition = _parse(layout.columns, "--partition", text)
            matching = {p.values for p in chosen if _matches(layout.columns, p.values, condition)}
            if not matching:
                raise InputError(
                    f"--partition {text} is not in the input, which has {_range_of(layout)}; "
                    "correct it or load it first"
                )
            kept |= matching
        chosen = [p for p in chosen if p.values in kept]
    for flag, bound_text, keep in (("--since", selection.since, 1), ("--until", selection.until, -1)):
        if bound_text is not None:
            ((column, bound),) = _parse(layout.columns, flag, bound_text, single=True).items()
            at = layout.columns.index(column)
            numeric = column in selection.numeric_columns
            if bound is None or (numeric and not _NUMBER.fullmatch(bound)):
                raise SettingsError(f"{flag} {bound_text}: give a {'number' if numeric else 'value that is not null'}")
            chosen = [p for p in chosen if (v := p.values[at]) is not None and _compare(v, bound, numeric) * keep >= 0]
    return tuple(chosen)


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
