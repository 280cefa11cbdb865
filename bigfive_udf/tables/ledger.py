"""The ledger: what has been scored, one small entry for every committed partition, written last.

<output>.job/ledger/00000007-<commit>.jsonl: the entries of one commit, a JSON object a line. An entry with a higher
`sequence` replaces an older entry of the same partition. Files are written whole and never changed; when there are
many, one new file takes over the entries that still count, and the older files are deleted. So a ledger of 10,000
partitions is read in a few requests, and a commit costs one request, whatever the size of the table.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from bigfive_udf.errors import OutputError
from bigfive_udf.tables.filesystem import FileSystem

COMMITTED, REMOVED = "committed", "removed"
_MOST_FILES = 32


@dataclass(frozen=True)
class Entry:
    """What is known of one partition of the table: what it was made from and how, and what it holds."""

    partition: str
    values: Mapping[str, str | None]
    state: str
    sequence: int
    commit: str
    run_id: str
    committed_at: str
    fingerprint: str = ""
    input: str = ""
    """digest of the input files"""
    input_files: int = 0
    input_bytes: int = 0
    group: tuple[str, ...] = ()
    """the input files, relative to the corpus, where the partition is a group of files"""
    model_id: str = ""
    precision: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """the settings that change scores"""
    columns: Mapping[str, str] = field(default_factory=dict)
    """the carried columns and their Spark types"""
    pseudonyms: Mapping[str, str] = field(default_factory=dict)
    """the pseudonymised columns, each with the fingerprint of its key"""
    thresholds: Mapping[str, float | None] = field(default_factory=dict)
    documents: int = 0
    scored: int = 0
    empty: int = 0
    failed: int = 0
    truncated: int = 0
    n_tokens: int = 0
    n_windows: int = 0
    seconds: float = 0.0
    """the partition's share of the seconds that its step took"""
    cores: int = 0
    """cores of the tasks that ran at once in that step; 0 in entries of versions that did not keep it"""
    device: str = ""
    """what computed, cpu or cuda; empty in entries of versions that did not keep it"""
    files: tuple[tuple[str, int], ...] = ()
    """the files of the table: name as in `ScoreTable.table_files`, size in bytes"""

    def line(self) -> str:
        return json.dumps(asdict(self))  # the columns keep their order

    @classmethod
    def parse(cls, line: str) -> Entry:
        content = json.loads(line)
        content["group"] = tuple(content["group"])
        content["files"] = tuple((name, int(size)) for name, size in content["files"])
        known = {f.name for f in fields(cls)}  # a later version's ledger can be read after going back
        return cls(**{name: value for name, value in content.items() if name in known})


class Ledger:
    """The entries of a table, as they are on storage; `directory` is <output>.job/ledger."""

    def __init__(self, fs: FileSystem, directory: str) -> None:
        self._fs = fs
        self._directory = directory
        self._entries: dict[str, Entry] = {}
        self._commits: dict[str, datetime] = {}
        self._files = [n for n in fs.names(directory) if n.endswith(".jsonl")]
        self.sequence = max((int(name.split("-")[0]) for name in self._files), default=0)
        for name in self._files:
            self._take(self._read(name))

    @property
    def committed(self) -> dict[str, Entry]:
        """The partitions that the table has, by name, in order."""
        return {name: e for name, e in sorted(self._entries.items()) if e.state == COMMITTED}

    @property
    def commits(self) -> Mapping[str, datetime]:
        """The time of each commit whose entries this object has read or appended; `compact` removes none of them."""
        return self._commits

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The files of every group that ever existed, by name; removed groups have none."""
        return {name: e.group if e.state == COMMITTED else () for name, e in self._entries.items()}

    def append(self, commit: str, entries: Iterable[Entry]) -> None:
        """Write the entries of one commit; repeating this changes nothing."""
        found = list(entries)
        name = f"{found[0].sequence:08d}-{commit}.jsonl"
        self._fs.put(f"{self._directory}/{name}", "".join(e.line() + "\n" for e in found))
        self._take(found)
        if name not in self._files:
            self._files.append(name)
        self.sequence = max(self.sequence, found[0].sequence)

    def compact(self) -> None:
        """Merge all entries into one file if there are many files."""
        if len(self._files) <= _MOST_FILES:
            return
        old = sorted(self._files)
        self.sequence += 1
        name = f"{self.sequence:08d}-all.jsonl"
        # Removed entries too: the number of a group is never used twice.
        content = "".join(e.line() + "\n" for _, e in sorted(self._entries.items()))
        self._fs.put(f"{self._directory}/{name}", content)
        self._files = [name]
        for file in old:
            self._fs.delete(f"{self._directory}/{file}")

    def _take(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            with contextlib.suppress(ValueError):  # somebody has edited the ledger by hand
                self._commits[entry.commit] = datetime.fromisoformat(entry.committed_at)
            known = self._entries.get(entry.partition)
            if known is None or entry.sequence >= known.sequence:
                self._entries[entry.partition] = entry

    def _read(self, name: str) -> list[Entry]:
        try:
            return [Entry.parse(line) for line in self._fs.read(f"{self._directory}/{name}").splitlines()]
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{self._directory}/{name} is damaged ({error}): restore it from a backup, or move it and the "
                "partitions that it names away and run again"
            ) from None


def removed(entry: Entry, **changes: Any) -> Entry:
    """The entry of a partition that is no longer in the table."""
    return replace(entry, state=REMOVED, files=(), **changes)
