"""The score job, run in this process where a process of its own would prove nothing more."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bigfive_udf.runs import Run
from cluster import REPOSITORY
from corpora import write_corpus


@pytest.fixture(scope="session")
def score(spark: Any) -> Callable[..., Run]:
    """Run the body of jobs/score.py with dotted settings and flags; returns what it would record, raises its errors."""
    spec = importlib.util.spec_from_file_location("score_job", REPOSITORY / "jobs" / "score.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(settings: dict[str, Any], *flags: str) -> Run:
        arguments = list(flags)
        for key, value in settings.items():
            arguments += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
        execution = Run("score")
        module.score(module.FLAGS.parse_args(arguments), execution)
        return execution

    return run


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
