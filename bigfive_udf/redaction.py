"""Safe descriptions of errors that may quote a row: where an error was raised and its kind, never its words.

Spark's messages quote records that it could not parse and values that it could not cast.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Iterator

_FRAME = re.compile(r'\s+(at [\w.$/<>]+\([\w.$ ]+(:\d+)?\)|\.\.\. \d+ more|File "[^"]+", line \d+, in [\w<>]+)\s*')
_KIND = re.compile(r"\s*(?::|Caused by:)?\s*(?:[\w$]+\.)*[\w$]*(?:Exception|Error)\b:?")
_CONDITION = re.compile(r"\s*:?\s*\[[A-Z][A-Z0-9_]+(?:\.[A-Z0-9_]+)*\]")
# Column names that a message may show: three words at most, none of them long.
_NAME = re.compile(r"\S{1,40}(\s\S{1,20}){0,2}")
_LEFT_OUT = "(its words are left out, for they may quote a row)"


def told(error: BaseException) -> str:
    """The message of an error; for an error of Spark or Py4J only its kinds, conditions and stack frames."""
    if type(error).__module__.partition(".")[0] not in ("pyspark", "py4j"):
        return str(error)
    lines = [kept for line in str(error).splitlines() if (kept := _kept(line))]
    return "\n".join([*lines[:1], _LEFT_OUT, *lines[1:]])


def first_line(text: str, most: int = 160) -> str:
    """The first line of an error's words, cut to at most so many characters: room for it in a message of one line."""
    return next(iter(text.strip().splitlines()), "").strip()[:most]


def in_short(error: BaseException, most: int = 160) -> str:
    """The kind of an error and the first line of what `told` tells of it."""
    return f"{type(error).__name__}: {first_line(told(error), most)}"


def column_names(columns: Iterable[str]) -> str:
    """Column names for a message, long ones as lengths: they may be the first row of a CSV file without a header."""
    return ", ".join(c if _NAME.fullmatch(c) else f"({len(c)} characters)" for c in columns) or "none that is readable"


def trace_of(error: BaseException) -> str:
    """The stack trace of an error and its causes, each with the message that `told` gives."""
    parts = [
        f"Traceback (most recent call last):\n{''.join(traceback.format_tb(e.__traceback__))}"
        f"{type(e).__module__}.{type(e).__qualname__}: {told(e)}\n"
        for e in _chain(error)
    ]
    return "\nfrom which came:\n\n".join(reversed(parts))


def _kept(line: str) -> str:
    if _FRAME.fullmatch(line):
        return line
    kind = _KIND.match(line)
    condition = _CONDITION.match(line, kind.end() if kind else 0)
    return "".join(found[0] for found in (kind, condition) if found).lstrip(": ")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
