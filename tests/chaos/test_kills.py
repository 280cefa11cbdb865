"""The driver dies, its JVM with it, at points spread over a whole night; the next run makes the table whole."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bigfive_udf.tables.ledger import Entry
from chaos.killed_at import AFTER, BEFORE, DURING, WRITE, Ended, Killer, Order
from chaos.nightly import Night, make_night
from chaos.tables import Seen, check_ledger_is_last, check_whole, same_rows
from support.jobs_here import arguments

KINDS = ("parquet", "iceberg")


@dataclass(frozen=True)
class Point:
    """When a run is killed: at the `nth` operation called `what`; `fresh`: in the very first run of a table."""

    what: str
    nth: int
    moment: str
    seconds: float = 0.0
    two_renames: bool = False
    fresh: bool = False

    def __str__(self) -> str:
        where = " of a new table" if self.fresh else " by two renames" if self.two_renames else ""
        return f"{self.moment} {self.what} {self.nth}{where}"


FEW = {
    "parquet": [Point("swap_in partition", 2, AFTER)],
    "iceberg": [Point("commit catalog", 2, AFTER)],
}


@dataclass
class Lane:
    """A table at a place of its own, and a copy of what it was before the night, from which every point begins."""

    seen: Seen
    aside: Path

    def restore(self, fresh: bool) -> None:
        self.seen.restore(self.aside / "nothing" if fresh else self.aside)


@dataclass
class Kills:
    """The night, and how to disturb it."""

    night: Night
    killer: Killer
    score_here: Callable[..., Any]
    directory: Path
    number: int = 0

    def lane(self, kind: str, name: str) -> Lane:
        seen = Seen(kind, self.directory / f"{kind}-{name}" / "scores")
        self.score_here(self.night.settings | seen.settings | {"input.path": str(self.night.before)})
        aside = self.directory / f"{kind}-{name}" / "aside"
        seen.save(aside)
        return Lane(seen, aside)

    def settings(self, seen: Seen) -> dict[str, Any]:
        return self.night.settings | seen.settings | {"input.path": str(self.night.now)}

    def disturbed(self, lane: Lane, point: Point | None) -> Ended:
        """A run from the lane's beginning, killed at `point`."""
        lane.restore(point is not None and point.fresh)
        self.number += 1
        place = self.directory / f"run-{self.number:03d}"
        order = Order([*arguments(self.settings(lane.seen)), *self.night.flags], str(place), str(lane.seen.output))
        if point is not None:
            order = replace(
                order, what=point.what, nth=point.nth, moment=point.moment, seconds=point.seconds,
                two_renames=point.two_renames,
            )  # fmt: skip
        return self.killer.run(order)

    def check_next_run(self, lane: Lane, point: Point, ended: Ended, expected: pa.Table) -> None:
        """A run as usual makes the table what an undisturbed night makes of it, and scores nothing twice."""
        assert ended.code == -signal.SIGKILL, f"{point}: {ended.code}\n{ended.printed}"
        seen = lane.seen
        check_ledger_is_last(seen)
        done = committed_or_announced(seen)
        run = self.score_here(self.settings(seen), *self.night.flags)
        check_whole(seen)
        same_rows(seen.rows(), expected)
        now = seen.entries()
        inputs = {name: e.input for name, e in now.items()}
        kept = {name: e for name, e in done.items() if inputs.get(name) == e.input}
        again = [name for name, e in kept.items() if now[name].run_id != e.run_id]
        assert not again, f"{point}: {again} were committed and were scored again"
        scored = {name for name, e in now.items() if e.run_id == run.run_id}
        assert scored == {task["partition"] for task in run.result["plan"]["score"]} == now.keys() - kept.keys()


def committed_or_announced(seen: Seen) -> dict[str, Entry]:
    """What a dead run has in the ledger, and what it had promised in its journal, which the next run keeps."""
    promised = seen.journal()
    return seen.entries() | ({e.partition: e for e in promised.entries} if promised else {})


