"""A corpus of files: where they are, and how they are divided into partitions.

Finding it lists every file once. Which partitions are waiting for their ready file, and why a partition has no file, is
decided from names alone; what is in the files is read in input/reading.py.
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
from bigfive_udf.spark.input.columns import TableColumns
from bigfive_udf.spark.input.corpus import EMPTY, WHOLE, Corpus
from bigfive_udf.spark.input.readable import Readable
from bigfive_udf.spark.input.reading import Reader
from bigfive_udf.spark.storage import locate
from bigfive_udf.tables.failures import cure_of
from bigfive_udf.tables.filesystem import FileInfo, FileSystem, alternatives
from bigfive_udf.tables.groups import grouped
from bigfive_udf.tables.partitions import Layout, Partition, Values, is_hidden, layout_of, relative_path
from bigfive_udf.tables.plan import NOT_READY, OUTSIDE, WRITTEN
from bigfive_udf.traits import SCORE_FIELDS

_FEW = 16
"""The most partition directories that are checked one by one; more are looked up in the lists of their parents."""
_BEING_WRITTEN = ("_temporary", "__magic", ".spark-staging", ".hive-staging")
"""Name prefixes of files and directories that Spark, Hive or Hadoop have not committed yet."""
_FOREIGN_TABLES = {"_delta_log": "Delta", "metadata": "Iceberg", ".hoodie": "Hudi"}


@dataclass(frozen=True, kw_only=True)
class FileCorpus(Corpus):
    """Files under a path; directories called column=value divide them into partitions."""

    reader: Reader
    base: str
    """the directory that holds the partition directories; `root` where there are none"""
    sight: tuple[tuple[str, ...], ...]
    """patterns for the paths that were listed below `base`; each has one part per directory level"""

    def examine(self, partitions: Sequence[Partition], table: TableColumns) -> Readable:
        return self.reader.examine(partitions, table)

    def sees(self, path: str) -> bool:
        return any(all(map(fnmatchcase, path.split("/"), pattern)) for pattern in self.sight)

    def without_files(self, names: Collection[str]) -> dict[str, str]:
        if not self.layout.columns:
            return {}
        seen = [name for name in names if self.sees(name)]
        directories = _Directories(self.reader.fs, self.base.rstrip("/"), one_by_one=len(seen) <= _FEW)
        reasons = {name: self._why_without_files(name, directories) for name in seen}
        reasons |= {name: OUTSIDE for name in names if not self.sees(name)}
        return {name: reason for name, reason in reasons.items() if reason is not None}

    def _why_without_files(self, name: str, directories: _Directories) -> str | None:
        """Why no file of this partition was found; None if its directory is gone."""
        written = directories.holds(name, _is_written)
        if not (written or directories.exists(name)):
            return None
        ready_file = self.reader.settings.ready_file
        if ready_file is not None and not directories.holds(name, ready_file.__eq__):
            return NOT_READY
        if written:
            return WRITTEN
        if not directories.names(name) or not directories.has_files(name):
            return EMPTY
        # Either the path does not include these files, or they have come since it was listed.
        return OUTSIDE if any(len(pattern) > name.count("/") + 1 for pattern in self.sight) else WRITTEN


class _Directories:
    """The directories below `base`, which holds the partition directories, as they are now."""

    def __init__(self, fs: FileSystem, base: str, one_by_one: bool) -> None:
        self._fs, self._base, self._one_by_one = fs, base, one_by_one
        self._listed: dict[str, frozenset[str]] = {}

    def names(self, directory: str) -> frozenset[str]:
        """The names in the directory, listed only once; none if it is not there."""
        if directory not in self._listed:
            found = self._fs.names(f"{self._base}/{directory}") if self.exists(directory) else []
            self._listed[directory] = frozenset(found)
        return self._listed[directory]

    def exists(self, directory: str) -> bool:
        above, _, own = directory.rpartition("/")
        return not own or (
            self._fs.exists(f"{self._base}/{directory}") if self._one_by_one else own in self.names(above)
        )

    def holds(self, directory: str, what: Callable[[str], bool]) -> bool:
        """Whether `what` is true of a name in the directory or in one above it that is below `base`."""
        above = directory.rpartition("/")[0]
        return any(map(what, self.names(directory))) or (bool(above) and self.holds(above, what))

    def has_files(self, directory: str) -> bool:
        """Whether there are data files anywhere below the directory; yes if it goes away meanwhile."""
        whole = f"{self._base}/{directory}"
        try:
            files = list(self._fs.files(whole))
        except FileNotFoundError:
            return True
        return any(not is_hidden(relative_path(f.path, whole)) for f in files)


def find_files(spark: SparkSession, settings: InputSettings, groups: Mapping[str, Sequence[str]]) -> FileCorpus:
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
    return FileCorpus(
        layout=layout,
        source=path,
        root=root,
        waiting=waiting,
        reader=Reader(spark, settings, fs, root, layout.columns, in_directories.columns),
        base=base,
        sight=_sight(path, roots, base),
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
