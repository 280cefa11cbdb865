"""Texts per second without Spark: this project's engine against others, two processes of one thread each.

    python -m benchmarks.loops [--short FILE] [--long FILE] [--workload short ...] [--size distilbert ...]
                               [--engine "ours fp32" ...] [--repeats 3] [--output x.json]

Engines take turns, so that other load on the machine affects all of them. Ours get four times as many texts, or their
turns would be too short. Both processes get about as much text, and equal texts go to the same process, as they do on
Spark. A turn begins with loading the engine and scoring a tenth of the texts, not counted. Its processes end with the
turn, for some keep gigabytes after long texts.

Beside each speed stands how far the probabilities are from those of transformers in fp32, on whole texts of at most 512
tokens, and how many labels flip. `make bench-peers` makes an environment in which the other engines run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support import engines
from benchmarks.support.flags import parser
from benchmarks.support.memory import held
from benchmarks.support.results import save
from benchmarks.support.served import Served, serve
from benchmarks.support.workloads import LONG, MIXED, WORKLOADS, Texts, random_checkpoint, vocabulary_of
from bigfive_udf.model import hardware
from bigfive_udf.model.quiet import quiet_transformers

PROCESSES = 2
NUMBERS = {"short": 1024, "long": 64, "mixed": 400, "repeated": 1024}
"""Texts of a turn at DistilBERT size; narrower models get more, so that a turn takes some seconds."""
_OUR_SHARE = 4
"""Our engines get so many times as many texts in a turn as the others, which take that much longer over them."""
EXACT = "ours fp32"


def main() -> None:
    flags = parser(__doc__, "short", "long", "vocabulary", workload=list(WORKLOADS), size=["distilbert"], repeats=3)
    flags.add_argument("--engine", nargs="+", choices=engines.ENGINES)
    flags.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    args = flags.parse_args()
    if args.serve:
        serve_engine(args.serve[0], Path(args.serve[1]))
        return
    chosen = args.engine or engines.available()
    texts = Texts(args.short, args.long)
    results = []
    for size in args.size:
        with tempfile.TemporaryDirectory() as scratch:
            path = random_checkpoint(Path(scratch) / "model", vocabulary_of(args.vocabulary), size)
            engines.prepare(path, chosen, texts.of("short", 200, seed=1))
            for workload in args.workload:
                number = NUMBERS[workload] * (2 if size == "minilm" else 1)
                names = [name for name in chosen if workload in (LONG, MIXED) or not name.endswith(" cut")]
                rows = _measured(names, path, texts, workload, number, args.repeats)
                results += [{"size": size, "workload": workload, **row} for row in rows]
                print(_table(size, workload, rows), flush=True)
                if args.output:  # after each workload: the next one may take an hour
                    save(args.output, results)


def engine_process(engine: str, path: Path) -> Served:
    """A process with a loaded engine; asked with a file of texts and one for scores, it answers with its memory."""
    return Served("benchmarks.loops", "--serve", engine, str(path))


def serve_engine(engine: str, path: Path) -> None:
    """Run as an `engine_process`: score each file of texts that is asked for, on one thread."""
    hardware.use_threads(1)
    with quiet_transformers():
        score = engines.ENGINES[engine](path)
        score(["to begin with"] * 8)

        def answer(files: list[str]) -> dict[str, int]:
            texts, scores = files
            np.save(scores, score(json.loads(Path(texts).read_text())))
            memory = held()
            assert memory is not None, "memory is read from Linux's /proc"
            return {"resident_mb": memory.resident >> 20, "private_mb": memory.private >> 20}

        serve(answer)


def _measured(
    names: Sequence[str], path: Path, source: Texts, workload: str, number: int, repeats: int
) -> list[dict[str, Any]]:
    parts, more = (dealt(source.of(workload, n), PROCESSES) for n in (number, _OUR_SHARE * number))
    seconds: dict[str, list[float]] = {name: [] for name in names}
    memory: dict[str, dict[str, int]] = {}
    scores: dict[str, np.ndarray] = {}
    texts = {name: (_OUR_SHARE if name.startswith("ours") else 1) * number for name in names}
    for repeat in range(repeats):
        for name in names:
            with contextlib.ExitStack() as stack:
                processes = [stack.enter_context(engine_process(name, path)) for _ in range(PROCESSES)]
                asked(processes, [part[::10] for part in parts])
                started = time.perf_counter()
                scores[name], memory[name] = asked(processes, more if texts[name] > number else parts)
                seconds[name].append(time.perf_counter() - started)
                if texts[name] > number:  # for the comparison, the same texts as the others
                    scores[name], _ = asked(processes, parts)
            rate = texts[name] / seconds[name][-1]
            print(f"{repeat + 1}/{repeats} {name:>24} {rate:8.1f} texts/s", file=sys.stderr)
    whole = engines.are_whole(path, [text for part in parts for text in part])
    exact = scores.get("transformers", scores.get(EXACT))
    rows = []
    for name, values in seconds.items():
        row: dict[str, Any] = {"engine": name, "texts": texts[name], "seconds": values, **memory[name]}
        row["texts_per_second"] = texts[name] / statistics.median(values)
        if exact is not None and whole.any():
            difference = np.abs(scores[name] - exact)[whole]
            row["p99_difference"] = float(np.quantile(difference, 0.99))
            row["max_difference"] = float(difference.max())
            row["label_flips"] = float(((scores[name] >= 0.5) != (exact >= 0.5))[whole].mean())
        rows.append(row)
    return rows


def dealt(texts: Sequence[str], hands: int) -> list[list[str]]:
    """Divide the texts into `hands` parts of about equal size in characters; equal texts are in the same part.

    Within a part the texts are in random order, as texts arrive.
    """
    copies = Counter(texts)
    parts: list[list[str]] = [[] for _ in range(hands)]
    sizes = [0] * hands
    for text in sorted(copies, key=lambda t: (-len(t) * copies[t], t)):
        least = sizes.index(min(sizes))
        parts[least] += [text] * copies[text]
        sizes[least] += len(text) * copies[text]
    for k, part in enumerate(parts):
        random.Random(k).shuffle(part)
    return parts


def asked(processes: Sequence[Served], parts: Sequence[Sequence[str]]) -> tuple[np.ndarray, dict[str, int]]:
    """The probabilities of all texts, part by part, and the memory of the last process."""
    with tempfile.TemporaryDirectory() as scratch:
        files = [(Path(scratch) / f"texts-{k}.json", Path(scratch) / f"scores-{k}.npy") for k in range(len(parts))]
        for process, part, (texts, scores) in zip(processes, parts, files, strict=True):
            texts.write_text(json.dumps(part))
            process.ask([str(texts), str(scores)])
        answers = [process.answer() for process in processes]
        return np.concatenate([np.load(scores) for _, scores in files]), answers[-1]


def _table(size: str, workload: str, rows: Sequence[dict[str, Any]]) -> str:
    first = next((r["texts_per_second"] for r in rows if r["engine"] == "transformers"), rows[0]["texts_per_second"])
    lines = [
        f"\n{size}, {workload}: {WORKLOADS[workload]}",
        f"{'engine':>24} {'texts/s':>9} {'slowest':>8} {'fastest':>8} {'ratio':>6} {'p99 |dp|':>9} {'flips':>8} "
        f"{'private MB':>11}",
    ]
    for row in rows:
        rates = sorted(row["texts"] / s for s in row["seconds"])
        lines.append(
            f"{row['engine']:>24} {row['texts_per_second']:9.1f} {rates[0]:8.1f} {rates[-1]:8.1f} "
            f"{row['texts_per_second'] / first:6.2f} {row.get('p99_difference', np.nan):9.1e} "
            f"{100 * row.get('label_flips', np.nan):6.2f} % {row['private_mb']:11,}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
