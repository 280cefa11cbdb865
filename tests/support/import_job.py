"""The import job in this process, and where the Keras fixture lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.runs import Run
from support.jobs_here import run_here

REPOSITORY = Path(__file__).resolve().parent.parent.parent
IMPORT = REPOSITORY / "jobs" / "import_model.py"
FIXTURE = REPOSITORY / "tests" / "importing" / "keras_fixture"
OUTPUTS = ["openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism"]
"""The traits of the fixture's outputs: an order that is nobody's default."""


@dataclass(frozen=True)
class Expected:
    """What TensorFlow said of the fixture's texts."""

    texts: list[str]
    probabilities: dict[str, np.ndarray]
    """by model, (texts, 5) in the order of its outputs"""


def run_import(settings: dict[str, Any]) -> Run:
    """Run the body of jobs/import_model.py; returns what it would record, raises its errors."""
    return run_here("import_model", settings)


def probabilities(artifact: Path, texts: list[str], outputs: list[str]) -> np.ndarray:
    """(texts, 5) in fp32, the columns in the order of `outputs`."""
    scores = load_artifact(artifact).predict(texts, precision="fp32", device="cpu")
    return scores[[f"prob_{trait}" for trait in outputs]].to_numpy(np.float64)
