"""What a person sees while the job scores: partitions and documents done, documents/s, time left, what failed."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, TextIO

from pyspark import Accumulator
from tqdm import tqdm

from bigfive_udf.spark.workers.tally import Tally

_TERMINAL_SECONDS = 0.5
_LOG_SECONDS = 5.0
_BAR = 10
_BESIDE_BAR = len("100 %  ")


class Finished(Protocol):
    """What is known of the partitions so far, as an `Outcome` has it."""

    @property
    def committed(self) -> Sized: ...
    @property
    def failed(self) -> Mapping[str, str]: ...
    @property
    def in_vain(self) -> int: ...
    @property
    def given_up(self) -> int: ...


@dataclass(frozen=True)
class Standing:
    """How far a run is."""

    documents: int
    of_documents: int
    partitions: int
    of_partitions: int
    failed: int
    seconds: float
    idle: float = 0.0
    """seconds since the number of documents last changed; part of `seconds`"""

    @property
    def share(self) -> float:
        # Documents that Spark scored twice count twice, so there may be more than there are to score.
        return min(1.0, self.documents / max(1, self.of_documents))

    def words(self) -> dict[str, str]:
        """The parts of the progress message, in their order."""
        done = min(self.documents, self.of_documents)
        told = {
            "documents": f"{done:,} of {self.of_documents:,} documents",
            "partitions": f"{self.partitions:,} of {self.of_partitions:,} partitions committed",
        }
        if self.failed:
            told["failed"] = f"{self.failed:,} failed"
        if self.documents == 0:
            return told | {"left": f"starting for {duration(self.seconds)}"}
        rate = self.documents / (self.seconds - self.idle)  # without idle time, or it would fall until a task ends
        left = max(0.0, (self.of_documents - done) / rate - self.idle)
        words = f"about {duration(left)} left" if done < self.of_documents else "writing"
        return told | {"rate": f"{rate:,.0f}/s", "left": words}


class Progress:
    """Shows progress while the block runs: a redrawn bar on a terminal, elsewhere a line every five seconds at most.

    The numbers change when tasks end, because Spark's accumulators reach the driver then. If the terminal goes away,
    only the display ends.
    """

    def __init__(
        self,
        tally: Accumulator[Tally],
        finished: Finished,
        documents: int,
        partitions: int,
        stream: TextIO | None = None,
    ) -> None:
        self._tally = tally
        self._finished = finished
        self._documents = documents
        self._partitions = partitions
        stream = stream or _terminal_of_spark_submit() or sys.stderr
        redrawn = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._screen: _Bar | _Lines = _Bar(stream) if redrawn else _Lines(stream)
        self._seen, self._moved = 0, 0.0
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
        with contextlib.suppress(OSError):
            self._screen.close()

    def _run(self) -> None:
        told: set[str] = set()
        with contextlib.suppress(OSError):
            while not self._end.wait(self._screen.seconds):
                for name, reason in list(self._finished.failed.items()):
                    if name not in told:
                        self._screen.say(f"failed: {reason}")
                        told.add(name)
                self._screen.show(self._standing())

    def _standing(self) -> Standing:
        finished, seconds = self._finished, time.monotonic() - self._started
        documents = max(0, self._tally.value.documents - finished.in_vain)
        if documents != self._seen:
            self._seen, self._moved = documents, seconds
        partitions, failed = len(finished.committed), len(finished.failed)
        return Standing(
            documents,
            self._documents - finished.given_up,
            partitions,
            self._partitions,
            failed,
            seconds,
            idle=seconds - self._moved,
        )


class _Lines:
    """The display in a pipe or a log file: a line whenever a number has changed."""

    seconds = _LOG_SECONDS

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._said: tuple[int, ...] = ()

    def show(self, now: Standing) -> None:
        moved = (now.documents, now.partitions, now.failed)
        if moved != self._said:
            self._said = moved
            self.say(progress_line(now))

    def say(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    def close(self) -> None:
        pass


class _Redrawn(tqdm):
    monitor_interval = 0  # our thread redraws it, so tqdm needs no thread of its own


class _Bar:
    """The display on a terminal: one line that is redrawn again and again, at the terminal's current width."""

    seconds = _TERMINAL_SECONDS

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: _Redrawn | None = None

    def show(self, now: Standing) -> None:
        columns = os.get_terminal_size(self._stream.fileno()).columns or 80  # some terminals do not tell their width
        if self._bar is None:
            form = "{percentage:3.0f} % {bar:10} {desc}"
            self._bar = _Redrawn(total=1.0, file=self._stream, bar_format=form, leave=False)
        self._bar.n, self._bar.ncols = now.share, columns - 1
        self._bar.set_description_str(fitting(now.words(), columns - 1 - _BAR - _BESIDE_BAR))

    def say(self, line: str) -> None:
        _Redrawn.write(line, file=self._stream)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _terminal_of_spark_submit() -> TextIO | None:
    """The terminal that spark-submit prints to, or None; spark-submit gives the job itself only pipes."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return None  # the parent is a shell: if our output is redirected, its terminal is not ours
    try:
        target = os.readlink(f"/proc/{os.getppid()}/fd/1")
        return open(target, "w") if target.startswith(("/dev/pts/", "/dev/tty")) else None
    except OSError:
        return None


def progress_line(now: Standing) -> str:
    """
    >>> progress_line(Standing(2048, 20000, 1, 7, 0, 16.0))
    'scored 2,048 of 20,000 documents (10 %), 1 of 7 partitions committed, 128/s, about 2 min 20 s left'
    """
    words = now.words()
    words["documents"] += f" ({100 * now.share:.0f} %)"
    return "scored " + ", ".join(words.values())


def fitting(words: Mapping[str, str], width: int) -> str:
    """As many parts of the message as fit whole; half a number would be a wrong number.

    >>> words = Standing(2048, 20000, 1, 7, 0, 16.0).words()
    >>> fitting(words, 90)
    '2,048 of 20,000 documents, 1 of 7 partitions committed, 128/s, about 2 min 20 s left'
    >>> fitting(words, 60)
    '1 of 7 partitions committed, 128/s, about 2 min 20 s left'
    """
    for left_out in ((), ("documents",), ("documents", "rate"), ("documents", "rate", "partitions")):
        line = ", ".join(word for name, word in words.items() if name not in left_out)
        if len(line) <= width:
            return line
    return ""


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
