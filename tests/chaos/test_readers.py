"""A reader of the whole table, in a loop, while it is written and rewritten and while writers die."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bigfive_udf.runs import Run
from bigfive_udf.tables import filesystem
from chaos.figures import Figures
from chaos.killed_at import AFTER, BEFORE, DURING, WRITE, Killer, Order
from chaos.light_run import ALWAYS, night, opened, processes
from chaos.nightly import CHANGED, EMPTIED, make_night, name_of
from chaos.reader import Sight, reading
from chaos.tables import Seen, check_ledger_is_last, check_whole
from support.jobs_here import arguments

KINDS = ("parquet", "iceberg")
SECTION = "a reader of the whole table, in a loop"
POINTS = {
    "parquet": [
        ("swap_in partition", 5, AFTER),
        ("swap_in partition", 8, BEFORE),
        (WRITE, 3, AFTER),
        ("put ledger", 2, BEFORE),
        ("delete journal", 1, BEFORE),
        ("put marker", 4, DURING),
    ],
    "iceberg": [
        ("commit catalog", 1, BEFORE),
        ("commit catalog", 2, AFTER),
        ("commit catalog", 3, DURING),
        (WRITE, 3, AFTER),
        ("put ledger", 2, BEFORE),
        ("delete journal", 1, BEFORE),
    ],
}


def judge(sight: Sight, kind: str, what: str, figures: Figures, directory: Path) -> None:
    figures.add(SECTION, f"{kind}, {what}: reads", sight.reads)
    figures.add(SECTION, f"{kind}, {what}: states of a partition seen", sight.versions)
    figures.add(SECTION, f"{kind}, {what}: partial / duplicated", f"{sight.partial} / {sight.duplicated}")
    figures.add(SECTION, f"{kind}, {what}: absent / overlooked", f"{sight.absent} / {sight.overlooked}")
    figures.add(SECTION, f"{kind}, {what}: listed file gone", sight.gone)
    assert sight.reads > 0
    assert not sight.errors, sight.errors[:3]
    assert (sight.partial, sight.duplicated) == (0, 0)
    if kind == "iceberg":
        assert (sight.overlooked, sight.gone) == (0, 0)
    elif can_exchange(directory):
        assert sight.absent == 0, "directories were exchanged, so there is one at every moment"


def can_exchange(directory: Path) -> bool:
    """Whether two directories can be exchanged there in one step."""
    pair = directory / "one", directory / "two"
    for path in pair:
        path.mkdir(exist_ok=True)
    return filesystem._exchange(*map(str, pair))


@pytest.mark.parametrize(
    ("kind", "kills"),
    [
        ("parquet", 20),
        ("iceberg", 6),
        pytest.param("parquet", 300, marks=pytest.mark.chaos),
        pytest.param("iceberg", 60, marks=pytest.mark.chaos),
    ],
)
def test_writers_die_at_any_instant_while_somebody_reads(kind, kills, tmp_path, figures):
    """Runs without Spark and model, so that many are killed: not at chosen operations, but whenever it happens."""
    context, seen = processes(), Seen(kind, tmp_path / "scores")
    dice = random.Random(5)
    rounds = 5 if kind == "parquet" else 1
    night(kind, str(seen.output), 0, rounds)
    began = time.monotonic()
    night(kind, str(seen.output), 1, rounds)
    duration, mended, ended = time.monotonic() - began, 0, 0
    with reading(context, kind, seen.output, ALWAYS, tmp_path) as sight:
        for seed in range(2, kills + 2):
            writer = context.Process(target=night, args=(kind, str(seen.output), seed, rounds))
            writer.start()
            writer.join(dice.uniform(0.0, 1.2 * duration))
            ended += writer.exitcode is not None
            writer.kill()
            writer.join(60)
            assert writer.exitcode in (0, -9)
            check_ledger_is_last(seen)
            with opened(kind, str(seen.output), Run("score")) as table:
                mended += bool(table.mended)
            check_whole(seen)
    section = "runs without Spark, killed at any instant"
    figures.add(section, f"{kind}: SIGKILLs, the table whole after each", kills - ended)
    figures.add(section, f"{kind}: of these with something to mend", mended)
    judge(sight, kind, "light runs", figures, tmp_path)


@pytest.mark.parametrize(
    ("thorough", "kind"),
    [(False, "parquet"), *(pytest.param(True, kind, marks=pytest.mark.chaos) for kind in KINDS)],
)
def test_a_reader_during_runs_reruns_rescoring_and_kills(
    kind: str,
    thorough: bool,
    tmp_path: Path,
    models_to_change: tuple[Path, Path],
    killer: Killer,
    score_here: Callable[..., Any],
    short_runs: None,
    figures: Figures,
) -> None:
    night_ = make_night(tmp_path / "corpus", models_to_change[0])
    seen = Seen(kind, tmp_path / "scores")
    before, now = (night_.settings | seen.settings | {"input.path": str(c)} for c in (night_.before, night_.now))
    always = [name_of(day).removeprefix("dt=") for day in CHANGED if day != EMPTIED]
    score_here(before)
    with reading(processes(), kind, seen.output, always, tmp_path) as sight:
        score_here(now, "--prune")
        score_here(now)
        score_here(now, "--rescore")
        for number, (what, nth, moment) in enumerate(POINTS[kind] if thorough else ()):
            place = tmp_path / f"run-{number}"
            order = Order([*arguments(now), "--rescore"], str(place), str(seen.output), what, nth, moment)
            assert killer.run(order).code == -9
            check_ledger_is_last(seen)
            score_here(now)
            check_whole(seen)
    check_whole(seen)
    judge(sight, kind, "whole runs", figures, tmp_path)
