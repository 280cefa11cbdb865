"""Nights of the real job in one process, for somebody who reads meanwhile: a JSON line when each has ended.

    python -m chaos.ten_nights SETTINGS CORPUS NIGHTS    (settings: dotted keys, as JSON)

Each night changes every day that is there but the first and adds one. Ids say the day, the night that wrote them, the
row, and of how many.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from chaos.nightly import name_of, write_day
from support.jobs_here import run_here

FIRST = 4
"""Days that are there before the first of those nights."""


def rows_of(day: int, night: int) -> int:
    return 5 + (3 * day + night) % 7


def change(corpus: Path, night: int) -> list[str]:
    """The corpus as it is before a night; returns its days."""
    days = range(1, FIRST + 1 + night)
    for day in days:
        if day == 1 and night:
            continue
        shutil.rmtree(corpus / name_of(day), ignore_errors=True)
        write_day(corpus, day, f"night-{night}", rows_of(day, night))
    return [name_of(day) for day in days]


def main(settings: str, corpus: str, nights: str) -> None:
    for night in range(int(nights) + 1):
        days = change(Path(corpus), night)
        run = run_here("score", json.loads(settings))
        print(json.dumps({"night": night, "run_id": run.run_id, "days": days, **run.result["catalog"]}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
