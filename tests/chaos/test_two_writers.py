"""Two runs on one table at the same moment: one works, the other ends with exit code 6 and says who does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from bigfive_udf.runs import Run
from chaos.killed_at import Ended, Killer, Order
from chaos.light_run import contend, hold, opened, processes
from chaos.nightly import make_night
from chaos.tables import Seen, check_whole
from support.jobs_here import arguments


def check_named(message: str, first: dict[str, Any], output: Path) -> None:
    """The loser's line names the table, and run, process, host and start of the one that holds it."""
    for word in (str(output), f"run {first['run_id']}", f"process {first['pid']} on {first['host']}", first["since"]):
        assert word in message, f"{message!r} does not name {word!r}"
    assert "\n" not in message


@pytest.mark.parametrize("pairs", [10, pytest.param(50, marks=pytest.mark.chaos)])
def test_of_two_runs_at_the_same_moment_one_works_and_the_other_names_it(tmp_path, figures, pairs):
    context = processes()
    output = tmp_path / "scores"
    for _ in range(pairs):
        barrier, answers = context.Barrier(2), context.Queue()
        pair = [context.Process(target=contend, args=("parquet", str(output), barrier, 0.1, answers)) for _ in range(2)]
        for process in pair:
            process.start()
        first, second = sorted((answers.get(timeout=60) for _ in pair), key=lambda a: a["code"])
        for process in pair:
            process.join(60)
        assert (first["code"], second["code"]) == (0, 6)
        check_named(second["message"], first, output)
    figures.add("two writers at the same moment", "pairs of which exactly one worked", pairs)


def test_a_killed_holder_holds_nothing(tmp_path, figures):
    context = processes()
    output, slowest = tmp_path / "scores", 0.0
    for _ in range(10):
        ready = context.Event()
        holder = context.Process(target=hold, args=("parquet", str(output), ready))
        holder.start()
        assert ready.wait(60)
        holder.kill()
        holder.join(60)
        began = time.monotonic()
        with opened("parquet", str(output), Run("score")):
            slowest = max(slowest, time.monotonic() - began)
    assert slowest < 1
    figures.add("two writers at the same moment", "seconds until a killed run's lock is free, of 10", f"{slowest:.3f}")


@pytest.mark.chaos
@pytest.mark.parametrize("pairs", [3])
def test_two_whole_jobs_at_the_same_moment(tmp_path, pairs, models_to_change, killer: Killer, figures):
    night = make_night(tmp_path / "corpus", models_to_change[0])
    for number in range(pairs):
        seen = Seen("parquet", tmp_path / f"pair-{number}" / "scores")
        settings = night.settings | seen.settings | {"input.path": str(night.before)}
        started = [
            killer.start(Order(arguments(settings), str(tmp_path / f"run-{number}-{which}"), str(seen.output)))
            for which in "ab"
        ]
        first, second = sorted((run.wait() for run in started), key=lambda e: e.code)
        assert (first.code, second.code) == (0, 6), first.printed + second.printed
        check_whole(seen)
        (run_id,) = {e.run_id for e in seen.entries().values()}
        assert f"run {run_id}, process" in error_of(second)
    figures.add("two writers at the same moment", "pairs of whole jobs", pairs)


def error_of(ended: Ended) -> str:
    (line,) = [line for line in ended.printed.splitlines() if line.startswith("error:")]
    return line
