"""What the workers did, added up on the driver while the job runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from pyspark import Accumulator, AccumulatorParam, SparkContext

from bigfive_udf.model.scores import Effort
from bigfive_udf.spark.workers.notes import Heard

MOST_EXCERPTS = 20


@dataclass
class Tally:
    """Work done. A task that Spark runs twice counts twice: that no row is lost is proved by the table's own counts."""

    documents: int = 0
    effort: Effort = field(default_factory=Effort)
    loads: Counter[str] = field(default_factory=Counter)
    """model loads by worker process (host and process id)"""
    load_seconds: float = 0.0
    excerpts: list[str] = field(default_factory=list)
    """beginnings of the first texts that could not be scored, where the settings ask for them, and why"""
    threads: int = 0
    """most threads that a worker computed with"""
    heard: Heard = field(default_factory=Heard)
    """what workers warned of"""

    def __add__(self, other: Tally) -> Tally:
        """A new tally, sharing with this one whatever `other` adds nothing to.

        The driver's scheduler waits for one addition after each task, and a large cluster ends hundreds in a second.
        """
        effort = replace(self.effort)
        effort += other.effort
        return Tally(
            documents=self.documents + other.documents,
            effort=effort,
            loads=self.loads + other.loads if other.loads else self.loads,
            load_seconds=self.load_seconds + other.load_seconds,
            excerpts=(self.excerpts + other.excerpts)[:MOST_EXCERPTS] if other.excerpts else self.excerpts,
            threads=max(self.threads, other.threads),
            heard=self.heard + other.heard,
        )


class _TallyParam(AccumulatorParam[Tally]):
    def zero(self, value: Tally) -> Tally:
        return Tally()

    def addInPlace(self, value1: Tally, value2: Tally) -> Tally:  # noqa: N802 (Spark's name)
        return value1 + value2  # the driver's value is read while tasks end: replaced, never changed under a reader


def tally_accumulator(context: SparkContext) -> Accumulator[Tally]:
    """An accumulator that Spark updates whenever a task ends."""
    return context.accumulator(Tally(), _TallyParam())
