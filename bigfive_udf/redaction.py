"""Safe descriptions of errors that may quote a row: where an error was raised and its kind, never its words.

Spark's messages quote records that it could not parse and values that it could not cast.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator

_FRAME = re.compile(r'\s+(at [\w.$/<>]+\([\w.$ ]+(:\d+)?\)|\.\.\. \d+ more|File "[^"]+", line \d+, in [\w<>]+)\s*')
_KIND = re.compile(r"\s*(?::|Caused by:)?\s*(?:[\w$]+\.)*[\w$]*(?:Exception|Error)\b:?")
_CONDITION = re.compile(r"\s*:?\s*\[[A-Z][A-Z0-9_]+(?:\.[A-Z0-9_]+)*\]")
_LEFT_OUT = "(its words are left out, for they may quote a row)"


def told(error: BaseException) -> str:
    """The message of an error; for an error of Spark or Py4J only its kinds, conditions and stack frames."""
    if type(error).__module__.partition(".")[0] not in ("pyspark", "py4j"):
        return str(error)
    lines = [kept for line in str(error).splitlines() if (kept := _kept(line))]
    return "\n".join([*lines[:1], _LEFT_OUT, *lines[1:]])


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
