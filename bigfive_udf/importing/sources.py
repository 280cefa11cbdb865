"""Where an imported model and its encoder lie, and what their directories must contain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bigfive_udf.errors import ArtifactError
from bigfive_udf.model import hub
from bigfive_udf.traits import TRAITS


def directory_of(path: str, setting: str) -> Path:
    """The directory at `path`, or the directory of a model on the hub; errors name `setting`.

    Raises:
        ArtifactError: there is no such directory, and the hub doesn't have it or can't be reached; or it has no
            config.json.
    """
    directory = Path(path).expanduser()
    if not directory.exists() and hub.is_name(path):
        directory = hub.snapshot(path, setting)
    if not directory.is_dir():
        what = "is a file, not a directory" if directory.exists() else "is not a directory"
        raise ArtifactError(
            f"{setting} {path} {what}: give a directory as save_pretrained writes it, or a name on the Hugging Face "
            "hub such as distilbert/distilbert-base-uncased"
        )
    if not (directory / "config.json").is_file():
        cure = "save the model again with save_pretrained"
        if (directory / "saved_model.pb").is_file():
            cure = "it is a TensorFlow SavedModel; load it there and save it with save_weights('model.weights.h5')"
        raise ArtifactError(f"{setting} {path} has no config.json: {cure}")
    return directory


def label_entries(names: Sequence[str]) -> dict[str, Any]:
    """The entries of config.json for five independent outputs that mean these traits, in this order."""
    assert sorted(names) == sorted(TRAITS)
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
        "problem_type": "multi_label_classification",
    }
