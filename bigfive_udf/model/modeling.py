"""Our own classifier for what no stock class computes: an mlp head, or a head on the mean of the tokens.

It has a `model_type` of its own, so that stock transformers refuses its checkpoint instead of inventing a random head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from bigfive_udf.model.configuration import MLP_SIZES, BigFiveConfig
from bigfive_udf.traits import TRAITS

_MLP_DROPOUT = 0.1


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
            wide, narrow = MLP_SIZES
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
