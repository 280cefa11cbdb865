"""Products in 8-bit integers, against whole-number arithmetic in numpy and against the products that they stand for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bigfive_udf.errors import SettingsError
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.model.bundle import fast_parts, with_int8
from bigfive_udf.model.encoder import Encoder
from bigfive_udf.model.int8 import Int8Product, most_bits, products, quantized
from bigfive_udf.quantizing.search import product_names, tensors_of
from support.cluster import clean_environment


@pytest.fixture(params=[7, 8])
def bits(request: pytest.FixtureRequest) -> int:
    """Bits of the activations."""
    if request.param > most_bits():
        pytest.skip("this processor has no VNNI, so it computes only 7 bits right")
    return int(request.param)


def random_product(
    seed: int, n: int, k: int, columns: int = 0, bits: int = 7
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    weight, bias = torch.randn(n, k, generator=generator), torch.randn(n, generator=generator)
    chosen = torch.randperm(k, generator=generator)[:columns].sort().values
    return weight, bias, quantized(weight, bias, chosen, bits)


def by_whole_numbers(x: np.ndarray, parts: dict[str, Tensor]) -> np.ndarray:
    """The same in 64 bits: whole numbers where the product has them, doubles elsewhere."""
    whole, scale, columns, rest = (parts[name].numpy() for name in ("weight", "scale", "columns", "rest"))
    inner = x.copy()
    inner[:, columns] = 0
    smallest = inner.min(1, keepdims=True)
    n_steps = np.float32(parts["steps"])
    step = np.maximum((inner.max(1, keepdims=True) - smallest) / n_steps, np.float32(1e-12))
    steps = np.rint((inner - smallest) * (1 / step)).astype(np.int64)
    exact = np.concatenate([x[:, columns], smallest, np.ones_like(smallest)], 1).astype(np.float64)
    return (steps @ whole.astype(np.int64).T) * scale.astype(np.float64) * step + exact @ rest.astype(np.float64)


@pytest.mark.parametrize("columns", [0, 3])
@pytest.mark.parametrize(("rows", "n", "k"), [(1, 5, 8), (7, 32, 64), (130, 96, 384), (40, 768, 3072)])
def test_a_product_is_what_whole_numbers_say(rows, n, k, columns, bits):
    _, _, parts = random_product(0, n, k, columns, bits)
    x = torch.randn(rows, k, generator=torch.Generator().manual_seed(1)) * 3
    found, expected = Int8Product(parts)(x).numpy(), by_whole_numbers(x.numpy(), parts)
    # A value in the middle between two steps may go either way; the arithmetic may not.
    close = np.isclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert close.all(axis=1).mean() > 0.95


def largest_sums(bits: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Inputs and a product where all sums are as large as can be; every result is 511."""
    n, k = 64, 512
    x = torch.ones(3, k)
    x[:, 0] = 0
    return x, quantized(torch.ones(n, k), torch.zeros(n), torch.tensor([], dtype=torch.int64), bits)


def test_sums_that_do_not_fit_sixteen_bits_are_not_cut_off(bits):
    """What processors without VNNI do to 8 bits: products are added up in pairs, in 16 bits."""
    x, parts = largest_sums(bits)
    np.testing.assert_allclose(Int8Product(parts)(x).numpy(), 511, rtol=1e-6)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo, which names VNNI")
def test_eight_bits_are_for_processors_with_vnni():
    words = set(Path("/proc/cpuinfo").read_text().split())
    assert most_bits() == (8 if words & {"avx512_vnni", "avx_vnni", "amx_int8"} else 7)


def test_a_product_made_before_there_was_a_choice_has_seven_bits():
    _, _, parts = random_product(0, 6, 16, 2)
    x = torch.randn(4, 16)
    right = Int8Product(parts)(x)
    del parts["steps"]
    assert torch.equal(products({f"a.{part}": tensor for part, tensor in parts.items()})["a"](x), right)


