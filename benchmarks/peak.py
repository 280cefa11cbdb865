"""How much of the processor the model uses: its floating-point operations per second, and those of its products.

    python -m benchmarks.peak [--short FILE] [--size distilbert minilm] [--texts 256] [--repeats 5] [--output x.json]

It uses one thread, as a Spark task does. The products are the matrix products of one layer, on as many tokens as a
batch has, with weights in the model's layout. The speed at which torch computes them is taken as the peak. Model and
products take turns. Operations are counted as executed, including those on padding; a multiply and an add count as two.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from benchmarks.support.flags import parser
from benchmarks.support.results import save
from benchmarks.support.workloads import SHORT, SIZES, Texts, random_checkpoint, vocabulary_of
from bigfive_udf.model import hardware
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.model.bundle import DTYPES
from bigfive_udf.model.hardware import Placement
from bigfive_udf.model.onednn import OneDnnProduct
from bigfive_udf.model.scorer import DEFAULT_BATCH_TOKENS, Scorer


def main() -> None:
    flags = parser(__doc__, "short", "vocabulary", size=list(SIZES), repeats=5)
    flags.add_argument("--texts", type=int, default=256)
    args = flags.parse_args()
    hardware.use_threads(1)
    texts, results = Texts(args.short).of(SHORT, args.texts), []
    print(f"{'size':>10} {'precision':>10} {'model GFLOP/s':>14} {'products GFLOP/s':>17} {'share':>8}")
    for size in args.size:
        with tempfile.TemporaryDirectory() as scratch:
            path = random_checkpoint(Path(scratch) / "model", vocabulary_of(args.vocabulary), size)
            for precision in ("fp32", *(["bf16"] if hardware.look(use_gpu=False).cpu_bf16 else [])):
                found = measured(path, size, precision, texts, args.repeats)
                results.append(found)
                print(
                    f"{size:>10} {precision:>10} {found['model'] / 1e9:14.1f} {found['products'] / 1e9:17.1f} "
                    f"{100 * found['model'] / found['products']:6.0f} %",
                    flush=True,
                )
    if args.output:
        save(args.output, results)


def measured(path: Path, size: str, precision: str, texts: Sequence[str], repeats: int) -> dict[str, Any]:
    """Median operations per second of the model's stage, and of its products alone."""
    artifact = load_artifact(path)
    scorer = artifact.scorer(Placement("cpu", precision), artifact.options())
    operations = executed(scorer, texts)
    products = _Products(size, DTYPES[precision])
    products.seconds()
    turns = [(scorer.score(texts).effort.model_seconds, products.seconds()) for _ in range(repeats)]
    model, alone = (statistics.median(of) for of in zip(*turns, strict=True))
    about = {"size": size, "precision": precision, "texts": len(texts), "operations": operations}
    return about | {"model": operations / model, "products": products.operations / alone, "seconds": turns}


def executed(scorer: Scorer, texts: Sequence[str]) -> int:
    """Operations that the model executes on the texts, counted by torch's own counter."""
    # The operators for attention and products on a CPU: the counter does not know them by these names.
    counter = FlopCounterMode(
        display=False,
        custom_mapping={
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
                lambda q, k, v, *_, out_shape=None, **__: sdpa_flop_count(q, k, v)
            ),
            torch.ops.mkldnn._linear_pointwise: lambda x, *_, out_shape=None, **__: 2 * x[-1] * math.prod(out_shape),
        },
    )
    with counter:
        scorer.score(texts)
    return counter.get_total_flops()


class _Products:
    """The products of one layer on a batch of tokens, repeated until a turn is about as long as one of the model."""

    _TIMES = 20

    def __init__(self, size: str, dtype: torch.dtype) -> None:
        _, width, _, inner = SIZES[size]
        tokens = DEFAULT_BATCH_TOKENS["cpu"]
        shapes = [(3 * width, width), (width, width), (inner, width), (width, inner)]
        self._parts = [
            (
                torch.randn(tokens, k).to(dtype),
                OneDnnProduct(torch.randn(n, k).to(dtype), torch.randn(n).to(dtype), True),
            )
            for n, k in shapes
        ]
        self.operations = self._TIMES * sum(2 * tokens * n * k for n, k in shapes)

    @torch.inference_mode()
    def seconds(self) -> float:
        started = time.perf_counter()
        for _ in range(self._TIMES):
            for x, product in self._parts:
                product(x)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
