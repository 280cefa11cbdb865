"""The memory of a process, as Linux counts it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Held(NamedTuple):
    """Bytes that a process holds: resident in all, and private ones, which no other process has mapped."""

    resident: int
    private: int


def held(process: int | str = "self") -> Held | None:
    """The memory of the process with this number, by default of this one; None where it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return None
    size = {key: int(rest.split()[0]) * 1024 for key, _, rest in (line.partition(":") for line in lines)}
    return Held(size["Rss"], size["Private_Clean"] + size["Private_Dirty"])
