"""Rounding weights for the inputs they are multiplied with, against rounding each to the nearest whole number."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bigfive_udf.quantizing.rounding import rounded


def inputs(seed: int, rows: int, k: int, together: float) -> Tensor:
    """Inputs (rows, k) that vary together: `together` 0 not at all, 1 all in a few directions."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(4, k, generator=generator)
    few = torch.randn(rows, 4, generator=generator) @ directions
    return together * few + (1 - together) * torch.randn(rows, k, generator=generator)


def weights(seed: int, n: int, k: int) -> Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed + 1)) * 20


def change(weight: Tensor, whole: Tensor, x: Tensor) -> float:
    """Mean square change of the results on inputs x."""
    return float((x @ (whole - weight).T).square().mean())


@settings(deadline=None)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 20),
    k=st.integers(1, 300),  # more than one block
    rows=st.integers(1, 400),
    together=st.floats(0, 1),
)
def test_weights_become_whole_numbers_in_range(seed, n, k, rows, together):
    x, weight = inputs(seed, rows, k, together), weights(seed, n, k)
    weight[:, 0] = 127.4
    found = rounded(weight, x.T @ x)
    assert found.shape == weight.shape
    assert torch.equal(found, found.round())
    assert found.abs().max() <= 127


def test_inputs_that_vary_together_make_up_for_each_other():
    x, unseen, weight = inputs(0, 2000, 200, 0.8), inputs(0, 2400, 200, 0.8)[2000:], weights(0, 50, 200)
    found = rounded(weight, x.T @ x)
    # What is seen is a thirteenth on the inputs it was made for. The others come from the same few directions.
    assert change(weight, found, x) < change(weight, weight.round(), x) / 8
    assert change(weight, found, unseen) < change(weight, weight.round(), unseen) / 4


def test_inputs_that_vary_alone_are_rounded_to_the_nearest():
    weight = weights(0, 50, 200)
    assert torch.equal(rounded(weight, torch.diag(torch.linspace(0.1, 5, 200))), weight.round().clamp(-127, 127))


def test_the_scale_of_the_moments_does_not_matter_nor_an_input_that_is_always_zero():
    x, weight = inputs(0, 500, 40, 0.5), weights(0, 10, 40)
    x[:, 7] = 0
    found = rounded(weight, x.T @ x)
    assert torch.equal(found, rounded(weight, x.T @ x / len(x)))
    assert torch.equal(found[:, 7], weight[:, 7].round())
    assert torch.equal(rounded(weight, torch.zeros(40, 40)), weight.round().clamp(-127, 127))
