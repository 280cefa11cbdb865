"""Our own classifier for what no stock class computes: an mlp head, or a head on the mean of the tokens.

It has a `model_type` of its own, so that stock transformers refuses its checkpoint instead of inventing a random head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from bigfive_udf.model.checkpoint import OWN_MODEL_TYPE
from bigfive_udf.traits import TRAITS

_MLP_SIZES = (256, 128)
_MLP_DROPOUT = 0.1


class BigFiveConfig(PretrainedConfig):
    """`encoder` is the encoder's own configuration as a dict, `head` linear or mlp, `pooling` cls or mean."""

    model_type = OWN_MODEL_TYPE

    def __init__(
        self, encoder: dict[str, Any] | None = None, head: str = "mlp", pooling: str = "cls", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.encoder = encoder or {}
        self.head = head
        self.pooling = pooling

    def encoder_config(self) -> Any:
        return AutoConfig.for_model(**self.encoder)

    def head_layers(self) -> tuple[tuple[str, str], ...]:
        """Weight names of the head's linear layers and the activation after each."""
        if self.head == "linear":
            return (("head.0", "linear"),)
        return (("head.0", "relu"), ("head.3", "relu"), ("head.6", "linear"))


class BigFiveForSequenceClassification(PreTrainedModel):
    """An encoder of any kind, pooled, and a head of five logits.

    mlp: hidden -> 256 -> 128 -> 5, ReLU, dropout 0.1: what the project's first users trained on DistilBERT.
    """

    config_class = BigFiveConfig
    base_model_prefix = "encoder"

    def __init__(self, config: BigFiveConfig) -> None:
        super().__init__(config)
        inner = config.encoder_config()
        without_pooler = {"add_pooling_layer": False} if inner.model_type in ("bert", "roberta") else {}
        self.encoder = AutoModel.from_config(inner, **without_pooler)
        hidden = inner.hidden_size
        if config.head == "linear":
            self.head = nn.Sequential(nn.Linear(hidden, len(TRAITS)))
        else:
            wide, narrow = _MLP_SIZES
            self.head = nn.Sequential(
                *(nn.Linear(hidden, wide), nn.ReLU(), nn.Dropout(_MLP_DROPOUT)),
                *(nn.Linear(wide, narrow), nn.ReLU(), nn.Dropout(_MLP_DROPOUT)),
                nn.Linear(narrow, len(TRAITS)),
            )
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> SequenceClassifierOutput:
        """input_ids and attention_mask (rows, tokens) -> logits (rows, 5)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.config.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            pooled = (hidden * real[:, :, None]).sum(1) / real.sum(1, keepdim=True)
        return SequenceClassifierOutput(logits=self.head(pooled.to(self.head[0].weight.dtype)))
