"""A second worker on a machine shares the first one's weights, or holds those of the products itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bigfive_udf.model import node_cache
from bigfive_udf.model.artifact import load_artifact


def _hold(digest: str, weights: str) -> subprocess.Popen[str]:
    program = Path(__file__).with_name("hold_model.py")
    return subprocess.Popen(
        [sys.executable, str(program), digest, weights], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _private_and_weights(digest: str, weights: str) -> tuple[int, int]:
    """Bytes that a second worker takes for itself when it loads the model and scores, and those of the weights."""
    first = _hold(digest, weights)
    try:
        assert first.stdout is not None
        first.stdout.readline()
        second = _hold(digest, weights)
        out, _ = second.communicate("\n", timeout=120)
        before, after, size = map(int, out.split())
    finally:
        first.communicate("\n", timeout=120)
    print(f"{weights}: {(after - before) / 1e6:.1f} MB private for {size / 1e6:.0f} MB of weights")
    return after - before, size


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="private memory is read from Linux's /proc")
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_a_second_worker_needs_less_than_a_quarter_of_the_weights_where_they_are_shared(checkpoint, precision):
    packed = load_artifact(checkpoint(size="full")).pack(precision)
    node_cache.unpacked(packed.digest, lambda: packed.files)
    private, weights = _private_and_weights(packed.digest, "shared")
    assert weights > 130e6
    assert private < weights / 4


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="private memory is read from Linux's /proc")
def test_weights_of_its_own_cost_a_worker_their_size_and_not_more(checkpoint):
    packed = load_artifact(checkpoint(size="full")).pack("fp32")
    node_cache.unpacked(packed.digest, lambda: packed.files)
    private, weights = _private_and_weights(packed.digest, "own")
    layers = 6 * 4 * 12 * 768**2
    assert layers * 0.9 < private < layers + weights / 4
