"""Translation of DistilBERT, BERT and RoBERTa checkpoints to the names and weights that `Encoder` takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bigfive_udf.errors import ArtifactError
from bigfive_udf.model.encoder import ACTIVATIONS, EncoderSpec


@dataclass(frozen=True)
class _Family:
    """A family's names for its config entries and weights."""

    prefix: str
    config: dict[str, str]
    layer: str
    parts: dict[str, str]
    head: tuple[tuple[str, str], ...]
    """the stock classification head: weight name and the activation after it; all but the last have the hidden size"""


_BERT_CONFIG = {
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "hidden_size",
    "inner": "intermediate_size",
    "activation": "hidden_act",
}
_BERT_PARTS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "output_norm": "output.LayerNorm",
}
_FAMILIES = {
    "distilbert": _Family(
        prefix="distilbert.",
        config={
            "layers": "n_layers",
            "heads": "n_heads",
            "hidden": "dim",
            "inner": "hidden_dim",
            "activation": "activation",
        },
        layer="transformer.layer",
        parts={
            "query": "attention.q_lin",
            "key": "attention.k_lin",
            "value": "attention.v_lin",
            "attention": "attention.out_lin",
            "attention_norm": "sa_layer_norm",
            "up": "ffn.lin1",
            "down": "ffn.lin2",
            "output_norm": "output_layer_norm",
        },
        head=(("pre_classifier", "relu"), ("classifier", "linear")),
    ),
    "bert": _Family(
        "bert.", _BERT_CONFIG, "encoder.layer", _BERT_PARTS, (("bert.pooler.dense", "tanh"), ("classifier", "linear"))
    ),
    "roberta": _Family(
        "roberta.",
        _BERT_CONFIG,
        "encoder.layer",
        _BERT_PARTS,
        (("classifier.dense", "tanh"), ("classifier.out_proj", "linear")),
    ),
}


def is_fast(encoder_config: Any) -> bool:
    """Whether `Encoder` computes what the stock class of this configuration computes."""
    family = _FAMILIES.get(encoder_config.model_type)
    return (
        family is not None
        and getattr(encoder_config, family.config["activation"]) in ACTIVATIONS
        and getattr(encoder_config, "position_embedding_type", "absolute") in (None, "absolute")
        and not getattr(encoder_config, "is_decoder", False)
    )


def translate(
    encoder_config: Any,
    tensors: Mapping[str, Tensor],
    *,
    prefix: str | None = None,
    head: tuple[tuple[str, str, int], ...] | None = None,
    pooling: str = "cls",
) -> tuple[EncoderSpec, dict[str, Tensor]]:
    """Rename and fuse a checkpoint's tensors for `Encoder`; all keep their precision.

    `prefix` and `head` (name, activation and number of outputs of each layer) are by default those of the family's
    stock class; our own classifier passes its own.

    Raises:
        ArtifactError: a tensor that the configuration promises is not there, or has another shape.
    """
    family = _FAMILIES[encoder_config.model_type]
    n_layers, n_heads, h, inner, activation = (getattr(encoder_config, name) for name in family.config.values())
    prefix = family.prefix if prefix is None else prefix
    if head is None:
        widths = [h] * (len(family.head) - 1) + [encoder_config.num_labels]
        head = tuple((*layer, width) for layer, width in zip(family.head, widths, strict=True))

    def take(name: str, *shape: int) -> Tensor:
        if name not in tensors:
            raise ArtifactError(f"the checkpoint has no weight {name}: copy or save the model again")
        if tensors[name].shape != shape:
            raise ArtifactError(
                f"weight {name} has the shape {tuple(tensors[name].shape)}, config.json asks for {shape}: "
                "copy or save the model again"
            )
        return tensors[name]

    def linear(name: str, outputs: int, inputs: int) -> dict[str, Tensor]:
        return {"weight": take(f"{name}.weight", outputs, inputs), "bias": take(f"{name}.bias", outputs)}

    def norm(name: str) -> dict[str, Tensor]:
        return {kind: take(f"{name}.{kind}", h) for kind in ("weight", "bias")}

    embeddings = prefix + "embeddings."
    position = take(embeddings + "position_embeddings.weight", encoder_config.max_position_embeddings, h)
    if hasattr(encoder_config, "type_vocab_size"):
        segments = take(embeddings + "token_type_embeddings.weight", encoder_config.type_vocab_size, h)
        position = position + segments[0]
    parts = {"embeddings.norm": norm(embeddings + "LayerNorm")}
    for i in range(n_layers):
        theirs = {ours: f"{prefix}{family.layer}.{i}.{name}" for ours, name in family.parts.items()}
        three = [linear(theirs[name], h, h) for name in ("query", "key", "value")]
        parts |= {
            f"layers.{i}.qkv": {kind: torch.cat([part[kind] for part in three]) for kind in ("weight", "bias")},
            f"layers.{i}.attention": linear(theirs["attention"], h, h),
            f"layers.{i}.attention_norm": norm(theirs["attention_norm"]),
            f"layers.{i}.up": linear(theirs["up"], inner, h),
            f"layers.{i}.down": linear(theirs["down"], h, inner),
            f"layers.{i}.output_norm": norm(theirs["output_norm"]),
        }
    inputs = h
    for j, (name, _, outputs) in enumerate(head):
        parts[f"head.{j}"] = linear(name, outputs, inputs)
        inputs = outputs
    weights = {f"{name}.{kind}": tensor for name, part in parts.items() for kind, tensor in part.items()}
    weights["embeddings.word"] = take(embeddings + "word_embeddings.weight", encoder_config.vocab_size, h)
    weights["embeddings.position"] = position
    spec = EncoderSpec(
        n_layers=n_layers,
        n_heads=n_heads,
        activation=activation,
        norm_eps=getattr(encoder_config, "layer_norm_eps", 1e-12),
        pooling=pooling,
        head_activations=tuple(after for _, after, _ in head),
        pad_token_id=encoder_config.pad_token_id or 0,
        positions_skip_padding=encoder_config.model_type == "roberta",
    )
    return spec, weights
