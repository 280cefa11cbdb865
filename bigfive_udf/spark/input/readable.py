"""Partitions that were examined before a run scores them: their rows, how many there are, and what is wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from bigfive_udf.errors import InputError, SettingsError
from bigfive_udf.redaction import first_line
from bigfive_udf.spark.failures import spark_failures
from bigfive_udf.spark.storage import quoted
from bigfive_udf.tables.partitions import Layout, Partition, Values

_SAMPLED_PARTITIONS = 8


@dataclass(frozen=True)
class Sizes:
    """What is known of partitions before their rows are read; each maps some of them to a number."""

    rows: Mapping[Values, int] = field(default_factory=dict)
    """rows to score"""
    stored_rows: Mapping[Values, int] = field(default_factory=dict)
    """rows in the files; `input.where` may leave some of them out"""
    text_bytes: Mapping[Values, int] = field(default_factory=dict)
    """bytes of the stored texts, compressed; for a catalog table of its files, shared ones in equal parts"""


@dataclass(frozen=True)
class Readable:
    """The partitions that are fit to be read together, and for each of the others the reason why not."""

    layout: Layout
    columns: Mapping[str, str]
    """the carried columns and their Spark types"""
    unfit: Mapping[Values, str]
    load: Callable[[Sequence[Partition]], DataFrame] = field(repr=False)
    """the rows of some partitions: carried columns, text, and the columns that identify the partition"""
    sizes: Sizes = field(default_factory=Sizes, repr=False)

    def text_bytes(self, partition: Partition, rows: int) -> int:
        """Roughly the stored bytes of `rows` texts of a partition, a measure of the work.

        If the size of the texts is not known, the size of the partition's files is used.
        """
        size = self.sizes.text_bytes.get(partition.values, partition.size)
        stored = self.sizes.stored_rows.get(partition.values, 0)
        return size * rows // stored if stored > rows else size

    def sample(self, text_column: str, number: int, characters: int, with_empty: bool = True) -> list[str]:
        """About `number` texts: the first ones of some fit partitions, evenly chosen; a null text becomes empty.

        Of each only the first `characters` come to the driver: a text may be larger than its memory.
        """
        fit = [p for p in self.layout.partitions if p.size or p.version]
        chosen = fit[:: -(-len(fit) // _SAMPLED_PARTITIONS)] if fit else []
        text = F.coalesce(F.col(quoted(text_column)), F.lit(""))
        wanted = F.lit(True) if with_empty else text.rlike(r"\S")
        texts: list[str] = []
        # The largest partitions come last: they make up for texts that the others lack.
        for k, partition in enumerate(sorted(chosen, key=lambda p: p.size)):
            each = -(-(number - len(texts)) // (len(chosen) - k))
            # A partition that can't be read is reported when it is to be scored.
            with contextlib.suppress(InputError), spark_failures():
                beginning = F.substring(text, 1, characters).cast("binary")
                rows = self.load([partition]).where(wanted).select(beginning).limit(each)
                texts += [bytes(row[0]).decode("utf-8", errors="replace") for row in rows.collect()]
        return texts

    def counted(self) -> tuple[Readable, dict[Values, int]]:
        """Count the rows of every partition; a partition whose rows can't be read is no longer fit."""
        if not self.layout.partitions:
            return self, {}
        rows: dict[Values, int] = {}
        unfit = dict(self.unfit)
        pending = [self.layout.partitions]
        while pending:
            some = pending.pop()
            try:
                rows |= self._count(some)
            except InputError as error:
                # One file that can't be read fails the whole Spark job: halve until it is found.
                half = len(some) // 2
                if half:
                    pending += [some[half:], some[:half]]
                else:
                    unfit[some[0].values] = str(error)
        fit = tuple(p for p in self.layout.partitions if p.values in rows)
        return replace(self, layout=replace(self.layout, partitions=fit), unfit=unfit), rows

    @spark_failures()
    def _count(self, partitions: Sequence[Partition]) -> dict[Values, int]:
        """Rows of each partition, zero if `input.where` leaves none; by a Spark job where they are not known."""
        if all(p.values in self.sizes.rows for p in partitions):
            return {p.values: self.sizes.rows[p.values] for p in partitions}
        keys = self.layout.keys
        groups = self.load(partitions).groupBy(*[F.col(quoted(c)).cast("string").alias(c) for c in keys]).count()
        found = {tuple(row[: len(keys)]): int(row["count"]) for row in groups.collect()}
        return {p.values: found.get(p.values, 0) for p in partitions}


def with_condition(frame: DataFrame, condition: str | None) -> DataFrame:
    """The rows that fulfil input.where; all of them where there is none."""
    try:
        return frame if condition is None else frame.where(condition)
    except Exception as error:
        raise SettingsError(
            f"input.where {condition!r} is no condition on the corpus's columns ({first_line(str(error))})"
        ) from None
