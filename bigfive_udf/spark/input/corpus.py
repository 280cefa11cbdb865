"""The corpus: its partitions, and what a plan must know of them.

It is files under a path (input/files.py) or a table of the catalog (input/table.py). Files are found by listing each
once, without any Spark job. Only the partitions that a run is going to score are examined.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from bigfive_udf.errors import InputError
from bigfive_udf.spark.input.columns import TableColumns
from bigfive_udf.spark.input.readable import Readable
from bigfive_udf.tables.fingerprint import input_digest
from bigfive_udf.tables.ledger import Entry
from bigfive_udf.tables.partitions import Layout, Partition, Selection, select
from bigfive_udf.tables.plan import OUTSIDE, PARTLY_SEEN, WRITTEN, FoundCorpus

WHOLE = "the corpus"
"""Stands in `Corpus.waiting` for a corpus without partition columns; no partition directory can have this name."""
EMPTY = "it is there without any file"


@dataclass(frozen=True, kw_only=True)
class Corpus(ABC):
    """What there is to score: partitions, and the files in them."""

    layout: Layout
    source: str
    """the table, or the path as its file system spells it"""
    root: str = ""
    """the directory below which column=value directories count as partitions; empty for a table of the catalog"""
    numeric_columns: frozenset[str] = frozenset()
    """partition columns that are ordered as numbers"""
    waiting: frozenset[str] = frozenset()
    """names of the partitions that do not hold the ready file yet; `WHOLE` where there are no partition columns"""

    @abstractmethod
    def examine(self, partitions: Sequence[Partition], table: TableColumns) -> Readable:
        """Look at what the partitions that a run is to score hold, and which of them are fit to be read.

        Raises:
            InputError: no partition is fit, or the settings name columns that the corpus does not have.
            SettingsError: input.where is no condition on the corpus's columns.
        """

    @abstractmethod
    def sees(self, path: str) -> bool:
        """Whether it would have been found: a partition by this name, or the file of a group with this path."""

    @abstractmethod
    def without_files(self, names: Collection[str]) -> dict[str, str]:
        """For each partition, why no file of it was found; partitions that are gone are left out."""

    def found(self, selection: Selection, entries: Mapping[str, Entry]) -> FoundCorpus:
        """What a plan must know of the corpus; `entries` are the table's ledger entries by partition name.

        Raises:
            SettingsError: a flag does not name a partition column.
            InputError: a partition named on the command line is not there, or two partitions have the same name.
        """
        waiting = frozenset(entries) if WHOLE in self.waiting else self.waiting
        named = self._by_name()
        left, unclear = self._groups_out_of_sight(entries, named)
        named = {name: p for name, p in named.items() if name not in unclear}
        others = {name: Partition(tuple(e.values.values())) for name, e in entries.items() if name not in named}
        for name, about in self.without_files([n for n in others if n not in waiting]).items():
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
        name_of = self.layout.name
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

    def _by_name(self) -> dict[str, Partition]:
        named: dict[str, Partition] = {}
        for p in self.layout.partitions:
            if named.setdefault(name := self.layout.name(p.values), p) is not p:
                raise InputError(
                    f"{self.source} has two partitions {name}, by {named[name].values} and {p.values}: write one value"
                )
        return named

    def _groups_out_of_sight(
        self, entries: Mapping[str, Entry], named: Mapping[str, Partition]
    ) -> tuple[dict[str, str], dict[str, str]]:
        """The ledger's groups of files of which this run could see none, and those of which it saw only a part."""
        none: dict[str, str] = {}
        part: dict[str, str] = {}
        for name, entry in entries.items() if not self.layout.columns else ():
            seen = [self.sees(file) for file in entry.group]
            if not any(seen) and entry.group and name not in named:
                none[name] = OUTSIDE
            elif not all(seen):
                part[name] = PARTLY_SEEN
        return none, part
