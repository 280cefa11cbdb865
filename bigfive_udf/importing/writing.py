"""The last steps of every import: describe what was written, and score with it before anybody can see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from bigfive_udf.errors import ArtifactError, OutputError, SettingsError
from bigfive_udf.model.artifact import describe, load_artifact, new_artifact
from bigfive_udf.traits import TRAITS

THRESHOLD = 0.5
"""threshold of a trait for which none was given"""
_TRIAL = ["I like to meet people, and I never get tired of it.", "My desk is tidy.", "a", "1234 " * 400]


@dataclass(frozen=True)
class Imported:
    """What is known of a checkpoint that an import has written."""

    base_model: str
    head: str
    pooling: str
    outputs: Sequence[str]
    """the trait of each output, in the model's own order"""
    notes: Sequence[str]
    """what the user must know of the model, one line each"""


@contextmanager
def new_import(output: str) -> Iterator[Path]:
    """Like `new_artifact`, for a block that writes only to the new directory.

    Raises:
        OutputError: `output` exists, or can't be written.
    """
    with new_artifact(output) as directory:
        try:
            yield directory
        # Reading a source raises other errors; safetensors has its own error for a full disk.
        except (OSError, SafetensorError) as error:
            raise OutputError(f"{output} can't be written ({error}): free space or choose another path") from error


def finish(
    directory: Path,
    imported: Imported,
    *,
    source: str,
    max_length: int | None,
    languages: Sequence[str],
    thresholds: Mapping[str, float],
) -> None:
    """Make the checkpoint in `directory` an artifact, and try it out; errors name `source` instead of `directory`.

    Raises:
        ArtifactError: it can't be loaded, or does not score.
        SettingsError: the model has no positions for `max_length` tokens.
    """
    try:
        plain = load_artifact(directory)
        if max_length is not None and max_length > plain.position_limit:
            raise SettingsError(f"model.max_length {max_length}: {source} takes at most {plain.position_limit} tokens")
        describe(
            directory,
            head=imported.head,
            pooling=imported.pooling,
            thresholds={trait: thresholds.get(trait, THRESHOLD) for trait in TRAITS},
            max_length=max_length or plain.max_length,
            languages=languages,
            base_model=imported.base_model,
            training_data="not known: the model was imported",
        )
        scores = load_artifact(directory).predict(_TRIAL, device="cpu", precision="fp32")
    except ArtifactError as error:
        # The directory is gone by the time that this is read.
        raise ArtifactError(str(error).replace(str(directory), source)) from error
    if failed := scores[scores["status"] != "scored"]["status_reason"].tolist():
        raise ArtifactError(f"{source} does not score a simple text ({failed[0]}): train or save the model again")
