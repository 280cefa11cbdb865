"""Tokens per second on a GPU, without Spark: packed and padded batches against a transformers pipeline.

    python -m benchmarks.gpu [--short FILE] [--long FILE] [--workload short ...] [--size distilbert ...]
                             [--threads 8] [--batch-tokens 32768 ...] [--repeats 3] [--output x.json]

It measures three rates: the tokenizer alone, the model alone (everything is tokenized before the clock starts), and
both together, where the next texts are tokenized while the GPU computes. Special tokens are counted, padding never. The
pipeline runs in fp16 at the best of several batch sizes. The model's rate includes making batches, and every call of
8,192 texts begins with an idle GPU: so it is the rate that a worker gets, and lower than that of the kernels. The share
of the peak compares with the highest rate of matrix products measured on this GPU. It counts the FLOPs of the products
that a token needs.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.support.flags import parser
from benchmarks.support.results import save
from benchmarks.support.workloads import SIZES, Texts, random_checkpoint, vocabulary_of
from bigfive_udf.model import hardware, node_cache
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.model.bundle import DTYPES
from bigfive_udf.model.fidelity import compare
from bigfive_udf.model.hardware import Placement
from bigfive_udf.model.scorer import DEFAULT_BATCH_TOKENS, Scorer
from bigfive_udf.model.scores import Effort

NUMBERS = {"short": 200_000, "long": 8_000, "mixed": 60_000, "repeated": 200_000}
PIPELINE_SHARE, PIPELINE_BATCHES = 50, (32, 128, 512)
"""The pipeline gets one text in fifty, at each of these batch sizes, truncated at the model's maximum length."""
STAGES = ("tokenizer", "model", "padded_model", "end_to_end")
_SPECIAL = 2  # special tokens that are added to a text
_CALL = 8192  # texts per call, as many as a Spark worker gathers


