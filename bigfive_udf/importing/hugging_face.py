"""Import of a Hugging Face sequence classifier: only its configuration changes, to name the output of each trait."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bigfive_udf.errors import ArtifactError, SettingsError
from bigfive_udf.importing.sources import directory_of, label_entries
from bigfive_udf.importing.writing import Imported
from bigfive_udf.model import checkpoint, hub
from bigfive_udf.model.artifact import DESCRIPTION
from bigfive_udf.traits import TRAITS

_UNNAMED = re.compile(r"LABEL_\d+|\d+|")


def write_checkpoint(
    target: Path, path: str, *, labels: Sequence[str] | None, activation: str | None, base: str | None
) -> Imported:
    """Copy the checkpoint at `path` (a directory or a name on the hub) into `target`, and name its outputs by trait.

    `labels` are the traits in the order of the outputs; if None, id2label decides. `activation` sigmoid vouches for a
    checkpoint that does not say how it was trained. `base` has the tokenizer, if the checkpoint has none.

    Raises:
        ArtifactError: it is not a multilabel classifier with five outputs, not complete, or not safe to load.
        SettingsError: `labels` or `base` contradict what the checkpoint says or has.
    """
    source = directory_of(path, "source.path")
    if (source / DESCRIPTION).exists():
        raise ArtifactError(f"{path} is an artifact already: there is nothing to import, set model.path to it")
    config = checkpoint.read_json(source / "config.json")
    checkpoint.check_architecture(source, config)
    _check_classifier(path, config)
    checkpoint.check_safe(source, config)
    _check_activation(source, path, config, activation)
    names = _trait_of_each_output(source, path, config, labels)
    has_tokenizer = any((source / name).is_file() for name in checkpoint.TOKENIZER_FILES)
    if has_tokenizer and base is not None:
        raise SettingsError(f"source.base {base}: {path} has a tokenizer of its own; leave source.base out")
    if not has_tokenizer:
        if base is None:
            raise ArtifactError(
                f"{path} has no tokenizer: set source.base to the model that the training began with, "
                "or copy tokenizer.json there"
            )
        checkpoint.tokenizer_of(directory_of(base, "source.base"), base, "source.base").save_pretrained(target)
    for file in checkpoint.model_files(source):
        if file.name != "config.json":
            _copy(file, target / file.name)
    changed = {key: value for key, value in config.items() if key != "_name_or_path"} | label_entries(names)
    (target / "config.json").write_text(json.dumps(changed, indent=2) + "\n", encoding="utf-8")
    return Imported(
        base_model=hub.public_name(path),
        head=config.get("head", "linear"),
        pooling=config.get("pooling", "cls"),
        outputs=names,
        notes=[f"a Hugging Face checkpoint ({config['model_type']}), weights and tokenizer as they are"],
    )


def _copy(file: Path, target: Path) -> None:
    try:
        shutil.copyfile(file, target)
    except OSError as error:
        if error.filename == str(file) and error.filename2 is None:  # with both names, writing has failed
            raise ArtifactError(f"{file} can't be read ({error.strerror}): copy the checkpoint again") from error
        raise


def _check_classifier(path: str, config: Mapping[str, Any]) -> None:
    kinds = [str(kind) for kind in config.get("architectures") or []]
    if kinds and not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise ArtifactError(
            f"{path} is a {kinds[0]}, not a sequence classifier: import a model that was fine-tuned to five outputs"
        )
    # A configuration without labels stands for transformers' default of two.
    found = config.get("id2label")
    outputs = len(found) if isinstance(found, dict) else config.get("num_labels", 2)
    if outputs != len(TRAITS):
        raise ArtifactError(
            f"{path} has {outputs} outputs, expected {len(TRAITS)}: import a model that was trained on all five traits"
        )


def _check_activation(source: Path, path: str, config: Mapping[str, Any], activation: str | None) -> None:
    problem = config.get("problem_type")
    if problem is None and activation is None:
        raise ArtifactError(
            f"{path} does not say how it was trained (no problem_type in its config.json): if with five sigmoids, "
            "as BCEWithLogitsLoss does, set source.activation=sigmoid"
        )
    checkpoint.check_activation(source, config, activation)


def _trait_of_each_output(
    source: Path, path: str, config: Mapping[str, Any], wanted: Sequence[str] | None
) -> list[str]:
    found: Mapping[str, Any] = config.get("id2label") or {}
    # Raises where a label is a reversed trait, whatever the settings say.
    named = [checkpoint.as_trait(source, str(label)) for label in found.values()]
    if wanted is None:
        if all(_UNNAMED.fullmatch(str(label)) for label in found.values()):
            raise ArtifactError(
                f"{path} does not name its outputs (id2label: {', '.join(map(str, found.values())) or 'none'}): "
                "set source.labels to the traits in the order of the label columns that it was trained with, "
                "such as [E, N, A, C, O]"
            )
        if None in named:
            raise ArtifactError(
                f"{path} has the labels {', '.join(map(str, found.values()))}, which are not all traits: "
                "set source.labels to the traits that they stand for, in this order"
            )
        order = checkpoint.trait_order(source, config)
        return sorted(TRAITS, key=lambda trait: order[TRAITS.index(trait)])
    if set(named) == set(TRAITS):
        order = checkpoint.trait_order(source, config)
        own = sorted(TRAITS, key=lambda trait: order[TRAITS.index(trait)])
        if own != list(wanted):
            raise SettingsError(
                f"source.labels {', '.join(wanted)}: {path} itself says {', '.join(own)}; leave source.labels out, "
                "or correct id2label in its config.json if that is what is wrong"
            )
    return list(wanted)
