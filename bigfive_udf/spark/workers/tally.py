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
    """The work that was done.

    A task that Spark runs twice counts twice, so the check that no row is lost uses the table's own counts instead.
    """

    documents: int = 0
    effort: Effort = field(default_factory=Effort)
    loads: Counter[str] = field(default_factory=Counter)
    """model loads by worker process (host and process id)"""
    load_seconds: float = 0.0
    excerpts: list[str] = field(default_factory=list)
    """if the settings ask for it: reasons and beginnings of the first texts that could not be scored"""
    threads: int = 0
    """largest number of threads that a worker computed with"""
    heard: Heard = field(default_factory=Heard)
    """the workers' warnings"""

    def __add__(self, other: Tally) -> Tally:
        """A new tally; it shares with this one, without copying, the parts to which `other` adds nothing.

        The driver's scheduler waits for one addition after each task, and a large cluster ends hundreds of tasks per
        second.
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
        return value1 + value2  # the driver's value may be read at this moment: it is replaced, never changed


def tally_accumulator(context: SparkContext) -> Accumulator[Tally]:
    """An accumulator that Spark updates whenever a task ends."""
    return context.accumulator(Tally(), _TallyParam())
