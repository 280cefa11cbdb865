"""A score table as plain Parquet directories that every tool reads, replaced partition by partition.

<output>/dt=2026-11-22/part-….parquet, _SUCCESS     a partition is a directory, which is exchanged as a whole
<output>/group-000001.parquet, _SUCCESS             without partition columns, a group is one file, replaced by rename
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from bigfive_udf.errors import OutputError
from bigfive_udf.tables.commit import Commit
from bigfive_udf.tables.failures import as_output_error
from bigfive_udf.tables.filesystem import FileInfo, FileSystem
from bigfive_udf.tables.ledger import COMMITTED, Entry
from bigfive_udf.tables.partitions import GROUP, is_hidden, relative_path
from bigfive_udf.tables.score_table import time_of

SUCCESS = "_SUCCESS"


@dataclass(frozen=True)
class ParquetTable:
    """The table at `path`, on the file system `fs`, divided by `columns`."""

    fs: FileSystem
    path: str
    columns: tuple[str, ...]
    kind = "parquet"
    keeps_keys_in_files = False

    @property
    def grouped(self) -> bool:
        """Whether the table has groups of files instead of partition columns."""
        return not self.columns

    @property
    def job_path(self) -> str:
        return self.path.rstrip("/") + ".job"

    def staging(self, commit: str) -> str:
        return f"{self.job_path}/staging/{commit}"

    def abandon(self, commit: str) -> None:
        with as_output_error(self.job_path):
            self.fs.delete(self.staging(commit))

    def unfinished(self) -> list[str]:
        with as_output_error(self.job_path):
            return self.fs.names(f"{self.job_path}/staging")

    def table_files(self, commit: str, name: str, staged: Sequence[FileInfo]) -> tuple[tuple[str, int], ...]:
        if not self.grouped:
            return tuple((relative_path(f.path, f"{self.staging(commit)}/{name}"), f.size) for f in staged)
        if len(staged) > 1:
            raise AssertionError(f"{len(staged)} files were staged for {name}, which must be one")
        return tuple((f"{name}.parquet", f.size) for f in staged)

    def paths(self, entry: Entry) -> list[str]:
        folder = self.path if self.grouped else f"{self.path}/{entry.partition}"
        return [f"{folder}/{name}" for name, _ in entry.files]

    def publish(self, commit: Commit, previous: Mapping[str, Entry]) -> None:
        def one(entry: Entry) -> None:
            with as_output_error(f"{self.path}/{entry.partition}"):
                if self.grouped:
                    self._publish_group(commit, entry)
                elif entry.state == COMMITTED:
                    self._publish_partition(commit, entry)
                elif self.fs.exists(target := f"{self.path}/{entry.partition}"):
                    self.fs.move(target, f"{commit.staging}/{entry.partition}")

        self.fs.each(one, commit.entries)
        if self.grouped:
            with as_output_error(self.path):
                self.fs.put(f"{self.path}/{SUCCESS}", "")

    def _publish_partition(self, commit: Commit, entry: Entry) -> None:
        staged, target = f"{commit.staging}/{entry.partition}", f"{self.path}/{entry.partition}"
        new, there = set(entry.files), self._files(target)
        if there == new and (new or self.fs.exists(f"{target}/{SUCCESS}")):
            return
        if self._files(staged) != new:
            raise self._lost(commit, staged, entry)
        if there and there < new:
            self.fs.delete(target)  # an incomplete copy, on storage where a rename copies
        self.fs.delete(f"{staged}.old")
        self.fs.put(f"{staged}/{SUCCESS}", "")
        self.fs.swap_in(staged, target)

    def _publish_group(self, commit: Commit, entry: Entry) -> None:
        target, folder = f"{self.path}/{entry.partition}.parquet", f"{commit.staging}/{GROUP}={entry.partition}"
        if not entry.files:
            if self.fs.exists(target):
                self.fs.move(target, f"{folder}/replaced.parquet")
            return
        staged = [n for n in self.fs.names(folder) if not is_hidden(n)]
        if staged:
            self.fs.move(f"{folder}/{staged[0]}", target)
        elif self._files(target) != set(entry.files):  # else it was renamed already
            raise self._lost(commit, folder, entry)

    def _lost(self, commit: Commit, staged: str, entry: Entry) -> OutputError:
        return OutputError(
            f"{staged} no longer holds the rows that were to be published as {entry.partition}: move {commit.staging} "
            f"and {self.job_path}/commit.json away and run again, which scores that partition anew"
        )

    def discard(self, commit: Commit) -> None:
        with as_output_error(self.job_path):
            if self._files(commit.staging):
                self.fs.move(commit.staging, f"{self.job_path}/trash/{commit.commit}")
            else:
                self.fs.delete(commit.staging)

    def damaged(self, entries: Mapping[str, Entry], announced: Sequence[Entry] = ()) -> frozenset[str]:
        under_way = {e.partition for e in announced}
        expected = {path: name for name, e in entries.items() for path in self.paths(e)}
        sizes = {path: size for e in entries.values() for path, (_, size) in zip(self.paths(e), e.files, strict=True)}
        found: dict[str, int] = {}
        with as_output_error(self.path):
            for file in self.fs.files(self.path) if self.fs.exists(self.path) else ():
                if not is_hidden(relative_path(file.path, self.path)):
                    found[file.path] = file.size
        wrong = {expected[path] for path, size in sizes.items() if found.get(path) != size}
        for path in found.keys() - sizes.keys():
            relative = relative_path(path, self.path)
            owner = relative if self.grouped else relative.rpartition("/")[0]
            if (owner.removesuffix(".parquet") if self.grouped else owner) in under_way:
                continue
            if owner not in entries:
                raise OutputError(f"{path} was written by no run of this job: move it away, a table holds nothing else")
            wrong.add(owner)
        return frozenset(wrong - under_way)

    def clean(self, before: datetime, commits: Mapping[str, datetime]) -> None:
        with as_output_error(self.job_path):
            for commit in self.fs.names(f"{self.job_path}/trash"):
                # The commit's time, not its run's start: a run may take longer than the trash is kept. If later commits
                # replaced all its partitions, the ledger may no longer know it: then its run's start counts.
                replaced = commits.get(commit) or time_of(commit)
                if replaced is not None and replaced < before:
                    self.fs.delete(f"{self.job_path}/trash/{commit}")

    def _files(self, directory: str) -> set[tuple[str, int]]:
        if not self.fs.exists(directory):
            return set()
        found = ((relative_path(f.path, directory), f.size) for f in self.fs.files(directory))
        return {(name, size) for name, size in found if not is_hidden(name)}