def spread(operations: Sequence[dict[str, Any]], number: int) -> list[Point]:
    """Points over all operations of a run: every kind at least once, in different steps, at all three moments."""
    nights = Counter(op["what"] for op in operations)
    points = []
    for i, (what, times) in enumerate(nights.items()):
        moment = (BEFORE, AFTER, DURING)[i % 3]
        points.append(Point(what, 1 + (i * 7) % times, moment))
    rest = number - len(points)
    for i in range(max(rest, 0)):
        op = operations[(2 * i + 1) * len(operations) // (2 * rest)]
        points.append(Point(op["what"], op["nth"], (DURING, BEFORE, AFTER)[i % 3]))
    return list(dict.fromkeys(points))


def writes(operations: Sequence[dict[str, Any]]) -> list[Point]:
    """Points within Spark's writes: at the beginning, in the middle and near the end."""
    times = [op["time"] for op in operations]
    points = []
    for i, op in enumerate(operations):
        if op["what"] == WRITE and i + 1 < len(times):
            share = (0.1, 0.5, 0.8, 0.95)[len(points) % 4]
            points.append(Point(WRITE, op["nth"], DURING, round(share * (times[i + 1] - op["time"]), 2)))
    return points


@pytest.fixture
def kills(
    tmp_path: Path,
    models_to_change: tuple[Path, Path],
    killer: Killer,
    score_here: Callable[..., Any],
    short_runs: None,
) -> Kills:
    return Kills(make_night(tmp_path / "corpus", models_to_change[0]), killer, score_here, tmp_path)


def kill_at_each(kills: Kills, lanes: Sequence[Lane], points: Sequence[Point], expected: pa.Table) -> None:
    """One point after the other, each from the beginning; while one lane is checked, the next point runs in another."""
    with ThreadPoolExecutor(1) as ahead:
        running: list[Future[Ended]] = []
        for i, point in enumerate(points):
            if not running:
                running.append(ahead.submit(kills.disturbed, lanes[i % len(lanes)], point))
            ended = running.pop().result()
            if i + 1 < len(points) and len(lanes) > 1:
                running.append(ahead.submit(kills.disturbed, lanes[(i + 1) % len(lanes)], points[i + 1]))
            kills.check_next_run(lanes[i % len(lanes)], point, ended, expected)


def undisturbed(kills: Kills, lane: Lane) -> pa.Table:
    kills.score_here(kills.settings(lane.seen), *kills.night.flags)
    check_whole(lane.seen)
    assert len(lane.seen.rows()) == sum(6 + day % 3 for day in range(1, 13) if day != 6)
    return lane.seen.rows()


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_killed_is_finished_by_the_next_one(kills, kind, figures):
    lane = kills.lane(kind, "a")
    expected = undisturbed(kills, lane)
    kill_at_each(kills, [lane], FEW[kind], expected)
    figures.add("killed at an operation, then run again", f"{kind}: points, each whole afterwards", len(FEW[kind]))


@pytest.mark.chaos
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_may_be_killed_anywhere(kills, kind, figures):
    lanes = [kills.lane(kind, name) for name in "ab"]
    whole = kills.disturbed(lanes[0], None)
    assert whole.code == 0, whole.printed
    check_whole(lanes[0].seen)
    expected = lanes[0].seen.rows()
    points = [*spread(whole.operations, 24), *writes(whole.operations)]
    points += [replace(p, fresh=True) for p in FIRST]
    if kind == "parquet":
        points += [Point("put marker", 4, DURING)]
        points += [Point("swap_in partition", n, DURING, two_renames=True) for n in (1, 4, 9)]
    kill_at_each(kills, lanes, points, expected)
    section = "killed at an operation, then run again"
    moments = Counter(p.moment for p in points)
    figures.add(section, f"{kind}: operations of a night", len(whole.operations))
    figures.add(section, f"{kind}: points, each whole afterwards", len(points))
    figures.add(
        section, f"{kind}: before / during / after", " / ".join(str(moments[m]) for m in (BEFORE, DURING, AFTER))
    )
    figures.add(section, f"{kind}: of these during Spark's write", sum(p.what == WRITE for p in points))


FIRST = [
    Point("hold lock", 1, AFTER),
    Point("put running", 1, DURING),
    Point("put description", 1, BEFORE),
    Point("put description", 1, AFTER),
    Point("put journal", 1, DURING),
]
"""In the first run of a table."""
