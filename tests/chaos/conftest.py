"""What the chaos tests share: figures for the end of the output, and Spark with few shuffle partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.figures import Figures
from chaos.killed_at import Killer, shorten_the_ledger
from support.cluster import clean_environment
from support.jobs_here import run_here

FIGURES = Figures()


@pytest.fixture(scope="session")
def figures() -> Figures:
    """What the suite has seen, printed at the end where output is not captured, and by `make chaos`."""
    return FIGURES


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if FIGURES.sections and (config.option.capture == "no" or config.option.markexpr == "chaos"):
        terminalreporter.section("chaos")
        for line in FIGURES.lines():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def killer(tmp_path_factory: pytest.TempPathFactory, own_temporary_directory: None) -> Iterator[Killer]:
    made = Killer(tmp_path_factory.mktemp("killer"), clean_environment())
    yield made
    made.close()


@pytest.fixture(scope="session")
def score_here(spark: Any) -> Callable[..., Any]:
    """Run the body of jobs/score.py in this process; returns what it would record, raises its errors."""
    return lambda settings, *flags: run_here("score", settings, *flags)


@pytest.fixture
def short_runs(spark: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings of Spark and of the ledger for runs of a few rows."""
    with monkeypatch.context() as patched:
        from bigfive_udf.tables import ledger

        patched.setattr(ledger, "_MOST_FILES", ledger._MOST_FILES)
        shorten_the_ledger()
        before = spark.conf.get("spark.sql.shuffle.partitions")
        spark.conf.set("spark.sql.shuffle.partitions", "1")
        yield
        spark.conf.set("spark.sql.shuffle.partitions", before)


@pytest.fixture(scope="module")
def models_to_change(checkpoint: Callable[..., Path]) -> tuple[Path, Path]:
    """Two tiny models."""
    return checkpoint(), checkpoint(seed=1)
