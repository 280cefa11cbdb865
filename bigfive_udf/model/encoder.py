"""The fast forward pass of BERT-like encoders: DistilBERT, BERT and RoBERTa are one computation under three spellings.

Source: Devlin et al. 2019, post-norm transformer encoder; the attention is torch's scaled_dot_product_attention.
It differs from the stock classes in four ways that change no result: query, key and value are one product; where the
head looks only at the first token, the last layer is computed only for it; the constant segment embedding is part of
the position table; weights are used where they lie, memory-mapped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "linear": lambda x: x,
}

_SHORT = 192  # tokens


@dataclass(frozen=True)
class EncoderSpec:
    """Everything about the computation that is not a weight. All of it is JSON, so that it can travel with them."""

    n_layers: int
    n_heads: int
    activation: str
    norm_eps: float
    pooling: str
    """cls: the head sees the first token; mean: the average over the tokens of the window"""
    head_activations: tuple[str, ...]
    """the activation after each linear layer of the head"""
    pad_token_id: int = 0
    positions_skip_padding: bool = False
    """RoBERTa numbers tokens from pad_token_id + 1 and gives a literal <pad> in the text no number of its own"""


class Encoder:
    """A classifier's forward pass over given weights.

    Weights (h hidden, f feed-forward, v vocabulary, all in the compute precision but for the head, which is fp32):
    `embeddings.word` (v, h), `embeddings.position` (positions, h), `embeddings.norm.{weight,bias}` (h,), and per layer
    i `layers.i.qkv` (3h, h), `layers.i.attention` (h, h), `layers.i.up` (f, h), `layers.i.down` (h, f), each with
    `.weight` and `.bias`, and `layers.i.attention_norm`, `layers.i.output_norm`; `head.j.{weight,bias}`.
    """

    def __init__(self, spec: EncoderSpec, weights: Mapping[str, Tensor]) -> None:
        self.spec = spec
        self._weights = weights
        self._hidden = weights["embeddings.word"].shape[1]
        self._activation = ACTIVATIONS[spec.activation]

    @torch.inference_mode()
    def __call__(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits of windows: ids (rows, longest) int64 padded at the end, lengths (rows,) -> (rows, 5) in fp32."""
        real = None  # no mask where nothing is padded: attention is faster without one
        if int(lengths.min()) < ids.shape[1]:
            real = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        x = self._embed(ids)
        mask = None if real is None else _additive(real, x.dtype)
        first_only = self.spec.pooling == "cls"
        for i in range(self.spec.n_layers):
            x = self._layer(f"layers.{i}.", x, mask, first_only and i == self.spec.n_layers - 1)
        return self._head(x if first_only else _mean(x, real, lengths))

    def _embed(self, ids: Tensor) -> Tensor:
        words = F.embedding(ids, self._weights["embeddings.word"])
        table = self._weights["embeddings.position"]
        if self.spec.positions_skip_padding:
            counted = (ids != self.spec.pad_token_id).long()
            positions = F.embedding(counted.cumsum(1) * counted + self.spec.pad_token_id, table)
        else:
            positions = table[: ids.shape[1]]
        return self._norm("embeddings.norm", words + positions)

    def _layer(self, name: str, x: Tensor, mask: Tensor | None, first_only: bool) -> Tensor:
        rows, h = x.shape[0], self._hidden
        if first_only:
            weight, bias = self._weights[name + "qkv.weight"], self._weights[name + "qkv.bias"]
            key_value = F.linear(x, weight[h:], bias[h:])
            x = x[:, 0]  # two dimensions from here on: a product with a (rows, 1, h) slice takes a slow path
            query = F.linear(x, weight[:h], bias[:h])
            key, value = key_value.split(h, dim=-1)
        else:
            query, key, value = self._linear(name + "qkv", x).split(h, dim=-1)
        query, key, value = (
            t.view(rows, -1, self.spec.n_heads, h // self.spec.n_heads).transpose(1, 2) for t in (query, key, value)
        )
        attended = _attention(query, key, value, mask).transpose(1, 2).reshape(x.shape)
        x = self._norm(name + "attention_norm", x + self._linear(name + "attention", attended))
        up = self._activation(self._linear(name + "up", x))
        return self._norm(name + "output_norm", x + self._linear(name + "down", up))

    def _head(self, x: Tensor) -> Tensor:
        x = x.float()
        for j, activation in enumerate(self.spec.head_activations):
            x = ACTIVATIONS[activation](self._linear(f"head.{j}", x))
        return x

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._weights[name + ".weight"], self._weights[name + ".bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self._weights[name + ".weight"], self._weights[name + ".bias"]
        return F.layer_norm(x, (self._hidden,), weight, bias, self.spec.norm_eps)


def _additive(real: Tensor, dtype: torch.dtype) -> Tensor:
    """The attention mask of windows, (rows, 1, 1, longest): 0 where a token is real, -inf where it is padding."""
    return torch.zeros(real.shape, dtype=dtype, device=real.device).masked_fill_(~real, -torch.inf)[:, None, None, :]


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k' / sqrt(d) + mask) v, all (rows, heads, tokens, d)."""
    if query.dtype is torch.bfloat16 and query.device.type == "cpu" and key.shape[2] <= _SHORT:
        # Two plain products: torch's fused kernel takes about 1.8 times as long in bf16 up to here (measured).
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return torch.softmax(scores if mask is None else scores + mask, dim=-1) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _mean(x: Tensor, real: Tensor | None, lengths: Tensor) -> Tensor:
    """Average over real tokens, special ones counted as sentence encoders do: (rows, longest, h) -> (rows, h)."""
    x = x.float()
    return (x if real is None else x * real[:, :, None]).sum(1) / lengths[:, None]
