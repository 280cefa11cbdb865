"""The import job in this process, and where the Keras fixture lies."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.runs import Run

REPOSITORY = Path(__file__).resolve().parent.parent
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


def arguments(settings: dict[str, Any]) -> list[str]:
    """Dotted settings as flags of a command line."""
    flags = []
    for key, value in settings.items():
        flags += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return flags


def run_import(settings: dict[str, Any]) -> Run:
    """Run the body of jobs/import_model.py; returns what it would record, raises its errors."""
    spec = importlib.util.spec_from_file_location("import_job_module", IMPORT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run = Run("import_model")
    module.import_model(module.FLAGS.parse_args(arguments(settings)), run)
    return run


def probabilities(artifact: Path, texts: list[str], outputs: list[str]) -> np.ndarray:
    """(texts, 5) in fp32, the columns in the order of `outputs`."""
    scores = load_artifact(artifact).predict(texts, precision="fp32", device="cpu")
    return scores[[f"prob_{trait}" for trait in outputs]].to_numpy(np.float64)
