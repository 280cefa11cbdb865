"""The corpus: where its files are, and how they are divided into partitions.

Finding it lists every file once and starts no Spark job. The content of the files is examined only for the partitions
that a run is going to score, see input/reading.py. A corpus may also be a table of the catalog, see input/table.py.
"""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from pyspark.sql import SparkSession

from bigfive_udf.errors import InputError, MachinesLostError, SettingsError
from bigfive_udf.settings.score import InputSettings
from bigfive_udf.spark.storage import locate
from bigfive_udf.tables.failures import cure_of
from bigfive_udf.tables.filesystem import FileInfo, FileSystem, alternatives
from bigfive_udf.tables.fingerprint import input_digest
from bigfive_udf.tables.groups import grouped
from bigfive_udf.tables.ledger import Entry
from bigfive_udf.tables.partitions import (
    Layout,
    Partition,
    Selection,
    Values,
    is_hidden,
    layout_of,
    relative_path,
    select,
)
from bigfive_udf.tables.plan import NOT_READY, OUTSIDE, PARTLY_SEEN, WRITTEN, FoundCorpus
from bigfive_udf.traits import SCORE_FIELDS

WHOLE = "the corpus"
"""Stands in `Corpus.waiting` for a corpus without partition columns; no partition directory can have this name."""
EMPTY = "it is there without any file"
_FEW = 16
"""The most partition directories that are checked one by one; more are looked up in the lists of their parents."""
_BEING_WRITTEN = ("_temporary", "__magic", ".spark-staging", ".hive-staging")
"""Name prefixes of files and directories that Spark, Hive or Hadoop have not committed yet."""
_FOREIGN_TABLES = {"_delta_log": "Delta", "metadata": "Iceberg", ".hoodie": "Hudi"}


