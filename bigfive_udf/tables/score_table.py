"""What the job needs of every kind of score table: to claim it, stage rows, publish them and clean up.

<output>/                                the table, and nothing else
<output>.job/table.json                  claims the table for this job: its kind and its partition columns
<output>.job/lock                        which run is writing the table
<output>.job/staging/<commit>            a step of a run that is not committed yet
<output>.job/commit.json                 a commit that is under way, see commit.py
<output>.job/ledger/                     what has been scored, see ledger.py
<output>.job/runs/<run_id>.json, .log    one record and one log for each run
<output>.job/trash/<commit>              replaced rows, until they expire
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from typing import Protocol

from bigfive_udf.errors import OutputError, RefusedError, SettingsError
from bigfive_udf.tables.commit import Commit
from bigfive_udf.tables.failures import as_output_error
from bigfive_udf.tables.filesystem import FileInfo, FileSystem, alternatives, local_path
from bigfive_udf.tables.ledger import Entry
from bigfive_udf.tables.partitions import Values, is_hidden, layout_of, relative_path

FORMAT_VERSION = 1


class ScoreTable(Protocol):
    """A kind of table. Only the run that holds the table changes it."""

    @property
    def fs(self) -> FileSystem: ...

    @property
    def path(self) -> str: ...

    @property
    def columns(self) -> tuple[str, ...]:
        """The partition columns; none where rows are divided into groups."""

    @property
    def kind(self) -> str:
        """parquet or iceberg."""

    @property
    def job_path(self) -> str:
        """Where the job keeps everything that is not the table."""

    @property
    def keeps_keys_in_files(self) -> bool:
        """Whether the files must hold the partition columns; otherwise only the directory names do."""

    def staging(self, commit: str) -> str:
        """Begin a step, and return the directory, not existing yet, to which Spark will write the step's rows."""

    def abandon(self, commit: str) -> None:
        """Throw away a step that is not committed."""

    def unfinished(self) -> list[str]:
        """The steps that were begun but neither committed nor abandoned."""

    def table_files(self, commit: str, name: str, staged: Sequence[FileInfo]) -> tuple[tuple[str, int], ...]:
        """The ledger's list of a partition's staged files: names as this kind of table uses them, and sizes."""

    def paths(self, entry: Entry) -> list[str]:
        """Where the files of a committed partition are."""

    def publish(self, commit: Commit, previous: Mapping[str, Entry]) -> None:
        """Replace the old rows, as readers see them, by the new ones; safe to repeat after any attempt.

        `previous` are the entries of the partitions that the table has, by name.
        """

    def discard(self, commit: Commit) -> None:
        """Put away the rows that the commit has replaced, and clear its staging."""

    def damaged(self, entries: Mapping[str, Entry], announced: Sequence[Entry] = ()) -> frozenset[str]:
        """The partitions whose files differ from their entry, except those of `announced`, a commit under way.

        Raises:
            OutputError: the table has partitions that no run has written.
        """

    def clean(self, before: datetime, commits: Mapping[str, datetime]) -> None:
        """Remove for good the rows that were replaced before that time; `commits` gives the time of each commit."""


def staged_files(fs: FileSystem, staging: str) -> dict[Values, tuple[FileInfo, ...]]:
    """The data files of a step, by the values of their partition."""
    if not fs.exists(staging):
        return {}
    return {p.values: p.files for p in layout_of(staging, fs.files(staging)).partitions}


def described(fs: FileSystem, path: str) -> tuple[str, tuple[str, ...]] | None:
    """The kind and the partition columns of the table at `path`; None where there is none yet. Nothing is written.

    Raises:
        OutputError: it can't be read, its description is damaged, or the directory holds files of somebody else.
    """
    about = f"{path.rstrip('/')}.job/table.json"
    with as_output_error(path):
        if not fs.exists(about):
            there = fs.files(path) if fs.exists(path) else iter(())
            if any(not is_hidden(relative_path(f.path, path)) for f in there):
                raise OutputError(
                    f"output.path {path} holds files that this job has not written: choose an empty or a new directory"
                )
            return None
        text = fs.read(about)
    try:
        content = json.loads(text)
        version, kind, columns = content["format_version"], content["format"], tuple(content["partition_columns"])
    except (ValueError, KeyError, TypeError):
        raise OutputError(f"{about} is damaged: restore it, or choose another output.path") from None
    if version != FORMAT_VERSION:
        raise OutputError(
            f"{about} has format_version {version}, this program writes {FORMAT_VERSION}: upgrade bigfive-udf"
        )
    return kind, columns


def check_kind(path: str, there: tuple[str, Sequence[str]], kind: str) -> None:
    """Raise RefusedError where the table at `path` is of another kind than the settings ask for."""
    if there[0] != kind:
        raise RefusedError(
            f"output.path {path} is a table of format {there[0]}, output.format is {kind}: set it to {there[0]}, or "
            "choose another output.path"
        )


def check_columns(path: str, there: tuple[str, Sequence[str]], columns: Sequence[str]) -> None:
    """Raise RefusedError where the table at `path` is partitioned in another way than the corpus."""
    if tuple(there[1]) != tuple(columns):
        raise RefusedError(
            f"output.path {path} is partitioned by {', '.join(there[1]) or 'nothing'}, the corpus by "
            f"{', '.join(columns) or 'nothing'}: rows would stand twice; choose another output.path"
        )


def claim(table: ScoreTable, columns: Sequence[str]) -> None:
    """Make the table's directory, and write down beside it how it is partitioned.

    Raises:
        OutputError: it can't be written.
    """
    content = {"format_version": FORMAT_VERSION, "format": table.kind, "partition_columns": list(columns)}
    with as_output_error(table.path):
        table.fs.put(f"{table.job_path}/table.json", json.dumps(content, indent=2) + "\n")
        table.fs.make_directory(table.path)


def keep_apart(table: str, corpus: str) -> None:
    """Raise SettingsError where the table lies in the corpus, which may be a glob, or the corpus in the table."""
    for pattern in alternatives(corpus):
        if all(a == b or fnmatchcase(a, b) for a, b in zip(_parts(table), _parts(pattern), strict=False)):
            raise SettingsError(
                f"output.path {table} and input.path {corpus} lie in one another: choose another output.path"
            )


def time_of(commit: str) -> datetime | None:
    """When a commit's run began, read from the start of the commit's name; None if it begins with no time."""
    try:
        return datetime.strptime(commit.split("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def _parts(path: str) -> list[str]:
    plain = local_path(path)
    return (path if plain is None else os.path.normpath(plain)).rstrip("/").split("/")
