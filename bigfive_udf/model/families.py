"""The spellings of DistilBERT, BERT and RoBERTa checkpoints, translated to the one that `Encoder` computes."""

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
    """Where a family keeps what: names of config entries and of weights."""

    prefix: str
    config: dict[str, str]
    layer: str
    parts: dict[str, str]
    head: tuple[tuple[str, str], ...]
    """the stock classification head: weight name and the activation after it"""


_BERT_CONFIG = {"layers": "num_hidden_layers", "heads": "num_attention_heads", "activation": "hidden_act"}
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
        config={"layers": "n_layers", "heads": "n_heads", "activation": "activation"},
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
    head: tuple[tuple[str, str], ...] | None = None,
    pooling: str = "cls",
) -> tuple[EncoderSpec, dict[str, Tensor]]:
    """Rename and fuse a checkpoint's tensors for `Encoder`; all stay in their own precision.

    `prefix` and `head` are those of the family's stock class unless given, as our own head does.

    Raises:
        ArtifactError: a tensor that the configuration promises is not there.
    """
    family = _FAMILIES[encoder_config.model_type]
    prefix = family.prefix if prefix is None else prefix
    head = family.head if head is None else head
    n_layers = getattr(encoder_config, family.config["layers"])

    def take(name: str) -> Tensor:
        if name not in tensors:
            raise ArtifactError(
                f"the checkpoint has no weight {name}: it is not a whole {encoder_config.model_type} classifier"
            )
        return tensors[name]

    position = take(prefix + "embeddings.position_embeddings.weight")
    segment = prefix + "embeddings.token_type_embeddings.weight"
    if segment in tensors:
        position = position + tensors[segment][0]
    weights = {"embeddings.word": take(prefix + "embeddings.word_embeddings.weight"), "embeddings.position": position}
    for kind in ("weight", "bias"):
        weights[f"embeddings.norm.{kind}"] = take(f"{prefix}embeddings.LayerNorm.{kind}")
        for i in range(n_layers):
            part = {ours: take(f"{prefix}{family.layer}.{i}.{theirs}.{kind}") for ours, theirs in family.parts.items()}
            part["qkv"] = torch.cat([part.pop(name) for name in ("query", "key", "value")])
            weights |= {f"layers.{i}.{name}.{kind}": tensor for name, tensor in part.items()}
        for j, (name, _) in enumerate(head):
            weights[f"head.{j}.{kind}"] = take(f"{name}.{kind}")
    return (
        EncoderSpec(
            n_layers=n_layers,
            n_heads=getattr(encoder_config, family.config["heads"]),
            activation=getattr(encoder_config, family.config["activation"]),
            norm_eps=getattr(encoder_config, "layer_norm_eps", 1e-12),
            pooling=pooling,
            head_activations=tuple(activation for _, activation in head),
            pad_token_id=encoder_config.pad_token_id or 0,
            positions_skip_padding=encoder_config.model_type == "roberta",
        ),
        weights,
    )