@dataclass(frozen=True)
class Corpus:
    """What there is to score: partitions, and the files in them."""

    layout: Layout
    source: str
    """the table, or the path as its file system spells it"""
    fs: FileSystem | None = None
    """None for a table of the catalog"""
    root: str = ""
    """the directory below which column=value directories count as partitions"""
    directory_columns: tuple[str, ...] = ()
    """all columns in directory names; the partition columns are the first of them"""
    numeric_columns: frozenset[str] = frozenset()
    """partition columns that are ordered as numbers"""
    base: str = ""
    """the directory that holds the partition directories; `root` where there are none"""
    sight: tuple[tuple[str, ...], ...] = ((),)
    """patterns for the paths that were listed below `base`; each has one part per directory level"""
    ready_file: str | None = None
    waiting: frozenset[str] = frozenset()
    """names of the partitions that do not hold the ready file yet; `WHOLE` where there are no partition columns"""

    def found(self, selection: Selection, entries: Mapping[str, Entry]) -> FoundCorpus:
        """What a plan must know of the corpus; `entries` are the table's ledger entries by partition name.

        Raises:
            SettingsError: a flag does not name a partition column.
            InputError: a partition named on the command line is not there, or two partitions have the same name.
        """
        name_of = self.layout.name
        waiting = frozenset(entries) if WHOLE in self.waiting else self.waiting
        named: dict[str, Partition] = {}
        for p in self.layout.partitions:
            if named.setdefault(name := name_of(p.values), p) is not p:
                raise InputError(
                    f"{self.source} has two partitions {name}, by {named[name].values} and {p.values}: write one value"
                )
        left: dict[str, str] = {}
        unclear: dict[str, str] = {}
        if not self.layout.columns:
            for name, entry in entries.items():
                seen = [self._sees(file) for file in entry.group]
                if not any(seen) and entry.group and name not in named:
                    left[name] = OUTSIDE
                elif not all(seen):
                    unclear[name] = PARTLY_SEEN
            named = {name: p for name, p in named.items() if name not in unclear}
        others = {name: Partition(tuple(e.values.values())) for name, e in entries.items() if name not in named}
        for name, about in self._without_files([n for n in others if n not in waiting]).items():
            if about == EMPTY:
                named[name] = others[name]
            elif about != WRITTEN:
                left[name] = about
            else:
                unclear[name] = WRITTEN
        # Conditions on the command line apply to partitions that are gone from the input only with --prune.
        conditions = selection.partitions or selection.since or selection.until
        named_too = selection.prune or not conditions
        gone = {n: p for n, p in others.items() if named_too and not (n in named or n in left or n in unclear)}
        selection = replace(selection, numeric_columns=self.numeric_columns)
        for text in selection.partitions:
            if text.strip("/") in self.waiting:
                raise InputError(f"--partition {text} does not hold the ready file yet: wait for it, or load it first")
        candidates = (*named.values(), *gone.values(), *(others[name] for name in unclear))
        chosen = frozenset(name_of(p.values) for p in select(Layout(self.layout.columns, candidates), selection))
        digests = {name: (p, input_digest(p, self.root)) for name, p in named.items()}
        left |= {name: why for name, why in unclear.items() if name not in chosen}
        return FoundCorpus(
            digests,
            chosen & named.keys(),
            chosen & gone.keys(),
            waiting,
            left,
            {name: why for name, why in unclear.items() if name in chosen},
            in_groups=not self.layout.columns,
        )

    def _sees(self, path: str) -> bool:
        """Whether a file or directory with this path below `base` would have been listed."""
        return any(all(map(fnmatchcase, path.split("/"), pattern)) for pattern in self.sight)

    def _without_files(self, names: Collection[str]) -> dict[str, str]:
        """For each partition, why no file of it was found; partitions whose directories are gone are left out."""
        if self.fs is None or not self.layout.columns:
            return {}
        fs, base, listed = self.fs, self.base.rstrip("/"), dict[str, frozenset[str]]()
        seen = [name for name in names if self._sees(name)]
        few = len(seen) <= _FEW

        def names_in(directory: str) -> frozenset[str]:
            if directory not in listed:  # each directory is listed only once
                found = fs.names(f"{base}/{directory}") if is_there(directory) else []
                listed[directory] = frozenset(found)
            return listed[directory]

        def is_there(directory: str) -> bool:
            above, _, own = directory.rpartition("/")
            return not own or (fs.exists(f"{base}/{directory}") if few else own in names_in(above))

        def somewhere(directory: str, holds: Callable[[str], bool]) -> bool:
            """Whether `holds` is true of a name in the directory or in one above it that is below `base`."""
            above = directory.rpartition("/")[0]
            return any(map(holds, names_in(directory))) or (bool(above) and somewhere(above, holds))

        def has_files_now(directory: str) -> bool:
            try:
                files = list(fs.files(f"{base}/{directory}"))
            except FileNotFoundError:
                return True
            return any(not is_hidden(relative_path(f.path, f"{base}/{directory}")) for f in files)

        def why(name: str) -> str | None:
            written = somewhere(name, _is_written)
            if not (written or is_there(name)):
                return None
            if self.ready_file is not None and not somewhere(name, self.ready_file.__eq__):
                return NOT_READY
            if written:
                return WRITTEN
            if not names_in(name) or not has_files_now(name):
                return EMPTY
            # Either the path does not include these files, or they have come since it was listed.
            return OUTSIDE if any(len(pattern) > name.count("/") + 1 for pattern in self.sight) else WRITTEN

        reasons = {name: why(name) for name in seen} | {name: OUTSIDE for name in names if not self._sees(name)}
        return {name: reason for name, reason in reasons.items() if reason is not None}


def find_files(spark: SparkSession, settings: InputSettings, groups: Mapping[str, Sequence[str]]) -> Corpus:
    """Find the corpus under input.path; `groups` are the ledger's groups of files, if there are no partition columns.

    Raises:
        InputError: the corpus is missing or empty, or it is a Delta, Iceberg or Hudi table.
        SettingsError: input.partition_columns does not match the corpus's directories.
    """
    assert settings.path is not None
    fs, path = locate(spark, settings.path)
    try:
        roots = fs.expand(path)
        if not roots:
            raise InputError(f"input.path {settings.path} is not there: correct it, or load the corpus first")
        root = _root_of(path, roots)
        files = [f for r in roots for f in fs.files(r)]
    except OSError as error:
        kind = MachinesLostError if error.errno == errno.EAGAIN else InputError  # an outage is nobody's mistake
        raise kind(
            f"input.path {settings.path} can't be listed ({error.strerror}): "
            f"{cure_of(error, 'check the path and its permissions')}"
        ) from None
    if root in roots and any(f.path == root for f in files):
        root = os.path.dirname(root)  # a single file: Spark wants a directory for its basePath
    _refuse_foreign_table(root, files)
    in_directories = layout_of(root, files)
    if not in_directories.partitions:
        raise InputError(
            f"input.path {settings.path} has no data files in it: load the corpus first, or correct the path"
        )
    layout, waiting = _ready(settings, _checked_layout(settings, in_directories), files, root)
    if not layout.columns:
        layout = grouped((f for p in layout.partitions for f in p.files), root, groups)
    # Files of groups are named from the root on.
    base = _base_of(in_directories, root) if layout.columns else root
    sight = _sight(path, roots, base)
    return Corpus(
        layout, path, fs, root, in_directories.columns, frozenset(), base, sight, settings.ready_file, waiting
    )


