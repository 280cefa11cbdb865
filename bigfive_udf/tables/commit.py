"""How a step of a run becomes part of the table: announced, published, entered in the ledger, in this order.

    1. <output>.job/commit.json says what is about to happen: which staged partitions, and their ledger entries
    2. the table publishes them, so that every reader finds the old rows of a partition or the new ones
    3. the ledger gets its entries
    4. what was replaced goes to the trash, and commit.json goes

A run that dies before 1 has changed nothing, and its staging is thrown away. One that dies later is finished by the
next run from commit.json, before that run does anything else: publishing and entering once more changes nothing.
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
    """Entries that are committed together, and the directory that holds the new rows of those that are not removed."""

    commit: str
    """names it: the run and the step"""
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
    """A kind of table, as a commit needs it."""

    def publish(self, commit: Commit, previous: Mapping[str, Entry]) -> None:
        """Show the new rows to readers in the place of the old ones; done already, in whole or in part, is fine."""

    def discard(self, commit: Commit) -> None:
        """Put away what the commit has replaced."""


def announced(fs: FileSystem, journal: str) -> Commit | None:
    """The commit that a run has begun, or that one which died has left; None where there is none.

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
            OutputError: the table can't be written; what is not finished, the next run finishes.
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
        """Finish what a dead run had announced, and say what it was."""
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
