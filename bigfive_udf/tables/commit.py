"""How a step of a run becomes part of the table: it is announced, published and entered in the ledger, in this order.

    1. <output>.job/commit.json announces the commit: the staged partitions and their ledger entries
    2. the table publishes the partitions: new rows replace the old ones, in one change where the storage can do that
    3. the ledger gets the entries
    4. the replaced rows are put away (in a Parquet table: to the trash), and commit.json is deleted

A run that dies before 1 has changed nothing; the next run deletes its staging. If a run dies later, the next run first
finishes the commit from commit.json: publishing and entering once more changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

from bigfive_udf.errors import OutputError, TableLockedError
from bigfive_udf.tables.failures import as_output_error
from bigfive_udf.tables.filesystem import FileSystem
from bigfive_udf.tables.ledger import Entry, Ledger

JOURNAL = "commit.json"


@dataclass(frozen=True)
class Commit:
    """Entries that are committed together, and the directory with the new rows of all but the removed partitions."""

    commit: str
    """name of the commit: the run and the step"""
    staging: str
    entries: tuple[Entry, ...]

    def text(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def parse(cls, text: str) -> Commit:
        content = json.loads(text)
        entries = tuple(Entry.parse(json.dumps(e)) for e in content["entries"])
        return cls(content["commit"], content["staging"], entries)


class Publisher(Protocol):
    """The methods of a table that a commit needs."""

    def publish(self, commit: Commit, previous: Mapping[str, Entry]) -> None:
        """Replace the old rows, as readers see them, by the new ones; safe to repeat after any attempt."""

    def discard(self, commit: Commit) -> None:
        """Put away the rows that the commit has replaced, and clear its staging."""


def announced(fs: FileSystem, journal: str) -> Commit | None:
    """The commit that is under way, or that a dead run has left unfinished; None where there is none.

    Raises:
        OutputError: the journal can't be read, or is damaged.
    """
    with as_output_error(journal):
        try:
            text = fs.read(journal)
        except FileNotFoundError:
            return None
    try:
        return Commit.parse(text)
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{journal} is damaged ({error}): restore it, it says what a commit lacks") from None


class Committer:
    """The one place that commits. `ours` tells whether the table is still held by this run."""

    def __init__(
        self, fs: FileSystem, job_path: str, table: Publisher, ledger: Ledger, ours: Callable[[], bool]
    ) -> None:
        self._fs = fs
        self._journal = f"{job_path}/{JOURNAL}"
        self._table = table
        self._ledger = ledger
        self._ours = ours
        self._begun = ""

    def begun(self, commit: str) -> bool:
        """Whether that commit may have been announced, so that its staging must stay."""
        return self._begun == commit

    def commit(self, commit: Commit) -> None:
        """Commit a step.

        Raises:
            OutputError: the table can't be written; the next run finishes the commit if it was announced.
            TableLockedError: another run has taken the table over, or could have.
        """
        with as_output_error(self._journal):
            held = self._ours()
        if not held:
            raise TableLockedError(
                f"{self._journal.rsplit('/', 1)[0]} is no longer held by this run: another one took it over, or could "
                "have, for this one or its storage stood still for too long: nothing more is committed; run it again"
            )
        self._begun = commit.commit
        with as_output_error(self._journal):
            try:
                self._fs.put(self._journal, commit.text())
            except OSError:
                self._begun = ""  # a file is put whole or not at all
                raise
        self._finish(commit)

    def recover(self) -> Commit | None:
        """Finish the commit that a dead run had announced, and return it."""
        commit = announced(self._fs, self._journal)
        if commit is not None:
            self._finish(commit)
        return commit

    def _finish(self, commit: Commit) -> None:
        self._table.publish(commit, self._ledger.committed)
        with as_output_error(self._journal):
            self._ledger.append(commit.commit, commit.entries)
            self._table.discard(commit)
            self._fs.delete(self._journal)
