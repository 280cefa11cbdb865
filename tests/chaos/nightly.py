"""The night that the kills disturb: a table of seven days, and a corpus in which everything has happened since."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from support.models import TRAINING_TEXT

DAYS = range(1, 13)
CHANGED = DAYS[1::2]
EMPTIED = 6
GONE = 13


@dataclass(frozen=True)
class Night:
    """A corpus as it was when the table was last scored, and as it is now; settings and flags of the run to disturb."""

    before: Path
    now: Path
    settings: dict[str, Any]
    flags: tuple[str, ...] = ("--prune",)


def make_night(directory: Path, model: Path) -> Night:
    """Twelve partitions, of which every other is new and the rest changed, one of them emptied; a thirteenth is gone.

    The run has five steps: one that removes, and four that score three partitions each.
    """
    before, now = directory / "before", directory / "now"
    for day in (*CHANGED, GONE):
        write_day(before, day, "before", rows=5)
    for day in DAYS:
        write_day(now, day, "now", rows=6 + day % 3)
    shutil.rmtree(folder := now / name_of(EMPTIED))
    folder.mkdir()
    settings = {
        "model.path": str(model),
        "model.precision": "fp32",
        "commit_every.partitions": 3,
        "plan.max_rescored_share": 1.0,
        "retention.trash_days": 0,
    }
    return Night(before, now, settings)


def name_of(day: int) -> str:
    return f"dt=2026-03-{day:02d}"


def write_day(corpus: Path, day: int, word: str, rows: int) -> None:
    """A partition: ids say the day, what the corpus is called, the row, and of how many."""
    numbers = range(rows)
    ids = [f"{day:02d} {word} {i} of {rows}" for i in numbers]
    texts = [f"{word} " + " ".join(TRAINING_TEXT[(day + i) % 5].split()[: 1 + i % 9]) for i in numbers]
    folder = corpus / name_of(day)
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"doc_id": ids, "text": texts}), folder / "part-0.parquet")
