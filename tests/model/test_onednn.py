"""Products by oneDNN, against torch's own products and activations in fp64."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bigfive_udf.model import bundle, node_cache, onednn
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.model.encoder import ACTIVATIONS, Encoder
from bigfive_udf.model.scorer import Scorer
from bigfive_udf.model.scores import AUTO, OWN, SHARED
from support.models import ARCHITECTURES, TRAINING_TEXT
from support.oracle import Oracle

X86 = platform.machine() in ("x86_64", "AMD64")
pytestmark = pytest.mark.skipif(not X86, reason="only x86 takes oneDNN by name")
CPU = torch.device("cpu")
DTYPES = [torch.float32, *([torch.bfloat16] if X86 and onednn.computes_bf16() else [])]
TEXTS = [*(" ".join(TRAINING_TEXT[i % 5].split()[: 1 + i % 13]) for i in range(40)), " ".join(TRAINING_TEXT * 30)]


def random_weights(seed: int, n: int, k: int, dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    parts = {"p.weight": torch.randn(n, k, generator=generator), "p.bias": torch.randn(n, generator=generator)}
    return {name: part.to(dtype) for name, part in parts.items()}


@settings(deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 1000),
    shape=st.lists(st.integers(0, 9), min_size=1, max_size=2),
    n=st.integers(1, 70),
    k=st.integers(1, 70),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    where=st.sampled_from([SHARED, OWN, AUTO]),
    dtype=st.sampled_from(DTYPES),
    apart=st.booleans(),
)
def test_a_product_is_that_of_torch(seed, shape, n, k, activation, where, dtype, apart):
    weights = random_weights(seed, n, k, dtype)
    x = torch.randn(*shape, k, generator=torch.Generator().manual_seed(seed + 1)).to(dtype)
    if apart:  # a tensor whose rows do not lie one after the other, as the first tokens of windows do not
        x = torch.stack([x, x], dim=-2)[..., 0, :]
    product = onednn.products(weights, ["p"], where)["p"]
    known = activation if onednn.computes(activation) else "linear"
    found = product(x, known)
    exact = ACTIVATIONS[known](x.double() @ weights["p.weight"].double().T + weights["p.bias"].double())
    assert found.dtype == dtype
    assert found.shape == exact.shape
    digits = {torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    np.testing.assert_allclose(found.double().numpy(), exact.numpy(), atol=digits * (1 + k**0.5), rtol=digits)


def test_every_usual_activation_is_computed_with_its_product_where_that_is_faster(monkeypatch):
    def computed(capability: str) -> set[str]:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        return {name for name in ACTIVATIONS if onednn.computes(name)}

    assert computed("AVX512") == {"linear", "relu", "gelu", "gelu_new", "gelu_pytorch_tanh"}
    assert computed("AVX2") == {"linear", "relu"}


def test_auto_copies_small_weights_and_leaves_large_ones_where_they_are(monkeypatch):
    weights = random_weights(0, 64, 32, torch.float32)
    size = weights["p.weight"].nbytes

    def copied(where: str) -> bool:
        return onednn.products(weights, ["p"], where)["p"]._weight.is_mkldnn

    monkeypatch.setattr(onednn, "MOST_OWN_BYTES", size)
    assert [copied(where) for where in (SHARED, OWN, AUTO)] == [False, True, True]
    monkeypatch.setattr(onednn, "MOST_OWN_BYTES", size - 1)
    assert [copied(where) for where in (SHARED, OWN, AUTO)] == [False, True, False]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_what_it_does_not_compute_is_left_to_torch(dtype):
    assert onednn.products(random_weights(0, 8, 8, dtype), ["p"]) == {}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_own_and_shared_weights_give_the_scores_of_transformers(checkpoint, architecture, pooling):
    path = checkpoint(architecture, pooling=pooling)
    artifact = load_artifact(path)
    packed = artifact.pack("fp32")
    directory = node_cache.unpacked(packed.digest, lambda: packed.files)
    own, shared = (Scorer.open(directory, artifact.options(weights=w)).score(TEXTS) for w in ("own", "shared"))
    np.testing.assert_allclose(own.logits, shared.logits, atol=1e-5)
    oracle = Oracle(path)
    for i in (0, 7, 12, 39):
        for scores in (own, shared):
            np.testing.assert_allclose(scores.probabilities[i], oracle.probabilities(TEXTS[i]), atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_all_products_of_the_layers_are_computed_so(checkpoint, pooling):
    artifact = load_artifact(checkpoint("distilbert", pooling=pooling))
    packed = artifact.pack("fp32")
    directory = node_cache.unpacked(packed.digest, lambda: packed.files)
    encoder = bundle.load_forward(directory, json.loads((directory / bundle.ABOUT).read_text()), CPU, OWN)
    assert isinstance(encoder, Encoder)
    per_layer = [
        f"layers.{i}.{kind}" for i in range(encoder.spec.n_layers) for kind in ("qkv", "attention", "up", "down")
    ]
    last = f"layers.{encoder.spec.n_layers - 1}.qkv"
    expected = [p for p in per_layer if p != last or pooling == "mean"]
    expected += ["last.query"] if pooling == "cls" else []
    assert sorted(encoder._onednn) == sorted(expected)


def test_no_program_is_compiled_for_other_numbers_of_texts(checkpoint):
    """oneDNN logs for how many rows it was asked: with a program for each, AMX spent a third of its time so."""
    script = """
import sys
from bigfive_udf.model.artifact import load_artifact

model = load_artifact(sys.argv[1])
for some in (range(1, 90), range(3, 160, 2), range(50, 70)):
    print("next", flush=True)
    model.predict([" ".join(["word"] * (1 + n % 45) + [str(n)]) for n in some], device="cpu", precision="fp32")
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(checkpoint())],
        env={**os.environ, "ONEDNN_VERBOSE": "2", "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    for part in done.stdout.split("next\n")[1:]:
        asked = Counter(re.findall(r"create:cache_\w+,cpu,inner_product,.*,mb(\d+)ic", part))
        assert asked
        assert all(int(rows) % 32 == 0 for rows in asked), asked
