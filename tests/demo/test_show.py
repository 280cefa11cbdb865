"""The page that a newcomer sees: its numbers are DuckDB's, and a wrong path is one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bigfive_udf.demo.show import QUESTIONS, display_width, table_lines
from bigfive_udf.traits import EMPTY, FAILED, SCORED, TRAITS, label_column, probability_column

DAYS = ("2026-11-21", "2026-11-22", "2026-11-23")
SCORE_SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("author", pa.string()),
        *((probability_column(trait), pa.float32()) for trait in TRAITS),
        *((label_column(trait), pa.bool_()) for trait in TRAITS),
        ("n_tokens", pa.int32()),
        ("n_windows", pa.int32()),
        ("truncated", pa.bool_()),
        ("status", pa.string()),
        ("status_reason", pa.string()),
        ("model_id", pa.string()),
        ("precision", pa.string()),
        ("run_id", pa.string()),
        ("scored_at", pa.timestamp("us", tz="UTC")),
    ]
)
SENTENCES = (
    "I talk to everybody on the train.",
    "It rained, and I read\nby the window.\r\n\tAlone.",
    "\x1b[31mRed\x1b[0m is my colour \N{PARTY POPPER}\N{HEAVY BLACK HEART}\ufe0f, always " + "and always " * 12,
    "今日は静かに本を読みました。" * 5,
    "My desk is tidy; my bills are paid.",
)


def write_demo(folder: Path, authors: int = 40, texts: int = 300, seed: int = 5) -> None:
    """A score table whose probabilities follow the authors' levels plus noise; every 19th text is empty."""
    random = np.random.default_rng(seed)
    levels = random.integers(-1, 2, size=(authors, len(TRAITS)))
    names = [f"author-{i:03d}" for i in range(authors)]
    known = {"author": names} | {trait: levels[:, i].astype("int32") for i, trait in enumerate(TRAITS)}
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(known), folder / "authors.parquet")
    number = 0
    for day in DAYS:
        scores: list[dict[str, Any]] = []
        corpus: list[dict[str, Any]] = []
        for _ in range(texts // len(DAYS)):
            who, number = int(random.integers(authors)), number + 1
            status = EMPTY if number % 19 == 0 else FAILED if number % 97 == 0 else SCORED
            text = "  " if status == EMPTY else f"{SENTENCES[number % len(SENTENCES)]} ({number})"
            noisy = 1 / (1 + np.exp(-(1.5 * levels[who] + random.normal(0, 1.2, len(TRAITS)))))
            scored = status == SCORED
            carried = {"doc_id": f"doc-{number:05d}", "author": names[who]}
            corpus.append(carried | {"text": text})
            scores.append(
                carried
                | {probability_column(t): float(noisy[i]) if scored else None for i, t in enumerate(TRAITS)}
                | {label_column(t): bool(noisy[i] >= 0.5) if scored else None for i, t in enumerate(TRAITS)}
                | {"n_tokens": int(random.integers(1, 60)) if scored else 0, "n_windows": int(scored)}
                | {"truncated": False, "status": status}
                | {"status_reason": {EMPTY: "only white space", FAILED: "no finite score"}.get(status)}
                | {"model_id": "0123456789ab", "precision": "fp32", "run_id": "20261123T020000Z-abcdef"}
                | {"scored_at": datetime(2026, 11, 23, 2, tzinfo=timezone.utc)}
            )
        corpus_schema = pa.schema([(name, pa.string()) for name in ("doc_id", "author", "text")])
        for name, rows, schema in (("scores", scores, SCORE_SCHEMA), ("corpus", corpus, corpus_schema)):
            (folder / name / f"dt={day}").mkdir(parents=True)
            pq.write_table(pa.Table.from_pylist(rows, schema), folder / name / f"dt={day}" / "part-0.parquet")
        (folder / "scores" / f"dt={day}" / "_SUCCESS").touch()


if __name__ == "__main__":
    write_demo(Path(sys.argv[1]))