def test_a_processor_without_vnni_is_told_apart_and_refuses_eight_bits():
    program = """
import torch
from bigfive_udf.errors import SettingsError
from bigfive_udf.model.int8 import Int8Product, most_bits, products, quantized
assert most_bits() == 7
x = torch.ones(3, 512)
x[:, 0] = 0
seven, eight = (quantized(torch.ones(64, 512), torch.zeros(64), torch.arange(0), bits) for bits in (7, 8))
assert Int8Product(eight)(x).max() < 400, "these are the sums that are cut off"
right = products({f"layers.0.up.{part}": tensor for part, tensor in seven.items()})["layers.0.up"](x)
assert (right - 511).abs().max() < 0.01
try:
    products({f"layers.0.up.{part}": tensor for part, tensor in eight.items()})
except SettingsError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment(ONEDNN_MAX_CPU_ISA="AVX2"),  # oneDNN's own way to be as on an older processor
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(
        r"model\.precision int8: the model's activations have 8 bits, and \S+ computes only those of 7 right, .*; set "
        r"fp32 or auto, or make the model again with jobs/quantize\.py and int8\.activation_bits=7\n",
        done.stdout,
    )


@settings(deadline=None)
@given(
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(2, 80)),
    columns=st.integers(0, 4),
    spread=st.sampled_from([1e-3, 1.0, 100.0]),
    shift=st.sampled_from([-5.0, 0.0, 3.0]),
    bits=st.sampled_from([7, 8]),
)
def test_the_difference_to_the_exact_product_is_that_of_rounding(seed, size, columns, spread, shift, bits):
    rows, n, k = size
    bits = min(bits, most_bits())
    weight, bias, parts = random_product(seed, n, k, min(columns, k - 1), bits)
    x = torch.randn(rows, k, generator=torch.Generator().manual_seed(seed)) * spread + shift
    exact = torch.nn.functional.linear(x.double(), weight.double(), bias.double())
    inner, inner_weight = x.clone(), weight.clone()
    inner[:, parts["columns"]] = 0
    inner_weight[:, parts["columns"]] = 0
    step = (inner.amax(1) - inner.amin(1)) / (2**bits - 1)
    # Half a step of every input times its weight, and half a step of every weight times its input.
    bound = 0.5 * step[:, None] * inner_weight.abs().sum(1) * 1.01 + 0.5 * parts["scale"] * inner.abs().sum(1)[:, None]
    slack = 1e-5 * (exact.abs() + x.abs() @ weight.abs().T + 1)
    assert ((Int8Product(parts)(x).double() - exact).abs() <= bound + slack).all()


def test_large_inputs_that_stay_exact_cost_the_others_nothing():
    weight, bias, _ = random_product(0, 16, 32)
    x = torch.randn(50, 32, generator=torch.Generator().manual_seed(1))
    x[:, 5] *= 1000
    exact = torch.nn.functional.linear(x, weight, bias)
    without, kept = (
        (Int8Product(quantized(weight, bias, torch.tensor(columns, dtype=torch.int64)))(x) - exact).abs().mean()
        for columns in ([], [5])
    )
    assert kept < without / 50


def test_the_inputs_are_as_they_were_and_the_shape_is_kept(bits):
    _, _, parts = random_product(0, 6, 16, 2, bits)
    x = torch.randn(4, 3, 16)
    before = x.clone()
    y = Int8Product(parts)(x)
    assert torch.equal(x, before)
    assert y.shape == (4, 3, 6)
    torch.testing.assert_close(y[2, 1], Int8Product(parts)(x[2, 1][None])[0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("column", [0, 7])
def test_a_token_that_is_not_finite_stays_so_and_harms_no_other(value, column, bits):
    weight, bias, _ = random_product(0, 6, 16)
    product = Int8Product(quantized(weight, bias, torch.tensor([7]), bits))
    x = torch.randn(5, 16)
    right = product(x)
    x[2, column] = value
    y = product(x)
    assert not torch.isfinite(y[2]).any()
    others = [0, 1, 3, 4]
    torch.testing.assert_close(y[others], right[others])


ENCODERS = [("distilbert", "cls"), ("bert", "mean"), ("roberta", "cls")]


@pytest.fixture(params=ENCODERS, ids=" ".join)
def encoders(request, checkpoint, bits) -> tuple[Encoder, Encoder]:
    """In fp32, and with every product in int8 that can be."""
    architecture, pooling = request.param
    head = "linear" if pooling == "cls" else "mlp"
    spec, weights = fast_parts(load_artifact(checkpoint(architecture, head=head, pooling=pooling)).pack("fp32"))
    names = product_names(spec)
    assert len(names) == (4 if pooling == "cls" else 8), "the last layer of first tokens only is not worth it"
    exact = torch.tensor([1, 5])
    parts = {n: quantized(weights[f"{n}.weight"], weights[f"{n}.bias"], exact, bits) for n in names}
    reduced = with_int8(weights, tensors_of(parts, names))
    assert all(reduced[f"{n}.weight"].dtype is torch.int8 and f"{n}.bias" not in reduced for n in names)
    return Encoder(spec, weights), Encoder(spec, reduced)


def test_a_pytorch_that_cannot_compute_it_is_told_with_the_cure(monkeypatch):
    weight, bias, parts = random_product(0, 6, 16)
    weights = {f"layers.0.up.{part}": tensor for part, tensor in parts.items()}
    assert set(products(weights)) == {"layers.0.up"}
    monkeypatch.setattr(torch.ops, "onednn", SimpleNamespace())  # as in builds without oneDNN
    assert products({"layers.0.up.weight": weight, "layers.0.up.bias": bias}) == {}, "it is asked for in int8 only"
    with pytest.raises(SettingsError, match=r"int8: PyTorch .* has no oneDNN.*; install a build that has it, or score"):
        products(weights)


IDS = torch.randint(5, 60, (9, 20), generator=torch.Generator().manual_seed(0))
LENGTHS = torch.randint(3, 21, (9,), generator=torch.Generator().manual_seed(1))


def test_an_encoder_in_int8_says_nearly_what_it_says_in_fp32(encoders, request):
    name = " ".join(request.node.callspec.params["encoders"])
    exact, found = (torch.sigmoid(encoder(IDS, LENGTHS)) for encoder in encoders)
    # What is seen, and a third more: without the biases it is five times as much and more.
    limit = {"distilbert cls": 0.0113, "bert mean": 0.0033, "roberta cls": 0.0046}[name]
    assert 1e-5 < (exact - found).abs().mean() < limit


def test_texts_beside_a_text_move_it_no_more_than_rounding_does(encoders):
    exact, reduced = encoders
    together = torch.sigmoid(reduced(IDS, LENGTHS))
    alone = torch.cat([torch.sigmoid(reduced(IDS[i : i + 1, :n], LENGTHS[i : i + 1])) for i, n in enumerate(LENGTHS)])
    rounding = (torch.sigmoid(exact(IDS, LENGTHS)) - together).abs().max()
    assert (together - alone).abs().max() <= rounding
