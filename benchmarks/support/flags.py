"""The flags that benchmarks share, so that each means the same everywhere."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.support.workloads import SIZES, WORKLOADS

_SHARED: dict[str, dict[str, Any]] = {
    "short": {"help": "a Parquet file with a column text of messages; without it they are made"},
    "long": {"help": "the same of long texts"},
    "vocabulary": {"help": "tokenizer.json of a BERT kind; without it that of the demo's encoder"},
    "workload": {"choices": WORKLOADS},
    "size": {"choices": SIZES},
    "repeats": {"type": int, "help": "turns, of which the median counts"},
    "output": {"help": "write the results here as JSON"},
}


def parser(description: str | None, *names: str, **defaults: Any) -> argparse.ArgumentParser:
    """A parser with --output and the shared flags that are named; one whose default is a list takes several values."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in (*names, *defaults, "output"):
        default = defaults.get(name)
        several: dict[str, Any] = {"nargs": "+"} if isinstance(default, list) else {}
        made.add_argument(f"--{name}", default=default, **several, **_SHARED[name])
    return made
