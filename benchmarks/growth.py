"""How time grows with the number of documents, and with the length of a text.

    python -m benchmarks.growth [--short FILE] [--size minilm] [--documents 1000 4000 16000]
                                [--tokens 16 32 64 128 256 510 2040] [--repeats 3] [--output x.json]

Documents: for messages in one partition, the seconds from spark-submit (local[2]) to the commit, and a straight line
through them. It gives the time before a run scores anything, and the documents per second after that. Tokens: the
engine alone, with one thread, on texts of this many tokens each; longer texts than a window are split into several.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cold_start import JAVA_OPTIONS, make_corpus, until_committed
from benchmarks.support.flags import parser
from benchmarks.support.results import save
from benchmarks.support.workloads import SHORT, WORDS, Texts, random_checkpoint, vocabulary_of
from bigfive_udf.model import hardware
from bigfive_udf.model.artifact import load_artifact

_TOKENS_OF_A_TURN = 16384


def main() -> None:
    flags = parser(__doc__, "short", size="minilm", repeats=3)
    flags.add_argument("--documents", nargs="*", type=int, default=[1000, 4000, 16000])
    flags.add_argument("--tokens", nargs="*", type=int, default=[16, 32, 64, 128, 256, 510, 2040])
    args = flags.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = random_checkpoint(Path(scratch) / "model", vocabulary_of(None), args.size)
        lengths = by_length(model, args.tokens, args.repeats)
        print(*_length_lines(lengths), sep="\n", flush=True)
        documents = by_documents(Path(scratch), model, Texts(args.short), args.documents, args.repeats)
        print(*_document_lines(documents), sep="\n")
    if args.output:
        found = {"size": args.size, "lengths": lengths, "documents": documents}
        save(args.output, found)


def by_length(model: Path, lengths: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """Texts and tokens per second for each length: the median over turns, each of which goes through all lengths."""
    hardware.use_threads(1)
    artifact = load_artifact(model)
    placement = hardware.decide("cpu", "auto", [hardware.look(use_gpu=False)])
    scorer = artifact.scorer(placement, artifact.options())
    rng = random.Random(0)
    texts = {n: [" ".join(rng.choices(WORDS, k=n)) for _ in range(max(2, _TOKENS_OF_A_TURN // n))] for n in lengths}
    seconds: dict[int, list[float]] = {n: [] for n in lengths}
    tokens: dict[int, float] = {}
    for turn in range(repeats + 1):
        for n in lengths:
            scores = scorer.score(texts[n])
            tokens[n] = float(scores.n_tokens.mean())
            if turn:  # the first one is a warm-up
                seconds[n].append(scores.effort.tokenize_seconds + scores.effort.model_seconds)
    return [
        {
            "precision": placement.precision,
            "tokens": tokens[n],
            "texts_per_second": len(texts[n]) / statistics.median(seconds[n]),
            "tokens_per_second": len(texts[n]) * tokens[n] / statistics.median(seconds[n]),
        }
        for n in lengths
    ]


def by_documents(
    place: Path, model: Path, source: Texts, numbers: Sequence[int], repeats: int
) -> list[dict[str, float]]:
    """Seconds from spark-submit to the commit, for each number of documents: the median over turns through all."""
    for n in numbers:
        make_corpus(place / f"corpus-{n}", source.of(SHORT, n))
    java = ["--driver-java-options", JAVA_OPTIONS]
    seconds: dict[int, list[float]] = {n: [] for n in numbers}
    for turn in range(repeats):
        for n in numbers:
            seconds[n].append(until_committed(place / f"scores-{n}-{turn}", place / f"corpus-{n}", model, java))
    return [{"documents": n, "seconds": statistics.median(seconds[n])} for n in numbers]


def _length_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = [f"{'tokens':>8} {'texts/s':>10} {'tokens/s':>10}   one thread, {rows[0]['precision']}"] if rows else []
    return lines + [
        f"{row['tokens']:8,.0f} {row['texts_per_second']:10,.1f} {row['tokens_per_second']:10,.0f}" for row in rows
    ]


def _document_lines(rows: Sequence[dict[str, float]]) -> list[str]:
    lines = [f"{row['documents']:10,} documents {row['seconds']:8.1f} s" for row in rows]
    if len(rows) > 1:
        each, start = np.polyfit([row["documents"] for row in rows], [row["seconds"] for row in rows], 1)
        lines.append(f"{start:.1f} s, and then {1 / each:,.0f} documents a second")
    return lines


if __name__ == "__main__":
    main()
