"""Products of the encoder by oneDNN, called explicitly, as torch's own compiler does on x86.

torch's `linear` uses MKL for fp32, which reaches 0.8 of oneDNN's speed with AVX-512 (0.44 on AMD Zen 5) and 0.9 with
AVX2. It computes an activation in a second pass over the result. Both can read the weights where they lie. A worker
that may hold its own copy of the weights lays them out for its processor beforehand, which is faster still, most of
all in bf16.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from bigfive_udf.model.scores import AUTO, OWN, SHARED

MOST_OWN_BYTES = 256 << 20
"""Most bytes of weights that AUTO copies per worker: DistilBERT's fit in either precision, a large model's do not."""
_ROWS = 512
"""Typical tokens of a batch: the layout is chosen for this number, and gives right results for any other."""
_WITH_PRODUCT = {
    "linear": ("none", ""),
    "relu": ("relu", ""),
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
}
"""Activations that oneDNN computes while it writes the product, by their names in transformers."""


class OneDnnProduct:
    """activation(x W' + b), with `weight` (n, k) and `bias` (n,) of one dtype, fp32 or bf16."""

    def __init__(self, weight: Tensor, bias: Tensor, own: bool) -> None:
        self._bias = bias
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS) if own else weight

    def __call__(self, x: Tensor, activation: str = "linear") -> Tensor:
        """(..., k) -> (..., n), both of the weights' dtype."""
        attribute, algorithm = _WITH_PRODUCT[activation]
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, attribute, [], algorithm)
        return y


def computes(activation: str) -> bool:
    """Whether oneDNN can compute this activation together with a product, and is not slower than a separate pass.

    Without AVX-512, GELU in oneDNN slows the product down by a fifth; torch's own pass takes a twentieth (measured).
    """
    if "gelu" in activation and torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    return activation in _WITH_PRODUCT


def products(weights: Mapping[str, Tensor], names: Iterable[str], where: str = SHARED) -> dict[str, OneDnnProduct]:
    """Products over `weights`, which hold NAME.weight and NAME.bias; {} where oneDNN can't do them or gains nothing.

    `where` is AUTO, SHARED or OWN.
    """
    found = {name: weights[f"{name}.weight"] for name in names}
    if not found or not all(map(_is_for_onednn, found.values())):
        return {}
    own = where == OWN or (where == AUTO and sum(w.nbytes for w in found.values()) <= MOST_OWN_BYTES)
    return {name: OneDnnProduct(weight, weights[f"{name}.bias"], own) for name, weight in found.items()}


def _is_for_onednn(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and platform.machine() in ("x86_64", "AMD64")
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and (weight.dtype is torch.float32 or (weight.dtype is torch.bfloat16 and computes_bf16()))
    )


def computes_bf16() -> bool:
    """Whether oneDNN takes bf16 on this processor: where it does not, it raises an error."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
