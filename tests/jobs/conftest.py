"""The score job, run in this process where a process of its own would prove nothing more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bigfive_udf.runs import Run
from support.corpora import write_corpus
from support.days import DAYS
from support.jobs_here import run_here


@pytest.fixture(scope="session")
def score(spark: Any) -> Callable[..., Run]:
    """Run the body of jobs/score.py with dotted settings and flags; returns what it would record, raises its errors."""
    return lambda settings, *flags: run_here("score", settings, *flags)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus")


@pytest.fixture
def basics(tmp_path: Path, corpus: Path, checkpoint: Callable[..., Path]) -> dict[str, Any]:
    """The settings that every run needs."""
    return {
        "input.path": str(corpus),
        "output.path": str(tmp_path / "scores"),
        "model.path": str(checkpoint()),
        "model.precision": "fp32",
    }


@pytest.fixture
def nightly(tmp_path: Path, basics: dict[str, Any]) -> dict[str, Any]:
    """Settings of a job on a corpus of twelve days, any share of which may be scored again."""
    corpus = write_corpus(tmp_path / "days", days=len(DAYS), rows=6)
    return basics | {"input.path": str(corpus), "plan.max_rescored_share": 1.0}
