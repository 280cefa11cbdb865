"""Processes that keep what is measured loaded, from one turn to the next.

    Served("benchmarks.x", "--serve", "fp32")  starts  python -m benchmarks.x --serve fp32,
                                               which calls  serve(lambda question: answer)

Questions and answers are JSON, a line each. What else the process prints is passed over: frameworks print much.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
_ANSWER = "answer "


class Served:
    """A process of a benchmark that answers questions until it is closed; made when it is ready for the first one."""

    def __init__(
        self, module: str, *arguments: str, log: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._name, self._log = " ".join((module, *arguments)), log
        with contextlib.ExitStack() as stack:
            errors = None if log is None else stack.enter_context(log.open("w"))
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], text=True, cwd=REPOSITORY,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **(environment or {})},
            )  # fmt: skip
        self.answer()

    def ask(self, question: Any) -> None:
        """Ask, and return at once, so that several processes can be asked before the first has answered."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `answer` reports that the process has ended
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()

    def answer(self) -> Any:
        """Wait for the answer to the oldest open question.

        Raises:
            RuntimeError: the process has ended.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(_ANSWER):
                return json.loads(line.removeprefix(_ANSWER))
        code = self._process.wait()
        said = "" if self._log is None else f": {self._log.read_text()[-2000:]}"
        raise RuntimeError(f"the process {self._name} has ended with {code} (-9: memory ran out, as a rule){said}")

    def close(self) -> None:
        """Tell the process that there are no more questions, and wait for its end."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.read()  # or a process that prints much would wait for a reader
        self._process.wait()


def serve(answer: Callable[[Any], Any]) -> None:
    """Run as a `Served` process: tell that it is ready, then answer each question."""
    print(f"{_ANSWER}null", flush=True)
    for line in sys.stdin:
        print(_ANSWER + json.dumps(answer(json.loads(line))), flush=True)
