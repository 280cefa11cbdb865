"""Products in 8-bit integers: weights rounded per output, each token's activations by its own range.

    y = x W' + b  ~  s (q Q') t + [x_c, m, 1] R

q are the activations of a token as whole numbers from 0 to 127, m the token's smallest value and s its step size; Q are
the weights as whole numbers from -127 to 127, and t the step size of each output. The few columns c of x with by far
the largest values are not rounded but multiplied exactly: they would leave the others no digits (Dettmers et al. 2022,
LLM.int8()). R holds the weights of these columns, the sums over Q that m is multiplied with, and the bias.

Each token has its own range, so the other tokens of a batch have no influence. With 127 steps instead of 255, the sum
of two products fits 16 bits, so processors without VNNI, which would cut it off, compute the same whole numbers. But
the activations come from layers in fp32, whose last bits do depend on the batch and the processor. For a value halfway
between two steps, such a bit decides which of the two it is rounded to.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping

import torch
from torch import Tensor

from bigfive_udf.errors import SettingsError

PARTS = ("weight", "scale", "columns", "rest")
_STEPS = 127


def quantized(weight: Tensor, bias: Tensor, columns: Tensor) -> dict[str, Tensor]:
    """A product in the form that `Int8Product` takes.

    `weight` (n, k) and `bias` (n,) in fp32, `columns` (c,) the inputs that stay exact -> `weight` (n, k) int8,
    `scale` (n,), `columns`, `rest` (c + 2, n).
    """
    inner = weight.clone()
    inner[:, columns] = 0
    scale = (inner.abs().amax(1) / _STEPS).clamp_(min=torch.finfo(torch.float32).tiny)
    whole = (inner / scale[:, None]).round()
    sums = (whole * scale[:, None]).sum(1)
    rest = torch.cat([weight[:, columns].T, sums[None], bias[None]])
    return {"weight": whole.to(torch.int8), "scale": scale, "columns": columns, "rest": rest.contiguous()}


class Int8Product:
    """One product of the encoder, with the weights laid out for this processor: a copy of one byte a weight."""

    def __init__(self, parts: Mapping[str, Tensor]) -> None:
        self._scale, self._columns, self._rest = parts["scale"], parts["columns"], parts["rest"]
        self._zeros = torch.zeros(len(self._scale), dtype=torch.int32)
        self._weight = torch.ops.onednn.qlinear_prepack(parts["weight"], None)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., k) in fp32 -> (..., n) in fp32. Not finite where an input of the token is not."""
        rows = x.reshape(-1, x.shape[-1])
        exact = rows[:, self._columns]
        rows.index_fill_(1, self._columns, 0)  # put back below: a copy would take longer than all the rest
        smallest = rows.amin(1, keepdim=True)
        step = (rows.amax(1, keepdim=True) - smallest).div_(_STEPS).clamp_(min=1e-12)
        # Converted by way of int8, which torch does several times as fast; up to 127 the bits are the same.
        whole = rows.sub(smallest).mul_(step.reciprocal()).round_().to(torch.int8).view(torch.uint8)
        rows.index_copy_(1, self._columns, exact)
        y = torch.ops.onednn.qlinear_pointwise(
            whole, 1.0, 0, self._weight, self._scale, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        y.mul_(step).addmm_(torch.cat([exact, smallest, torch.ones_like(smallest)], 1), self._rest)
        return y.view(*x.shape[:-1], -1)


def products(weights: Mapping[str, Tensor]) -> dict[str, Int8Product]:
    """The products of a model that are in 8-bit integers, by name.

    Raises:
        SettingsError: the model has such products, and this PyTorch can't compute them.
    """
    names = [name.removesuffix(".scale") for name in weights if name.endswith(".scale")]
    if names and not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        raise SettingsError(
            f"model.precision int8: PyTorch {torch.__version__} on {platform.node()} has no oneDNN, which computes the "
            "products in 8-bit integers; set fp32 or auto, or install a build that has it"
        )
    return {name: Int8Product({part: weights[f"{name}.{part}"] for part in PARTS}) for name in names}
