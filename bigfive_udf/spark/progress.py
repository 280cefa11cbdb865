"""What a person sees while the job scores: documents done, documents/s, time left."""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType
from typing import TextIO

from pyspark import Accumulator

from bigfive_udf.spark.tally import Tally

_TERMINAL_SECONDS = 0.5
_LOG_SECONDS = 10.0


class Progress:
    """While the block runs: one line that is redrawn on a terminal, a line every ten seconds elsewhere.

    The numbers move when tasks end, for that is when Spark's accumulators reach the driver.
    """

    def __init__(self, tally: Accumulator[Tally], total: int, stream: TextIO | None = None) -> None:
        self._tally = tally
        self._total = total
        self._stream = stream or _terminal_of_spark_submit() or sys.stderr
        self._terminal = self._stream.isatty()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Progress:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        if self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _run(self) -> None:
        said = -1
        while not self._end.wait(_TERMINAL_SECONDS if self._terminal else _LOG_SECONDS):
            done = self._tally.value.documents
            line = progress_line(done, self._total, time.monotonic() - self._started)
            if self._terminal:
                self._stream.write(f"\r\x1b[K{line}")
            elif done != said:
                self._stream.write(line + "\n")
            said = done
            self._stream.flush()


def _terminal_of_spark_submit() -> TextIO | None:
    """The terminal that spark-submit prints to, which hands a job pipes in its place; None where there is none."""
    try:
        target = os.readlink(f"/proc/{os.getppid()}/fd/1")
        return open(target, "w") if target.startswith(("/dev/pts/", "/dev/tty")) else None
    except OSError:
        return None


def progress_line(done: int, total: int, seconds: float) -> str:
    """
    >>> progress_line(2048, 20000, 16.0)
    'scored 2,048 of 20,000 documents (10 %), 128/s, about 2 min 20 s left'
    """
    if done == 0:
        return f"starting: {total:,} documents to score, {duration(seconds)} so far"
    rate = done / seconds
    done = min(done, total)  # what Spark or a failed step did twice counts for the rate alone
    left = duration(max(0.0, (total - done) / rate))
    return f"scored {done:,} of {total:,} documents ({100 * done // max(1, total)} %), {rate:,.0f}/s, about {left} left"


def duration(seconds: float) -> str:
    """
    >>> duration(140.4), duration(8.4), duration(7322)
    ('2 min 20 s', '8 s', '2 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
