"""What a person sees of a run: on a real pseudo-terminal, and through a real pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

import pytest

from bigfive_udf.spark.job import progress
from bigfive_udf.spark.job.progress import Progress, Standing, duration, fitting, progress_line
from bigfive_udf.spark.workers.tally import Tally


@dataclass
class Work:
    """What a run has done, for a display that looks on."""

    value: Tally = field(default_factory=Tally)
    committed: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    in_vain: int = 0
    given_up: int = 0


@contextmanager
def read_all(source: int) -> Iterator[Callable[[], str]]:
    """Read a file descriptor in the background; the function gives what came so far."""
    content = bytearray()

    def read() -> None:
        try:
            while some := os.read(source, 65536):
                content.extend(some)
        except OSError:  # Linux says so when the last writer of a terminal has gone
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    yield lambda: content.decode()
    reader.join(timeout=10)


def wait_until(said: Callable[[], str], words: str) -> None:
    deadline = time.monotonic() + 10
    while words not in said():
        assert time.monotonic() < deadline, said()
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(progress._Bar, "seconds", 0.02)
    monkeypatch.setattr(progress._Lines, "seconds", 0.02)
    monkeypatch.setenv("TERM", "xterm")


def terminal(columns: int) -> tuple[int, TextIO]:
    ours, theirs = pty.openpty()
    resize(ours, columns)
    return ours, os.fdopen(theirs, "w")


def resize(ours: int, columns: int) -> None:
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def test_a_terminal_gets_one_line_that_is_redrawn_and_never_wider_than_it_is():
    ours, stream = terminal(columns=100)
    work = Work()
    with read_all(ours) as said:
        with Progress(work, work, 1000, 4, stream):  # type: ignore[arg-type]
            wait_until(said, "0 of 1,000 documents, 0 of 4 partitions committed, starting for")
            work.value = Tally(documents=250)
            work.committed["dt=1"] = 1
            wait_until(said, "250 of 1,000 documents, 1 of 4 partitions committed")
            work.failed["dt=2"] = "dt=2: no such column"
            wait_until(said, "failed: dt=2: no such column")
            wait_until(said, "1 of 4 partitions committed, 1 failed")
            resize(ours, 60)
            seen = len(said())
            work.value = Tally(documents=1000)
            wait_until(said, "writing")
        stream.close()
    drawn = said()
    assert re.search(
        r" 25 % [^ ]+ +250 of 1,000 documents, 1 of 4 partitions committed, [\d,]+/s, about \d+ s left", drawn
    )
    assert "\x1b" not in drawn, "nothing that a plain terminal does not understand, and no colour"
    assert drawn.count("failed: dt=2") == 1
    assert max(map(len, re.split(r"[\r\n]", drawn))) < 100
    after = re.split(r"[\r\n]", drawn[seen:])
    assert max(map(len, after[2:])) < 60
    assert drawn.rstrip("\r").endswith(" "), "the line is wiped at the end"


def test_a_pipe_gets_a_line_whenever_something_moved():
    ours, theirs = os.pipe()
    work = Work()
    with read_all(ours) as said, os.fdopen(theirs, "w") as stream, Progress(work, work, 1000, 4, stream):  # type: ignore[arg-type]
        wait_until(said, "starting")
        time.sleep(0.2)
        work.value = Tally(documents=250)
        wait_until(said, "250 of")
        work.failed["dt=2"] = "dt=2: no such column"
        wait_until(said, "1 failed")
    lines = said().splitlines()
    assert lines[0] == "scored 0 of 1,000 documents (0 %), 0 of 4 partitions committed, starting for 0 s"
    assert re.fullmatch(
        r"scored 250 of 1,000 documents \(25 %\), 0 of 4 partitions committed, [\d,]+/s, about \d s left", lines[1]
    )
    assert lines[2] == "failed: dt=2: no such column"
    assert re.match(r"scored 250 of 1,000 documents \(25 %\), 0 of 4 partitions committed, 1 failed, ", lines[3])
    assert len(lines) == 4
    assert "\r" not in said()


def test_a_dumb_terminal_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    ours, stream = terminal(columns=100)
    work = Work()
    with read_all(ours) as said:
        with Progress(work, work, 1000, 4, stream):  # type: ignore[arg-type]
            wait_until(said, "scored 0 of 1,000 documents")
        stream.close()
    assert said().count("\r") == said().count("\r\n")


def test_a_terminal_that_goes_away_ends_the_display_and_nothing_else(monkeypatch):
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    ours, stream = terminal(columns=100)
    work = Work()
    with Progress(work, work, 1000, 4, stream) as shown:  # type: ignore[arg-type]
        time.sleep(0.1)
        os.close(ours)
        work.value = Tally(documents=250)
        shown._thread.join(timeout=5)
        assert not shown._thread.is_alive()
    assert raised == []


def test_output_that_a_shell_sent_to_a_file_stays_there(monkeypatch):
    """Whose parent is no spark-submit has no terminal but its own streams."""
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    ours, stream = terminal(columns=100)
    monkeypatch.setattr(os, "readlink", lambda path: os.ttyname(stream.fileno()))
    assert progress._terminal_of_spark_submit() is None
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "12345")
    found = progress._terminal_of_spark_submit()
    assert found is not None
    assert found.isatty()
    for file in (found, stream):
        file.close()
    os.close(ours)


def test_words():
    now = Standing(2048, 20000, 1, 7, 0, 16.0)
    line = "scored 2,048 of 20,000 documents (10 %), 1 of 7 partitions committed, 128/s, about 2 min 20 s left"
    assert progress_line(now) == line
    assert fitting(now.words(), 61) == "1 of 7 partitions committed, 128/s, about 2 min 20 s left"
    assert fitting(now.words(), 20) == "", "half a number would be a wrong one"
    assert progress_line(Standing(25000, 20000, 6, 7, 1, 10.0)) == (
        "scored 20,000 of 20,000 documents (100 %), 6 of 7 partitions committed, 1 failed, 2,500/s, writing"
    )
    waiting = Standing(2048, 20000, 1, 7, 0, 20.0, idle=4.0)
    assert fitting(waiting.words(), 61) == "1 of 7 partitions committed, 128/s, about 2 min 16 s left", (
        "it counts down meanwhile"
    )
    assert [duration(s) for s in (8.4, 140.4, 7322)] == ["8 s", "2 min 20 s", "2 h 2 min"]
