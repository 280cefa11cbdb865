"""Twelve days of texts, and the table of their scores: what changes from night to night."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from support.scores import table_of

DAYS = [f"2026-01-{day:02d}" for day in range(5, 17)]


def runs_by_day(settings: dict[str, Any]) -> dict[str, str]:
    """The run that wrote each day; a day of two runs fails the test."""
    pairs = {
        (r["dt"], r["run_id"])
        for r in table_of(settings["output.path"], union_by_name=True).select(["dt", "run_id"]).to_pylist()
    }
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


def part(settings: dict[str, Any], day: str, name: str = "part-0.parquet") -> Path:
    return Path(settings["input.path"]) / f"dt={day}" / name


def append(file: Path, like: Path, first: int, rows: int = 2) -> None:
    table = pq.read_table(like, partitioning=None).slice(0, rows)
    ids = pa.array([f"new-{first + i}" for i in range(rows)])
    pq.write_table(table.set_column(0, "doc_id", ids), file)
