"""Import of the first users' Keras model from the file that Keras saved; no TensorFlow is needed.

The model: `TFDistilBertModel` inside a layer of the user's own, its first token, Dense 256 ReLU, Dropout, Dense 128
ReLU, Dropout, Dense 5 sigmoid. Users name their layers differently, so these names are not used. The encoder's weights
are found by the names that transformers gives to the encoder's parts, the head's weights by their shapes. A layer that
is there twice, or does not belong to this model, is an error.

The content of the file depends on the version of Keras. Keras 2 (tf-keras) saves everything. Keras 3 does not see the
weights of a transformers encoder: `fit` does not train them and `save_weights` does not save them. So its files hold
the head alone, and the encoder is still the one that the user began with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bigfive_udf.errors import ArtifactError
from bigfive_udf.importing.keras_file import KerasFile, Layers, read_keras_file
from bigfive_udf.importing.sources import directory_of, label_entries
from bigfive_udf.importing.writing import Imported
from bigfive_udf.model import checkpoint, hub
from bigfive_udf.redaction import in_short

if TYPE_CHECKING:
    from torch import Tensor

_ENCODER = "distilbert"
_HEAD = {256: "head.0", 128: "head.3", 5: "head.6"}
"""outputs of each Dense layer, in order -> the layer's name in our own class"""
_ACTIVATIONS = {256: "relu", 128: "relu", 5: "sigmoid"}

# Where transformers keeps an encoder's layers: by number in the older layout, in the newer one by class and count.
_BLOCK = re.compile(
    r"(?P<encoder>.+)/transformer/layer(?:_\._(?P<old>\d+)|/tf_transformer_block(?:_(?P<new>\d+))?)/(?P<part>.+)"
)

Names = Sequence[tuple[tuple[str, ...], str]]
"""for each weight of a layer: its names in Keras (its number, and its older name), and its name in PyTorch"""
_DENSE: Names = ((("0", "kernel"), "weight"), (("1", "bias"), "bias"))
_NORM: Names = ((("0", "gamma"), "weight"), (("1", "beta"), "bias"))
_BOTH_EMBEDDINGS: Names = ((("0",), "word_embeddings.weight"), (("1",), "position_embeddings.weight"))
_EMBEDDING: Names = ((("weight", "embeddings"), "weight"),)
_PARTS = {
    **dict.fromkeys(("attention/q_lin", "attention/k_lin", "attention/v_lin", "attention/out_lin"), _DENSE),
    **dict.fromkeys(("ffn/lin1", "ffn/lin2"), _DENSE),
    **dict.fromkeys(("sa_layer_norm", "output_layer_norm"), _NORM),
}


@dataclass(frozen=True)
class KerasWeights:
    """The weights of the known model, named and laid out as PyTorch has them: a Dense kernel is (outputs, inputs)."""

    encoder: Mapping[str, Tensor]
    """as transformers' DistilBertModel names them; empty where the file holds the head alone"""
    head: Mapping[str, Tensor]


def write_keras(target: Path, path: str, *, base: str, labels: Sequence[str]) -> Imported:
    """Write the model in the Keras file at `path` into `target`, as a checkpoint of our own kind.

    `base` is a directory, or a name on the hub, that has the encoder's configuration and tokenizer (and its weights,
    where the file has none); `labels` are the traits in the order of the outputs.

    Raises:
        ArtifactError: the file or the base is missing, damaged, or not of this model.
        SettingsError: h5py is not installed.
    """
    file = read_keras_file(path)
    _check_description(path, file)
    found = match(path, file.layers)
    directory = directory_of(base, "source.base")
    encoder_config = _encoder_config(directory, base)
    tokenizer = checkpoint.tokenizer_of(directory, base, "source.base")
    config, model = _empty_model(encoder_config, labels)
    _check_shapes(path, base, found, model, encoder_config.n_layers)
    encoder = found.encoder or _base_encoder(directory, base)
    model.load_state_dict({f"encoder.{k}": v for k, v in encoder.items()} | dict(found.head), strict=True, assign=True)
    _save(target, model, tokenizer)
    return Imported(
        base_model=hub.public_name(base),
        head=config.head,
        pooling=config.pooling,
        outputs=list(labels),
        notes=_notes(path, base, encoder_config, file, found),
    )


