"""Warnings of the Python workers for the driver: each message once, with its count and the worker that said it first.

Spark 4.1 and newer can collect workers' logs too (`spark.sql.pyspark.worker.logging.enabled`), but a lost executor
loses its logs, nothing limits their size, and Spark 3.5 can't collect them. The warnings here come with the accumulator
of the counts. But if a task fails, only the failure reaches the driver. The task's earlier warnings are in its
executor's stderr, where each worker also prints each message once.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

MOST = 100
"""Number of different messages that are kept; further messages are only counted."""
_CHARACTERS = 300
_APART = ("transformers", "huggingface_hub")
"""Libraries whose messages no longer reach the root logger once they have set up their own loggers."""

_printed: set[Note] = set()
"""messages that this process has printed to its stderr"""


@dataclass(frozen=True)
class Note:
    """One message."""

    level: str
    logger: str
    message: str


@dataclass
class Heard:
    """Messages, how often each was said, and the worker that said it first (host and process id)."""

    times: dict[Note, int] = field(default_factory=dict)
    worker: dict[Note, str] = field(default_factory=dict)
    left_out: int = 0
    """how often other messages were said, after there were `MOST` already"""

    def add(self, note: Note, times: int, worker: str) -> None:
        if note not in self.times and len(self.times) >= MOST:
            self.left_out += times
            return
        self.times[note] = self.times.get(note, 0) + times
        self.worker.setdefault(note, worker)

    def __add__(self, other: Heard) -> Heard:
        """The messages of both; `self` unchanged where `other` has none."""
        if not other.times and not other.left_out:
            return self
        both = Heard(dict(self.times), dict(self.worker), self.left_out + other.left_out)
        for note, times in other.times.items():
            both.add(note, times, other.worker[note])
        return both

    def about(self) -> list[dict[str, Any]]:
        """The messages for the run's record, the most frequent first."""
        by_times = sorted(self.times.items(), key=lambda item: -item[1])
        return [asdict(note) | {"times": n, "first_worker": self.worker[note]} for note, n in by_times]


class _Listener(logging.Handler):
    """Collects the log messages of all threads until the task takes them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._heard = Heard()
        self._guard = threading.RLock()
        self._worker = f"{platform.node()}:{os.getpid()}"

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "heard", False):
            return  # collected at the library's own logger, and now at the root
        record.heard = True
        try:
            message = " ".join(record.getMessage().split())
            note = Note(record.levelname, record.name, message[:_CHARACTERS])
            with self._guard:
                self._heard.add(note, 1, self._worker)
                if note not in _printed and len(_printed) < MOST:
                    _printed.add(note)
                    print(f"{note.level} {note.logger}: {note.message}", file=sys.stderr)
        except Exception:  # a library's malformed warning must not fail the texts
            self.handleError(record)

    def taken(self) -> Heard:
        """The messages since the last call."""
        with self._guard:
            taken, self._heard = self._heard, Heard()
        return taken


@contextmanager
def listening() -> Iterator[_Listener]:
    """While the block runs, collect what this process logs from WARNING on, and Python's own warnings."""
    listener = _Listener()
    loggers = [logging.getLogger(name) for name in ("", *_APART)]
    for logger in loggers:
        logger.addHandler(listener)
    logging.captureWarnings(True)
    try:
        yield listener
    finally:
        logging.captureWarnings(False)
        for logger in loggers:
            logger.removeHandler(listener)
