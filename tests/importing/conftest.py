"""The files that a real Keras saved, unpacked, and the import job in this process."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.import_job import FIXTURE, Expected, run_import


@pytest.fixture(scope="session")
def keras_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the unpacked files. Read-only: copy one to change it."""
    folder = tmp_path_factory.mktemp("keras")
    for packed in FIXTURE.glob("*.xz"):
        (folder / packed.stem).write_bytes(lzma.decompress(packed.read_bytes()))
    return folder


@pytest.fixture(scope="session")
def expected() -> Expected:
    content = json.loads((FIXTURE / "expected.json").read_text())
    probabilities = {name: np.array(rows) for name, rows in content["probabilities"].items()}
    return Expected(content["texts"], probabilities)


@pytest.fixture
def import_model(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Import with dotted settings into a folder of the test's own; returns the artifact, raises the job's errors.

    Whatever happens, nothing but whole artifacts may lie in that folder.
    """
    folder = tmp_path / "models"

    def run(settings: dict[str, Any], name: str = "imported") -> Path:
        try:
            run_import({"output.path": str(folder / name), **settings})
        except Exception:
            assert not (folder / name).exists()
            raise
        return folder / name

    yield run
    for left in folder.iterdir() if folder.exists() else []:
        assert (left / "bigfive.json").is_file(), left
        assert not left.name.startswith("."), left
