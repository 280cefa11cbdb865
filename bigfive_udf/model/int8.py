"""Products in 8-bit integers: weights rounded per output, each token's activations by its own range.

    y = x W' + b  ~  s (q Q') t + [x_c, m, 1] R

q are the activations of a token as whole numbers of 7 or 8 bits, m the token's smallest value and s its step size; Q
are the weights as whole numbers from -127 to 127, and t the step size of each output. The few columns c of x with by
far the largest values are not rounded but multiplied exactly: they would leave the others no digits (Dettmers et al.
2022, LLM.int8()). R holds the weights of these columns, the sums over Q that m is multiplied with, and the bias.

Processors without VNNI add products in pairs and cut off sums that do not fit 16 bits. Those of 7 bits do fit; 8 bits
halve the steps, and need VNNI. A model has one or the other, so that every processor computes the same whole numbers.

Each token has its own range, so the other tokens of a batch have no influence. But the activations come from layers in
fp32, whose last bits do depend on the batch and the processor. For a value halfway between two steps, such a bit
decides which of the two it is rounded to.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from bigfive_udf.errors import SettingsError

PARTS = ("weight", "scale", "columns", "rest", "steps")
_LARGEST = 127
"""of the weights' whole numbers, and of activations of 7 bits"""


def quantized(
    weight: Tensor, bias: Tensor, columns: Tensor, bits: int = 7, rounded: Callable[[Tensor], Tensor] = torch.round
) -> dict[str, Tensor]:
    """A product in the form that `Int8Product` takes, its activations of 7 or 8 bits.

    `weight` (n, k) and `bias` (n,) in fp32, `columns` (c,) the inputs that stay exact -> `weight` (n, k) int8,
    `scale` (n,), `columns`, `rest` (c + 2, n), `steps` (). `rounded` makes whole numbers of the weights of the other
    inputs, (n, k - c) from -127 to 127.
    """
    others = torch.ones(weight.shape[1], dtype=torch.bool)
    others[columns] = False
    inner = weight[:, others]
    scale = (inner.abs().amax(1) / _LARGEST).clamp_(min=torch.finfo(torch.float32).tiny)
    whole = torch.zeros_like(weight)
    whole[:, others] = rounded(inner / scale[:, None]).clamp(-_LARGEST, _LARGEST)
    sums = (whole * scale[:, None]).sum(1)
    rest = torch.cat([weight[:, columns].T, sums[None], bias[None]])
    parts = {"weight": whole.to(torch.int8), "scale": scale, "columns": columns, "rest": rest.contiguous()}
    return {**parts, "steps": torch.tensor(2**bits - 1)}


class Int8Product:
    """One product of the encoder, with the weights laid out for this processor: a copy of one byte a weight."""

    def __init__(self, parts: Mapping[str, Tensor]) -> None:
        self._scale, self._columns, self._rest = parts["scale"], parts["columns"], parts["rest"]
        self._steps = _steps(parts)
        self._zeros = torch.zeros(len(self._scale), dtype=torch.int32)
        self._weight = torch.ops.onednn.qlinear_prepack(parts["weight"], None)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., k) in fp32 -> (..., n) in fp32. Not finite where an input of the token is not."""
        rows = x.reshape(-1, x.shape[-1])
        exact = rows[:, self._columns]
        rows.index_fill_(1, self._columns, 0)  # put back below: a copy would take longer than all the rest
        smallest = rows.amin(1, keepdim=True)
        step = (rows.amax(1, keepdim=True) - smallest).div_(self._steps).clamp_(min=1e-12)
        # Converted by way of int8, which torch does several times as fast: up to 127 the bits are the same, and 128
        # less than a number of 8 bits differs from it in the highest.
        shifted = self._steps > _LARGEST
        whole = rows.sub(smallest + 128 * step if shifted else smallest).mul_(step.reciprocal()).round_()
        whole = whole.to(torch.int8).view(torch.uint8)
        if shifted:
            whole.bitwise_xor_(128)
        rows.index_copy_(1, self._columns, exact)
        y = torch.ops.onednn.qlinear_pointwise(
            whole, 1.0, 0, self._weight, self._scale, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        y.mul_(step).addmm_(torch.cat([exact, smallest, torch.ones_like(smallest)], 1), self._rest)
        return y.view(*x.shape[:-1], -1)


def products(weights: Mapping[str, Tensor]) -> dict[str, Int8Product]:
    """The products of a model that are in 8-bit integers, by name.

    Raises:
        SettingsError: the model has such products, and this PyTorch or this processor can't compute them.
    """
    names = [name.removesuffix(".scale") for name in weights if name.endswith(".scale")]
    found = {name: {part: weights[full] for part in PARTS if (full := f"{name}.{part}") in weights} for name in names}
    if any(_steps(parts) > _LARGEST for parts in found.values()) and most_bits() < 8:
        raise SettingsError(without_vnni(platform.node()))
    if found:
        _check_build()
    return {name: Int8Product(parts) for name, parts in found.items()}


def without_vnni(machine: str) -> str:
    """The line for a user whose model has activations of 8 bits, where `machine` has no VNNI."""
    return (
        f"model.precision int8: the model's activations have 8 bits, and {machine} computes only those of 7 right, as "
        "it has no VNNI; set fp32 or auto, or make the model again with jobs/quantize.py and int8.activation_bits=7"
    )


def _steps(parts: Mapping[str, Tensor]) -> int:
    return int(parts["steps"]) if "steps" in parts else _LARGEST  # the first models had 7 bits without saying so


@functools.cache
def most_bits() -> int:
    """Bits of the activations for which this processor computes products right: 8 with VNNI, 7 without. Tries it out.

    Raises:
        SettingsError: this PyTorch can't compute them.
    """
    _check_build()
    rows, n, k = 32, 64, 64
    x = torch.ones(rows, k)
    x[:, 0] = 0  # so the others are as large as can be
    found = Int8Product(quantized(torch.ones(n, k), torch.zeros(n), torch.arange(0), bits=8))(x)
    return 8 if torch.allclose(found, torch.tensor(k - 1.0)) else 7


def _check_build() -> None:
    if not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        raise SettingsError(
            f"int8: PyTorch {torch.__version__} on {platform.node()} has no oneDNN, which computes the products in "
            "8-bit integers; install a build that has it, or score with model.precision fp32 or auto"
        )
