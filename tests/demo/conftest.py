"""The default model, built once by the commands that `make demo` runs, and a hurried one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from bigfive_udf.demo import bank
from bigfive_udf.training import base_models
from support.cluster import REPOSITORY


@dataclass(frozen=True)
class Built:
    """A model that the commands made, and what they printed."""

    path: Path
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def default_model(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Takes minutes: for slow tests. Read-only: copy it to damage it."""
    return build(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def hurried_model(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The default model after one epoch of five: it knows less, and is otherwise the same. Read-only."""
    return build(tmp_path_factory.mktemp("hurried"), "train.epochs=1")


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow) for name in ("hurried_model", "default_model")])
def built(request: pytest.FixtureRequest) -> Built:
    """One of them, for what is true of both."""
    return request.getfixturevalue(request.param)


def build(folder: Path, *settings: str) -> Built:
    try:
        metadata.distribution(base_models.MINILM_PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.skip("the encoder's package is not installed")
    path = folder / "default"
    here = {
        "data.path": folder / "statements" / bank.TRAINING,
        "data.test_path": folder / "statements" / bank.WRITTEN_APART,
        "output.path": path,
    }
    changes = [*(f"{key}={value}" for key, value in here.items()), *settings]
    overrides = [word for change in changes for word in ("--set", change)]
    out = err = ""
    for command in (
        ["-m", "bigfive_udf.demo.bank", "--output", str(folder / "statements")],
        ["jobs/train.py", "--config", "conf/demo_train.yaml", *overrides],
    ):
        done = subprocess.run([sys.executable, *command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        out, err = out + done.stdout, err + done.stderr
    return Built(path, out, err)
