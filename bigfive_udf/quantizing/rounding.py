"""Rounding the weights of a product to whole numbers, so that its results change as little as they can.

Source: Frantar et al. 2023, GPTQ. The weights of one input after the other are rounded, and what that does to the
results is made up for by the weights of the inputs still to come, as far as these vary with it. Inputs of a layer do
vary together: of the default model's logits, the mean square change by int8 weights is a third to a half of that by
rounding to the nearest (measured).
"""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 128
"""Inputs after which the weights of all later ones are changed: a matrix product instead of many small changes."""
_DAMPING = 0.01
"""Share of an average input's mean square, as noise in every input: a sample shows fewer directions than there are."""


def rounded(weight: Tensor, moments: Tensor, largest: int = 127) -> Tensor:
    """Whole numbers from -`largest` to `largest` near `weight` (n, k) for inputs with the second moments (k, k).

    `moments` are the sums or means of x x' over inputs x; only their ratios matter.
    """
    moments = moments.double()
    moments = moments + torch.eye(len(moments)) * (_DAMPING * moments.diagonal().mean()).clamp(min=1e-12)
    # Large inputs first: they have most others to make up for them.
    order = moments.diagonal().argsort(descending=True)
    left = weight[:, order].double()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments[order][:, order]))
    factor = torch.linalg.cholesky(inverse, upper=True)
    whole = torch.empty_like(left)
    for start in range(0, len(order), _BLOCK):
        block = slice(start, min(start + _BLOCK, len(order)))
        missed = torch.empty_like(left[:, block])
        for i in range(block.start, block.stop):
            whole[:, i] = left[:, i].round().clamp(-largest, largest)
            missed[:, i - start] = (left[:, i] - whole[:, i]) / factor[i, i]
            left[:, i : block.stop] -= missed[:, i - start, None] * factor[i, i : block.stop]
        left[:, block.stop :] -= missed @ factor[block, block.stop :]
    found = torch.empty_like(weight)
    found[:, order] = whole.to(weight.dtype)
    return found
