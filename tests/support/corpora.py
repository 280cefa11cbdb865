"""Small corpora for tests."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from support.models import TRAINING_TEXT


def write_corpus(directory: Path, days: int = 3, rows: int = 40, authors: int = 7, **columns: Any) -> Path:
    """A small corpus by dt=: doc_id, author, text, and constant further columns."""
    for day in range(days):
        numbers = range(day * rows, (day + 1) * rows)
        table = pa.table(
            {
                "doc_id": [f"doc-{i}" for i in numbers],
                "author": [f"author-{i % authors}" for i in numbers],
                "text": [" ".join(TRAINING_TEXT[i % 5].split()[: 1 + i % 13]) for i in numbers],
                **{name: [value] * rows for name, value in columns.items()},
            }
        )
        folder = directory / f"dt=2026-01-{5 + day:02d}"
        folder.mkdir(parents=True)
        pq.write_table(table, folder / "part-0.parquet")
    return directory


def corrupt(file: Path) -> None:
    """Spoil the rows of a Parquet file and leave its footer whole."""
    content = bytearray(file.read_bytes())
    footer = int.from_bytes(content[-8:-4], "little") + 8
    content[4:-footer] = random.Random(0).randbytes(len(content) - footer - 4)
    file.write_bytes(content)
