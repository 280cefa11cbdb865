"""A second worker on a machine shares the first one's weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bigfive_udf.model import node_cache
from bigfive_udf.model.artifact import load_artifact


def _hold(digest: str) -> subprocess.Popen[str]:
    program = Path(__file__).with_name("hold_model.py")
    return subprocess.Popen(
        [sys.executable, str(program), digest], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="private memory is read from Linux's /proc")
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_a_second_worker_needs_less_than_a_quarter_of_the_weights(checkpoint, precision, record_property):
    packed = load_artifact(checkpoint(size="full")).pack(precision)
    node_cache.unpacked(packed.digest, lambda: packed.files)
    first = _hold(packed.digest)
    try:
        assert first.stdout is not None
        first.stdout.readline()
        second = _hold(packed.digest)
        out, _ = second.communicate("\n", timeout=120)
        before, after, weights = map(int, out.split())
    finally:
        first.communicate("\n", timeout=120)
    print(f"{precision}: {(after - before) / 1e6:.1f} MB private for {weights / 1e6:.0f} MB of weights")
    assert weights > 130e6
    assert after - before < weights / 4