def _ready(
    settings: InputSettings, layout: Layout, files: Sequence[FileInfo], root: str
) -> tuple[Layout, frozenset[str]]:
    """The partitions whose files all lie in or below a directory with the ready file, and the names of the others."""
    if settings.ready_file is None:
        return layout, frozenset()
    marked = {os.path.dirname(f.path) for f in files if os.path.basename(f.path) == settings.ready_file}
    known: dict[str, bool] = {root: root in marked}

    def is_ready(folder: str) -> bool:
        if folder not in known:
            known[folder] = folder in marked or (len(folder) > len(root) and is_ready(os.path.dirname(folder)))
        return known[folder]

    ready = {p.values for p in layout.partitions if all(is_ready(os.path.dirname(f.path)) for f in p.files)}
    waiting = frozenset(_name(layout, p) for p in layout.partitions if p.values not in ready)
    return replace(layout, partitions=tuple(p for p in layout.partitions if p.values in ready)), waiting


def _name(layout: Layout, partition: Partition) -> str:
    return layout.name(partition.values) if layout.columns else WHOLE


def _checked_layout(settings: InputSettings, found: Layout) -> Layout:
    """The layout by the columns in the settings, which must be the first columns of the directories."""
    columns = found.columns if settings.partition_columns is None else tuple(settings.partition_columns)
    if columns != found.columns[: len(columns)]:
        have = ", ".join(found.columns) or "none"
        raise SettingsError(
            f"input.partition_columns {list(columns)}: the directories under {settings.path} have {have}; "
            "name them in that order, or write the corpus with partitionBy"
        )
    if taken := {c.lower() for c in columns} & {f.name for f in SCORE_FIELDS}:
        raise SettingsError(
            f"partition column {sorted(taken)[0]} has the name of a score column: rename its directories"
        )
    if clash := {c.lower() for c in (*settings.carried_columns, settings.text_column)} & {c.lower() for c in columns}:
        raise SettingsError(f"{sorted(clash)[0]} is a partition column already: leave it out of the kept columns")
    merged: dict[Values, list[FileInfo]] = {}
    for partition in found.partitions:
        merged.setdefault(partition.values[: len(columns)], []).extend(partition.files)
    return Layout(columns, tuple(Partition(values, tuple(files)) for values, files in merged.items()))


def _refuse_foreign_table(root: str, files: Iterable[FileInfo]) -> None:
    """Refuse Delta, Iceberg and Hudi tables: their files hold deleted rows too and must not be read as plain files."""
    for file in files:
        folder = os.path.dirname(file.path)
        kinds = set(relative_path(folder, root).split("/")) & _FOREIGN_TABLES.keys() if folder != root else set()
        if not kinds or (kinds == {"metadata"} and not file.path.endswith((".metadata.json", ".avro"))):
            continue
        raise InputError(
            f"{root} is a {_FOREIGN_TABLES[sorted(kinds)[0]]} table, whose files hold deleted rows too: "
            "register it in the catalog and set input.table"
        )


def _is_written(name: str) -> bool:
    return name.startswith(_BEING_WRITTEN) or name.endswith("._COPYING_")


def _base_of(layout: Layout, root: str) -> str:
    """The directory that holds the partition directories: `root`, or a directory below it."""
    file = next((f.path for p in layout.partitions for f in p.files), root)
    if not layout.columns or file == root:
        return root
    levels = os.path.dirname(relative_path(file, root)).split("/")
    last = max(i for i, level in enumerate(levels) if "=" in level)
    return "/".join([root.rstrip("/"), *levels[: last + 1 - len(layout.columns)]])


def _sight(path: str, roots: Sequence[str], base: str) -> tuple[tuple[str, ...], ...]:
    """Patterns for fnmatch, by level, for what `path` lists below `base`; `path` may be a Hadoop glob."""
    paths = [glob.escape(path)] if list(roots) == [path] else [p.replace("[^", "[!") for p in alternatives(path)]
    above = len(base.rstrip("/").split("/"))
    return tuple(tuple(p.rstrip("/").split("/")[above:]) for p in paths)


def _root_of(path: str, roots: Sequence[str]) -> str:
    """The directory below which column=value directories count as partitions: above any glob and any column=value."""
    parts = (path if len(roots) != 1 or roots[0] != path else roots[0]).rstrip("/").split("/")
    for i, part in enumerate(parts):
        if "=" in part or set(part) & set("*?[{"):
            return "/".join(parts[:i]) or "/"
    return "/".join(parts)
