"""The state that a training keeps beside its artifact until it is done: one writer, one identity, finished parts.

models/mine.job/lock              held by the running training
models/mine.job/identity.json     identity of the training; work of another identity is deleted
models/mine.job/work/<name>/      checkpoints of the model that is being trained
models/mine.job/work/<name>.npz   predictions of a model that is done
models/mine.job/runs/             a record of each run
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from bigfive_udf.errors import OutputError, TableLockedError
from bigfive_udf.redaction import first_line
from bigfive_udf.tables.filesystem import LocalFileSystem


class TrainingState:
    """The work of one training. Make one with `training_state`."""

    def __init__(self, root: Path, changed: list[str] | None) -> None:
        self.root = root
        self.changed = changed
        """None: there was no earlier work; empty: earlier work is resumed; else the reasons why it was deleted"""
        self.work = root / "work"
        self.work.mkdir(exist_ok=True)

    def lines(self) -> list[str]:
        """What became of the work of an earlier run, if there was one."""
        if self.changed is None:
            return []
        if not self.changed:
            return ["an interrupted training is here: going on with it", ""]
        return [f"an interrupted training is here, of another {' and '.join(self.changed)}: starting anew", ""]

    def scratch(self, name: str) -> Path:
        """The directory of a model's checkpoints."""
        return self.work / name

    def result(self, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """The arrays and the description that `keep` stored under `name`, or None."""
        path = self.work / f"{name}.npz"
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as content:
            arrays = {key: content[key] for key in content.files}
        return arrays, json.loads(str(arrays.pop("about")))

    def keep(self, name: str, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> None:
        """Keep a model's predictions, whole or not at all, and remove its checkpoints."""
        path = self.work / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".tmp")
        with aside.open("wb") as file:
            np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        shutil.rmtree(self.scratch(name), ignore_errors=True)

    def write_record(self, run_id: str, record: str) -> None:
        """Keep the record of a run."""
        LocalFileSystem().put(str(self.root / "runs" / f"{run_id}.json"), record)

    def done(self) -> None:
        """Delete the work, once the artifact is written."""
        shutil.rmtree(self.work, ignore_errors=True)
        (self.root / "identity.json").unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete everything, also the records: for uses that write no artifact beside them."""
        shutil.rmtree(self.root, ignore_errors=True)


@contextmanager
def training_state(output: Path, identity: dict[str, str], run_id: str) -> Iterator[TrainingState]:
    """Lock `<output>.job`, and find there the work of an interrupted training of the same identity.

    Raises:
        TableLockedError: another run holds it.
        OutputError: it can't be written.
    """
    root = Path(f"{output}.job")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / "lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{root} can't be written: {error.strerror}; choose another output.path") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise TableLockedError(
                f"{output} is being trained by {holder}: wait for it, or stop it, and run this again"
            ) from None
        lock.seek(0)
        lock.truncate()
        lock.write(f"run {run_id}, process {os.getpid()} on {platform.node()}")
        lock.flush()
        before = _identity(root / "identity.json")
        changed = None if before is None else [key for key in identity if before.get(key) != identity[key]]
        if changed != []:
            shutil.rmtree(root / "work", ignore_errors=True)
            (root / "identity.json").write_text(json.dumps(identity, indent=2) + "\n", encoding="utf-8")
        try:
            yield TrainingState(root, changed)
        except (OSError, SafetensorError, RuntimeError) as error:
            # torch raises this RuntimeError when the disk is full while it writes the optimizer's state.
            if isinstance(error, RuntimeError) and "inline_container" not in str(error):
                raise
            why = first_line(str(error)) or type(error).__name__
            raise OutputError(
                f"{output}: the training can't write ({why}): free space, or mend what is wrong, and run it again; it "
                "goes on where it was"
            ) from error


def _identity(path: Path) -> dict[str, str] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
