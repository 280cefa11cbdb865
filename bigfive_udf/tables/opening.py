"""Opening a table to write to it: one run holds the table, and first mends what a dead run has left half done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bigfive_udf.errors import OutputError
from bigfive_udf.runs import Run
from bigfive_udf.settings.score import OutputSettings
from bigfive_udf.tables.commit import JOURNAL, Commit, Committer, announced
from bigfive_udf.tables.failures import as_output_error
from bigfive_udf.tables.filesystem import FileSystem
from bigfive_udf.tables.iceberg_table import IcebergTable
from bigfive_udf.tables.ledger import Ledger
from bigfive_udf.tables.lock import only_writer
from bigfive_udf.tables.parquet_table import ParquetTable
from bigfive_udf.tables.partitions import is_hidden, relative_path
from bigfive_udf.tables.score_table import ScoreTable, check_columns, check_kind, claim, described

_LOOKS = 5


@dataclass
class OpenTable:
    """A table's place and ledger, and how to change the table; `ours` tells whether this run still holds it."""

    fs: FileSystem
    path: str
    output: OutputSettings
    ledger: Ledger
    there: tuple[str, tuple[str, ...]] | None
    """the kind and the partition columns; None where there is no table yet, or only an empty one"""
    ours: Callable[[], bool] | None = None
    """None where the table is only looked at; another run may be writing it then"""
    mended: list[str] = field(default_factory=list)
    """a message for each thing that a dead run had left and that was mended"""

    @property
    def job_path(self) -> str:
        return f"{self.path.rstrip('/')}.job"

    def shaped(self, columns: Sequence[str]) -> ScoreTable:
        """The table with the corpus's partition columns.

        Raises:
            RefusedError: the table has other partition columns.
        """
        if self.there is not None:
            check_columns(self.path, self.there, columns)
        return make_table(self.fs, self.path, self.output, columns)

    def damaged(self, table: ScoreTable) -> frozenset[str]:
        """The partitions whose files differ from the ledger.

        Raises:
            OutputError: the table holds files that no run has written.
        """
        if self.there is None:
            return frozenset()
        if self.ours is not None:
            return table.damaged(self.ledger.committed)
        # A run may be committing at this moment, or may have died while committing, which the next run sets right.
        for _ in range(_LOOKS):
            read, found, error = self.ledger.sequence, frozenset[str](), None
            commit = announced(self.fs, f"{self.job_path}/{JOURNAL}")
            try:
                found = table.damaged(self.ledger.committed, commit.entries if commit else ())
            except OutputError as e:
                error = e
            if not found and error is None:
                break
            self.ledger = _ledger(self.fs, self.path)
            if self.ledger.sequence == read:
                break
        if error is not None:
            raise error
        return found

    def committer(self, table: ScoreTable) -> Committer:
        assert self.ours is not None
        if self.there is None:
            claim(table, table.columns)
            self.there = (table.kind, tuple(table.columns))
        return Committer(self.fs, self.job_path, table, self.ledger, self.ours)

    def put(self, name: str, content: str, private: bool = False) -> None:
        """Keep a small file beside the table, such as a run's record."""
        with as_output_error(self.job_path):
            self.fs.put(f"{self.job_path}/{name}", content, private)


def make_table(fs: FileSystem, path: str, output: OutputSettings, columns: Sequence[str]) -> ScoreTable:
    """The table of the kind that the settings name."""
    if output.format == "iceberg":
        return IcebergTable(fs, path, output.catalog, output.table or "bigfive.scores", tuple(columns))
    return ParquetTable(fs, path, tuple(columns))


def look_at(fs: FileSystem, path: str, output: OutputSettings) -> OpenTable:
    """The table as it is, for a plan that is not carried out: nothing is held, mended or written."""
    ledger = _ledger(fs, path)
    there = _begun(fs, path, ledger)
    if there is not None:
        check_kind(path, there, output.format)
    return OpenTable(fs, path, output, ledger, there)


@contextmanager
def open_to_write(fs: FileSystem, path: str, output: OutputSettings, run: Run) -> Iterator[OpenTable]:
    """Hold the table while the block runs, after finishing or undoing what a dead run has left.

    Raises:
        TableLockedError: another run holds it.
        OutputError: the table can't be written, or holds files of somebody else.
        RefusedError: the table is of another kind.
    """
    described(fs, path)  # refuses somebody else's files before taking the lock
    with only_writer(fs, f"{path.rstrip('/')}.job/lock", path, run) as ours:
        opened = look_at(fs, path, output)
        opened.ours = ours
        table = make_table(fs, path, output, () if opened.there is None else opened.there[1])
        if opened.there is not None and (finished := opened.committer(table).recover()) is not None:
            opened.mended.append(f"finished {_names(finished)}, which a run that died had begun to commit")
        for commit in table.unfinished():
            table.abandon(commit)
            opened.mended.append(f"threw away step {commit}, which a run that died had not committed")
        yield opened


def _begun(fs: FileSystem, path: str, ledger: Ledger) -> tuple[str, tuple[str, ...]] | None:
    """Like `described`, but None where no run has committed anything: the next run may begin the table in another way.

    An Iceberg table keeps its kind and columns, because it may be in its catalog already.
    """
    there = described(fs, path)
    if there is None or there[0] != "parquet" or ledger.sequence:
        return there
    with as_output_error(path):
        rows = any(not is_hidden(relative_path(f.path, path)) for f in fs.files(path)) if fs.exists(path) else False
        return there if rows or fs.exists(f"{path.rstrip('/')}.job/{JOURNAL}") else None


def _ledger(fs: FileSystem, path: str) -> Ledger:
    with as_output_error(path):
        return Ledger(fs, f"{path.rstrip('/')}.job/ledger")


def _names(commit: Commit) -> str:
    names = [e.partition for e in commit.entries]
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]} ({len(names)} partitions)"
