"""A file that Keras saved, in any of its layouts: its layers, their weights, and its description of the model.

Two layouts are read: groups with `vars/0`, `vars/1` (`.weights.h5`, and inside `.keras`), and the older one with a name
for each weight (`.h5`). Only h5py is needed.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bigfive_udf.errors import ArtifactError, SettingsError
from bigfive_udf.redaction import in_short

# What Keras saves beside the weights: the state of the training.
_TRAINING_STATE = frozenset(
    f"{mark}{name}"
    for mark in ("", "_")
    for name in ("optimizer", "optimizer_weights", "metrics", "compile_metrics", "loss_tracker")
)

Layers = Mapping[str, Mapping[str, np.ndarray]]
"""path of a layer -> name of a weight in it -> the weight, fp32, as Keras has it"""


@dataclass(frozen=True)
class KerasFile:
    """The content of a Keras file."""

    layers: Layers
    description: Mapping[str, Any]
    """Keras's own description of the model; empty in a file of weights alone"""

    def described_layers(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Class and configuration of every layer that the file describes."""
        yield from _described(self.description)


def read_keras_file(path: str) -> KerasFile:
    """Read a file that `save_weights` or `model.save` wrote, without the state of the training.

    Raises:
        ArtifactError: there is no such file, or it can't be read as a Keras file.
        SettingsError: h5py is not installed.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        what = "is a directory" if file.is_dir() else "is not there"
        raise ArtifactError(
            f"source.path {path} {what}: give the file that save_weights wrote (.weights.h5), or model.save (.keras)"
        )
    with _opened(file) as (weights, description):
        return KerasFile(_layers(path, weights), description)


@contextmanager
def _opened(file: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The file's group of weights, and Keras's own description of the model; empty where there is none."""
    try:
        import h5py
    except ImportError:
        raise SettingsError(
            f"source.path {file}: reading it takes h5py, which is not installed; pip install h5py"
        ) from None
    damaged = f"{file} can't be read as a file of Keras"
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                missing = {"config.json", "model.weights.h5"} - set(archive.namelist())
                if missing:
                    raise ArtifactError(f"{damaged} (no {sorted(missing)[0]} in it): save the model again")
                description = json.loads(archive.read("config.json"))
                content: Any = io.BytesIO(archive.read("model.weights.h5"))
        else:
            description, content = None, file
        with h5py.File(content, "r") as root:
            if description is None:
                said = root.attrs.get("model_config")
                description = json.loads(said) if isinstance(said, (str, bytes)) else {}
            yield root.get("model_weights", root), description
    # h5py raises OSError, and KeyError or RuntimeError inside a damaged file; zipfile and json have their own.
    except (OSError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{damaged} ({in_short(error)}): copy it again, or save the weights again") from error


def _layers(path: str, root: Any) -> dict[str, dict[str, np.ndarray]]:
    import h5py

    found: dict[str, dict[str, np.ndarray]] = {}

    def visit(name: str, node: Any) -> None:
        if not isinstance(node, h5py.Dataset):
            return
        *layer, weight = name.split("/")
        if (layer and layer[0] in _TRAINING_STATE) or node.dtype.kind in "iub":
            return  # whole numbers are seeds and counters
        if node.dtype.kind != "f":
            raise ArtifactError(f"{path} has {name} in {node.dtype}, expected floating point: save it in float32")
        if layer and layer[-1] == "vars":
            layer.pop()
        # In the older layout the weights' names end in :0.
        found.setdefault("/".join(layer), {})[weight.partition(":")[0]] = node[...].astype(np.float32)

    root.visititems(visit)
    return found


def _described(description: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(description, dict):
        if isinstance(description.get("class_name"), str) and isinstance(description.get("config"), dict):
            yield description["class_name"], description["config"]
        for value in description.values():
            yield from _described(value)
    elif isinstance(description, list):
        for value in description:
            yield from _described(value)