def match(path: str, layers: Layers) -> KerasWeights:
    """Find out which part of the known model each layer is; `path` is named in errors.

    Raises:
        ArtifactError: layers are missing, there twice, or not of the known model.
    """
    blocks: dict[str, dict[int, dict[str, str]]] = {}
    for layer in layers:
        if found := _BLOCK.fullmatch(layer):
            number = int(found["old"] or found["new"] or 0)
            blocks.setdefault(found["encoder"], {}).setdefault(number, {})[found["part"]] = layer
    if len(blocks) > 1:
        raise ArtifactError(
            f"{path} holds {len(blocks)} DistilBERT encoders ({', '.join(sorted(blocks))}), expected one: "
            "save the weights of the one model alone"
        )
    named: dict[str, tuple[str, Names]] = {}
    for root, numbered in blocks.items():
        named = _encoder_layers(path, layers, root, numbered)
    encoder = {
        name: tensor
        for layer, (name, names) in named.items()
        for name, tensor in _take(path, layers, layer, name, names)
    }
    head = {
        name: tensor
        for layer, name in _head_layers(path, {k: v for k, v in layers.items() if k not in named}).items()
        for name, tensor in _take(path, layers, layer, name, _DENSE)
    }
    return KerasWeights(encoder, head)


def _encoder_layers(
    path: str, layers: Layers, root: str, numbered: Mapping[int, Mapping[str, str]]
) -> dict[str, tuple[str, Names]]:
    """The PyTorch name of each layer of the encoder under `root`, and the names of its weights."""
    if sorted(numbered) != list(range(len(numbered))):
        raise ArtifactError(
            f"{path} has the encoder layers {', '.join(map(str, sorted(numbered)))}, which are not all from 0 on: "
            "save or copy the weights again"
        )
    named = {
        found.get(part, f"{part} in encoder layer {i}"): (f"transformer.layer.{i}.{part.replace('/', '.')}", names)
        for i, found in numbered.items()
        for part, names in _PARTS.items()
    }
    embeddings = f"{root}/embeddings"
    named[f"{embeddings}/LayerNorm"] = ("embeddings.LayerNorm", _NORM)
    if embeddings in layers:
        named[embeddings] = ("embeddings", _BOTH_EMBEDDINGS)
    else:
        for kind in ("word_embeddings", "position_embeddings"):
            named[f"{embeddings}/{kind}"] = (f"embeddings.{kind}", _EMBEDDING)
    return named


def _take(path: str, layers: Layers, layer: str, name: str, names: Names) -> list[tuple[str, Tensor]]:
    """A layer's weights by PyTorch's names; the layer must hold each under one of its names, and no other weights."""
    import torch

    found = layers.get(layer)
    if found is None:
        raise ArtifactError(f"{path} has no {layer}: save or copy the weights again")
    keys = [next((key for key in theirs if key in found), None) for theirs, _ in names]
    if None in keys or len(found) != len(names):
        raise ArtifactError(
            f"{path} has the weights {', '.join(sorted(found))} in {layer}, expected {len(names)}, "
            f"{' and '.join(ours for _, ours in names)}: only the known model can be imported, see --help"
        )
    taken = []
    for key, (_, ours) in zip(keys, names, strict=True):
        value = found[str(key)]
        # Keras multiplies by (inputs, outputs), PyTorch by (outputs, inputs).
        value = value.T if names is _DENSE and value.ndim == 2 else value
        taken.append((f"{name}.{ours}", torch.from_numpy(np.ascontiguousarray(value))))
    return taken


def _head_layers(path: str, rest: Layers) -> dict[str, str]:
    """The name in our own class of each Dense layer of the head; `rest` are all layers outside the encoder."""
    sizes = {layer: _dense_sizes(weights) for layer, weights in rest.items()}
    if strange := sorted(layer for layer, size in sizes.items() if size is None):
        shapes = " ".join(str(value.shape) for value in rest[strange[0]].values())
        more = f" (and {len(strange) - 1} more)" if len(strange) > 1 else ""
        raise ArtifactError(
            f"{path} holds {strange[0]} {shapes}{more}, which the known model does not have: only TFDistilBertModel "
            "with Dense 256, 128 and 5 on it can be imported; bring any other as a Hugging Face checkpoint"
        )
    dense = {layer: size for layer, size in sizes.items() if size is not None}
    wanted = list(_HEAD)
    by_outputs = {outputs: layer for layer, (_, outputs) in dense.items()}
    chain = [dense[by_outputs[outputs]] for outputs in wanted if outputs in by_outputs]
    if len(dense) != len(wanted) or len(chain) != len(wanted) or [i for i, _ in chain[1:]] != wanted[:-1]:
        found = ", ".join(f"{i} -> {o}" for i, o in sorted(dense.values(), reverse=True)) or "none"
        raise ArtifactError(
            f"{path} has the Dense layers {found} outside a DistilBERT encoder, expected ... -> 256, 256 -> 128 and "
            "128 -> 5, each once: only that head can be imported; bring any other as a Hugging Face checkpoint"
        )
    return {by_outputs[outputs]: name for outputs, name in _HEAD.items()}


def _dense_sizes(weights: Mapping[str, np.ndarray]) -> tuple[int, int] | None:
    """(inputs, outputs) of a layer that can be a Dense with a bias; None of any other."""
    shapes = sorted((value.shape for value in weights.values()), key=len)
    if len(shapes) == 2 and len(shapes[1]) == 2 and shapes[0] == shapes[1][1:]:
        return int(shapes[1][0]), int(shapes[1][1])
    return None