def main() -> None:
    flags = parser(__doc__, "short", "long", "vocabulary", workload=["short", "mixed"], size=["distilbert"], repeats=3)
    flags.add_argument("--threads", type=int, help="of the tokenizer, as spark.task.cpus gives them; else all cores")
    flags.add_argument("--batch-tokens", nargs="+", type=int, default=[DEFAULT_BATCH_TOKENS["cuda"]])
    flags.add_argument("--share", type=int, default=1, help="only one text in so many, for a first try")
    args = flags.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no GPU here that torch can use")
    # Before any tokenizer exists: else a pipeline would limit this process to one tokenizer thread for good.
    threads = args.threads or len(os.sched_getaffinity(0))
    hardware.use_threads(threads)
    placement = hardware.decide("cuda", "auto", [hardware.look()])
    peak = matrix_peak(DTYPES[placement.precision])
    print(f"{torch.cuda.get_device_name()}, {placement.precision} matrix products at {peak / 1e12:.0f} TFLOP/s at best")
    results = []
    for size in args.size:
        with tempfile.TemporaryDirectory() as scratch:
            path = random_checkpoint(Path(scratch) / "model", vocabulary_of(args.vocabulary), size)
            for workload, tokens in itertools.product(args.workload, args.batch_tokens):
                texts = Texts(args.short, args.long).of(workload, NUMBERS[workload] // args.share)
                row = measured(path, texts, args.repeats, placement, tokens)
                row["share_of_peak"] = row["model_tokens_per_second"] * flops_of_a_token(size) / peak
                results.append({"size": size, "workload": workload, "texts": len(texts), **row})
                print(_lines(results[-1]), flush=True)
                if args.output:  # after each result: later ones may fail or take too long
                    save(args.output, results, matrix_peak=peak, threads=threads)


def matrix_peak(dtype: torch.dtype) -> float:
    """The highest FLOP/s measured for matrix products as large as an encoder's."""
    best = 0.0
    for n in (4096, 8192):
        a, b = (torch.randn(n, n, device="cuda", dtype=dtype) for _ in range(2))
        seconds = min(_seconds(partial(_products, a, b)) for _ in range(5))
        best = max(best, 20 * n**3 / seconds)
    return best


def _products(a: torch.Tensor, b: torch.Tensor) -> None:
    for _ in range(10):
        a @ b
    torch.cuda.synchronize()


def flops_of_a_token(size: str) -> float:
    """FLOPs of a token's matrix products, two per weight; left out are attention and the last layer's few tokens."""
    layers, width, _, inner = SIZES[size]
    return (layers - 1) * 2 * (4 * width * width + 2 * width * inner)


def measured(
    path: Path, texts: Sequence[str], repeats: int, placement: Placement, batch_tokens: int | None = None
) -> dict[str, Any]:
    """Median tokens per second of each stage, and how far the scores are from fp32 scores."""
    artifact = load_artifact(path)
    options, bundle = artifact.options(max_batch_tokens=batch_tokens), artifact.pack(placement.precision)
    directory = node_cache.unpacked(bundle.digest, lambda: bundle.files)
    batches = [texts[i : i + _CALL] for i in range(0, len(texts), _CALL)]
    usual = Scorer.open(directory, options, placement.device)
    memory = _peak_memory(usual, batches, placement.device)
    padded = Scorer.open(directory, options, placement.device, pack=False)
    rates: dict[str, list[float]] = {name: [] for name in (*STAGES, "pipeline")}
    for repeat in range(repeats + 1):
        apart, of_padded = _effort(usual, batches), _effort(padded, batches)
        seconds = _seconds(lambda: list(usual.score_all(batches, ahead=True)))
        if repeat:  # the first turn is a warm-up
            rates["tokenizer"].append(apart.tokens / apart.tokenize_seconds)
            rates["model"].append(apart.tokens / apart.model_seconds)
            rates["padded_model"].append(of_padded.tokens / of_padded.model_seconds)
            rates["end_to_end"].append(apart.tokens / seconds)
    few = random.Random(0).sample(texts, -(-len(texts) // PIPELINE_SHARE))
    reads = sum(min(int(n) + _SPECIAL, options.max_length) for n in usual.score(few).n_tokens)
    classify = _pipeline(path, placement.device)
    rates["pipeline"] = [reads / min(_pipeline_seconds(classify, few, n) for n in PIPELINE_BATCHES)]
    exact = artifact.scorer(Placement(placement.device, "fp32"), options).score(few).probabilities
    difference = compare(usual.score(few).probabilities, exact, artifact.thresholds, placement.precision)
    return {
        "tokens": apart.tokens,
        "precision": placement.precision,
        "batch_tokens": batch_tokens,
        "packed": usual.packed,
        "peak_memory_gb": memory / 1e9,
        **{f"{name}_tokens_per_second": statistics.median(values) for name, values in rates.items()},
        **asdict(difference),
    }


def _effort(scorer: Scorer, batches: Sequence[Sequence[str]]) -> Effort:
    """The effort of scoring with tokenizer and model one after the other; a repeated text counts once."""
    total = Effort()
    for scores in scorer.score_all(batches, ahead=False):
        total += scores.effort
    return total


def _peak_memory(scorer: Scorer, batches: Sequence[Sequence[str]], device: str) -> int:
    """Peak GPU bytes of tensors while this scorer is the only one."""
    if device != "cuda":
        return 0
    gc.collect()  # memory that the last workload's pipeline has left
    torch.cuda.reset_peak_memory_stats()
    _effort(scorer, batches)
    return torch.cuda.max_memory_allocated()


def _pipeline(path: Path, device: str) -> Callable[..., Any]:
    from transformers import pipeline

    return pipeline(
        "text-classification", model=str(path), device=device, dtype=torch.float16, top_k=None,
        function_to_apply="sigmoid", truncation=True,
    )  # fmt: skip


def _pipeline_seconds(classify: Callable[..., Any], texts: Sequence[str], batch: int) -> float:
    """The shorter of two times: torch's choice of attention, or all but cuDNN's, which makes a plan for each shape."""
    classify(list(texts[:batch]), batch_size=batch)
    as_it_is = _seconds(lambda: classify(list(texts), batch_size=batch))
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
        return min(as_it_is, _seconds(lambda: classify(list(texts), batch_size=batch)))


def _seconds(run: Callable[[], Any]) -> float:
    """Seconds of a run that ends with its results on the CPU."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _lines(row: dict[str, Any]) -> str:
    rates = {name: row[f"{name}_tokens_per_second"] for name in STAGES}
    lines = [
        f"\n{row['size']}, {row['workload']}: {row['texts']:,} texts, {row['tokens']:,} tokens, in {row['precision']}"
    ]
    lines += [f"{name.replace('_', ' '):>14} {rate:14,.0f} tokens/s" for name, rate in rates.items()]
    lines.append(f"{'pipeline, fp16':>14} {row['pipeline_tokens_per_second']:14,.0f} tokens/s")
    usual = row["pipeline_tokens_per_second"]  # includes its tokenizer, like end_to_end, unlike model
    lines.append(
        f"{'packed' if row['packed'] else 'padded'}; end to end {rates['end_to_end'] / usual:.1f} x the pipeline, the "
        f"model alone {rates['model'] / usual:.1f} x and at {100 * row['share_of_peak']:.0f} % of the peak; "
        f"{100 * row['label_flips']:.2f} % of labels flip"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
