"""The fast forward pass of BERT-like encoders: DistilBERT, BERT and RoBERTa are one computation under three spellings.

Source: Devlin et al. 2019, post-norm transformer encoder. It takes windows padded to rows or laid end to end and
differs from the stock classes in four ways that change no result: query, key and value are one product; where the head
looks only at the first token, the last layer is computed only for it, without keys and values; the constant segment
embedding is part of the position table; weights are used where they lie, memory-mapped, or laid out for the processor.
In bf16 on a CPU the residual sums and the norms stay in fp32; the stock classes round them to bf16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bigfive_udf.model import int8, onednn
from bigfive_udf.model.attention import Packed, Padded, TokenLayout
from bigfive_udf.model.scores import SHARED

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "linear": lambda x: x,
}


def stays_fp32(name: str) -> bool:
    """Whether a weight stays in fp32 in every precision: the few of the head and the norms, which matter much."""
    return name.startswith("head.") or "norm." in name


@dataclass(frozen=True)
class EncoderSpec:
    """Everything about the computation except the weights. All fields are JSON, to travel with the weights."""

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
    """as in RoBERTa: tokens are numbered from pad_token_id + 1, and a literal <pad> in the text is not counted"""


class Encoder:
    """A classifier's forward pass over given weights.

    Weights (h hidden, f feed-forward, v vocabulary; fp32 where `stays_fp32` says, else the precision of the products):
    `embeddings.word` (v, h), `embeddings.position` (positions, h), `embeddings.norm.{weight,bias}` (h,), and per layer
    i `layers.i.qkv` (3h, h), `layers.i.attention` (h, h), `layers.i.up` (f, h), `layers.i.down` (h, f), each with
    `.weight` and `.bias`, and `layers.i.attention_norm`, `layers.i.output_norm`; `head.j.{weight,bias}`. Products of a
    layer may be in 8-bit integers instead, in the form that `int8.quantized` returns. `where` says where the weights of
    the other products lie: `SHARED` leaves them in place, `OWN` copies them, `AUTO` copies them unless they are large.
    """

    def __init__(self, spec: EncoderSpec, weights: Mapping[str, Tensor], where: str = SHARED) -> None:
        self.spec = spec
        words = weights["embeddings.word"]
        self._hidden = h = words.shape[1]
        self._dtype = words.dtype  # of products and of attention
        # Of the residual sums. In fp32 they and the norms reduce the error of bf16 by a quarter and cost a CPU 1 or 2
        # per cent (measured); a GPU would have twice as much to read and write.
        self._sums = torch.float32 if words.device.type == "cpu" else self._dtype
        self._int8 = int8.products(weights)
        parts: dict[str, Tensor] = {}
        if spec.pooling == "cls":
            weight, bias = (weights[f"layers.{spec.n_layers - 1}.qkv.{kind}"] for kind in ("weight", "bias"))
            parts = {"last.query.weight": weight[:h], "last.query.bias": bias[:h], "last.value.bias": bias[2 * h :]}
            for name, rows in {"last.key.weight": weight[h : 2 * h], "last.value.weight": weight[2 * h :]}.items():
                parts[name] = rows.view(spec.n_heads, -1, h)
        norms = {name: weight.to(self._sums) for name, weight in weights.items() if "norm." in name}
        self._weights = {**weights, **norms, **parts}
        self._onednn = onednn.products(self._weights, self._product_names(), where)
        # oneDNN compiles a program for each number of rows of a product and keeps 1,024 of them. With AMX one takes 5
        # to 12 ms, a tenth of a batch's time (measured): so few different numbers of rows are used.
        self.fills = bool(self._onednn or self._int8)

    @property
    def head_size(self) -> int:
        return self._hidden // self.spec.n_heads

    @torch.inference_mode()
    def __call__(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits of windows: ids (rows, longest) padded at the end, lengths (rows,) on the CPU -> (rows, 5) in fp32."""
        layout = Padded(lengths, ids.shape[1], ids.device, self._dtype, self.fills)
        x = self._words(layout.tokens(ids))
        layout.windows(x).add_(self._padded_positions(ids))
        return self._forward(x, layout)[: len(ids)]

    @torch.inference_mode()
    def packed(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits of windows laid end to end: ids (tokens,), lengths (rows,) on the CPU -> (rows, 5) in fp32."""
        layout = Packed(lengths, ids.device)
        return self._forward(self._words(ids).add_(self._packed_positions(ids, layout)), layout)

    def _forward(self, x: Tensor, layout: TokenLayout) -> Tensor:
        x = self._norm("embeddings.norm", x)
        first_only = self.spec.pooling == "cls"
        for i in range(self.spec.n_layers):
            x = self._layer(f"layers.{i}.", x, layout, first_only and i == self.spec.n_layers - 1)
        return self._head(x if first_only else layout.mean(x))

    def _words(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self._weights["embeddings.word"]).to(self._sums)

    def _padded_positions(self, ids: Tensor) -> Tensor:
        table = self._weights["embeddings.position"]
        if not self.spec.positions_skip_padding:
            return table[: ids.shape[1]]
        counted = (ids != self.spec.pad_token_id).long()
        return F.embedding(counted.cumsum(1) * counted + self.spec.pad_token_id, table)

    def _packed_positions(self, ids: Tensor, layout: Packed) -> Tensor:
        places = layout.positions()
        if self.spec.positions_skip_padding:
            counted = (ids != self.spec.pad_token_id).long()
            before = counted.cumsum(0) - counted
            places = (before - before[torch.arange(len(ids), device=ids.device) - places] + 1) * counted
            places = places + self.spec.pad_token_id
        return F.embedding(places, self._weights["embeddings.position"])

    def _layer(self, name: str, x: Tensor, layout: TokenLayout, first_only: bool) -> Tensor:
        tokens = x.to(self._dtype)
        if first_only:
            x = layout.first(x)
            attended = self._attended_by_first(layout.first(tokens), tokens, layout)
        else:
            query, key, value = self._linear(name + "qkv", tokens).split(self._hidden, dim=-1)
            attended = layout.attend(query, key, value, self.spec.n_heads)
        x = self._norm(name + "attention_norm", self._linear(name + "attention", attended).to(self._sums).add_(x))
        up = self._linear(name + "up", x.to(self._dtype), self.spec.activation)
        return self._norm(name + "output_norm", self._linear(name + "down", up).to(self._sums).add_(x))

    def _attended_by_first(self, first: Tensor, x: Tensor, layout: TokenLayout) -> Tensor:
        """The last layer's attention with the first tokens (rows, h) as only queries: no keys or values are computed.

        With one query per window, q (K x)' is cheaper as (q K) x', and p (V x)' as V (p x)'. The keys' bias adds the
        same number to all scores of a query, and so softmax cancels it.
        """
        key, value = self._weights["last.key.weight"], self._weights["last.value.weight"]  # (heads, h / heads, h)
        n_heads, size = value.shape[:2]
        query = self._linear("last.query", first).view(-1, n_heads, size) * size**-0.5
        seen = layout.seen(torch.einsum("rnd,ndh->rnh", query, key), x)
        return torch.einsum("rnh,ndh->rnd", seen, value).reshape(first.shape) + self._weights["last.value.bias"]

    def _head(self, x: Tensor) -> Tensor:
        x = x.float()
        for j, activation in enumerate(self.spec.head_activations):
            x = self._linear(f"head.{j}", x, activation)
        return x

    def _product_names(self) -> list[str]:
        """Names of the layers' products outside int8, as computed: the last layer's `qkv` may be split into parts."""
        of_layers = [n for n in self._weights if n.startswith(("layers.", "last.")) and n.endswith(".weight")]
        named = [n.removesuffix(".weight") for n in of_layers if self._weights[n].dim() == 2]
        in_parts = f"layers.{self.spec.n_layers - 1}.qkv" if self.spec.pooling == "cls" else None
        return [name for name in named if name != in_parts and name not in self._int8]

    def _linear(self, name: str, x: Tensor, activation: str = "linear") -> Tensor:
        if name in self._onednn:
            if onednn.computes(activation):
                return self._onednn[name](x, activation)
            y = self._onednn[name](x)
        elif name in self._int8:
            y = self._int8[name](x)
        else:
            y = F.linear(x, self._weights[name + ".weight"], self._weights[name + ".bias"])
        return ACTIVATIONS[activation](y)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self._weights[name + ".weight"], self._weights[name + ".bias"]
        return F.layer_norm(x, (self._hidden,), weight, bias, self.spec.norm_eps)
