"""The default model, built once per test run by the command that `make demo` runs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from bigfive_udf.training import base_models


@dataclass(frozen=True)
class Built:
    """A model that the command made, and what the command printed."""

    path: Path
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def default_model(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Takes a minute or two. Read-only: copy it to damage it."""
    try:
        metadata.distribution(base_models.MINILM_PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.skip("the encoder's package is not installed")
    path = tmp_path_factory.mktemp("models") / "default"
    command = [sys.executable, "-m", "bigfive_udf.demo.default_model", "--output", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Built(path, done.stdout, done.stderr)