def _check_description(path: str, file: KerasFile) -> None:
    """Check that the file describes, if it does so, the pooling and the activations of the known model."""
    for kind, config in file.described_layers():
        if "Pooling" in kind:
            raise ArtifactError(
                f"{path} has a layer {kind}, the known model takes the encoder's first token: only that can be imported"
            )
        expected = _ACTIVATIONS.get(config.get("units", 0)) if kind == "Dense" else None
        said = config.get("activation")
        said = said.get("config", said) if isinstance(said, dict) else said
        if expected is not None and said != expected:
            raise ArtifactError(
                f"{path} has a Dense {config['units']} with the activation {said}, the known model has {expected} "
                "there: only that can be imported"
            )


def _notes(path: str, base: str, encoder_config: Any, file: KerasFile, found: KerasWeights) -> list[str]:
    size = f"DistilBERT, {encoder_config.n_layers} layers of {encoder_config.dim}"
    head = "head: first token, Dense 256 ReLU, Dense 128 ReLU, Dense 5 sigmoid"
    if not any(kind == "Dense" for kind, _ in file.described_layers()):
        head += "; the file does not name the activations, so these are assumed"
    if found.encoder:
        return [f"encoder: {size}, weights from {path}", head]
    return [
        f"encoder: {size}, weights from {base}",
        f"note: {path} holds the head alone. Keras 3 neither trains nor saves a transformers encoder, so what you have "
        f"is this head on the encoder as it was loaded. If that was not {base}, set source.base to what it was",
        head,
    ]


def _encoder_config(directory: Path, base: str) -> Any:
    from transformers import AutoConfig

    said = checkpoint.read_json(directory / "config.json")
    if said.get("model_type") != _ENCODER:
        raise ArtifactError(
            f"source.base {base} is a model of type {said.get('model_type')}, the known Keras model has a DistilBERT: "
            "set source.base to what TFDistilBertModel.from_pretrained was given"
        )
    try:
        return AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    # transformers may raise any error here; to the user, each means that the file is wrong.
    except Exception as error:
        raise ArtifactError(
            f"source.base {base} has a config.json that can't be read ({in_short(error)}): copy it again"
        ) from error


def _empty_model(encoder_config: Any, labels: Sequence[str]) -> tuple[Any, Any]:
    """Our own classifier around that encoder: its configuration, and the model without weights."""
    import torch

    from bigfive_udf.model.configuration import BigFiveConfig
    from bigfive_udf.model.modeling import BigFiveForSequenceClassification

    # The base's path on this machine is private, and model_id must not depend on it.
    encoder = {key: value for key, value in encoder_config.to_dict().items() if key != "_name_or_path"}
    config = BigFiveConfig(encoder=encoder, head="mlp", pooling="cls", **label_entries(labels))
    config.pad_token_id = encoder_config.pad_token_id
    with torch.device("meta"):
        model = BigFiveForSequenceClassification(config)
    return config, model.eval()


def _check_shapes(path: str, base: str, found: KerasWeights, model: Any, base_layers: int) -> None:
    has = {f"encoder.{name}": tuple(tensor.shape) for name, tensor in found.encoder.items()}
    has |= {name: tuple(tensor.shape) for name, tensor in found.head.items()}
    needs = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    cure = "set source.base to the model that its encoder was loaded from"
    n_layers = sum(name.endswith("q_lin.weight") for name in found.encoder)
    if found.encoder and n_layers != base_layers:
        raise ArtifactError(
            f"{path} has an encoder of {n_layers} layers, source.base {base} one of {base_layers}: {cure}"
        )
    for name, shape in has.items():
        if shape != needs.get(name):
            raise ArtifactError(
                f"{path} has {name} of the shape {shape}, source.base {base} asks for {needs.get(name)}: {cure}"
            )


def _base_encoder(directory: Path, base: str) -> dict[str, Tensor]:
    """The encoder weights of the base itself."""
    import torch
    from transformers import AutoModel

    from bigfive_udf.model.quiet import quiet_transformers

    checkpoint.check_safe(directory, {})
    try:
        with quiet_transformers():
            model, report = AutoModel.from_pretrained(
                directory,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    # transformers may raise any error here; to the user, each means that the base is damaged.
    except Exception as error:
        raise ArtifactError(
            f"source.base {base} has weights that can't be loaded ({in_short(error)}): copy them again"
        ) from error
    if missing := sorted(report["missing_keys"]):
        raise ArtifactError(f"source.base {base} has no weight {missing[0]}: copy its weights again")
    return dict(model.state_dict())


def _save(target: Path, model: Any, tokenizer: Any) -> None:
    from bigfive_udf.model.quiet import quiet_transformers

    with quiet_transformers():
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
