"""The configuration of our own classifier, in a module apart from its computation, whose imports take seconds."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig

from bigfive_udf.model.checkpoint import OWN_MODEL_TYPE
from bigfive_udf.traits import TRAITS

MLP_SIZES = (256, 128)


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

    def head_layers(self) -> tuple[tuple[str, str, int], ...]:
        """For each linear layer of the head: name of its weights, activation after it, and number of outputs."""
        if self.head == "linear":
            return (("head.0", "linear", len(TRAITS)),)
        wide, narrow = MLP_SIZES
        return (("head.0", "relu", wide), ("head.3", "relu", narrow), ("head.6", "linear", len(TRAITS)))
