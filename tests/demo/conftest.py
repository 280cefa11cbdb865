"""The default model, built once per test run by the commands that `make demo` runs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from bigfive_udf.demo import bank
from bigfive_udf.training import base_models
from cluster import REPOSITORY


@dataclass(frozen=True)
class Built:
    """A model that the commands made, and what they printed."""

    path: Path
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def default_model(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Takes a few minutes. Read-only: copy it to damage it."""
    try:
        metadata.distribution(base_models.MINILM_PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.skip("the encoder's package is not installed")
    folder = tmp_path_factory.mktemp("demo")
    path = folder / "default"
    here = {
        "data.path": folder / "statements" / bank.TRAINING,
        "data.test_path": folder / "statements" / bank.WRITTEN_APART,
        "output.path": path,
    }
    overrides = [word for key, value in here.items() for word in ("--set", f"{key}={value}")]
    out = err = ""
    for command in (
        ["-m", "bigfive_udf.demo.bank", "--output", str(folder / "statements")],
        ["jobs/train.py", "--config", "conf/demo_train.yaml", *overrides],
    ):
        done = subprocess.run([sys.executable, *command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        out, err = out + done.stdout, err + done.stderr
    return Built(path, out, err)
