"""Processes that keep what is measured loaded, from one turn to the next.

    Served("benchmarks.x", "--serve", "fp32")  starts  python -m benchmarks.x --serve fp32,
                                               which calls  serve(lambda question: answer)

Questions and answers are JSON, a line each. Answers have a pipe of their own, for frameworks print much.
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

REPOSITORY = Path(__file__).resolve().parent.parent.parent
_PIPE = "BENCHMARK_ANSWERS"


class Served:
    """A process of a benchmark that answers questions until it is closed, as a context manager or by `close`.

    The constructor returns when the process is ready for the first question. What it prints goes to `log`, or else to
    this process's standard error.
    """

    def __init__(
        self, module: str, *arguments: str, log: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._name, self._log = " ".join((module, *arguments)), log
        answers, other_end = os.pipe()
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, other_end)  # so that the answers end when the process does
            self._answers = os.fdopen(answers, encoding="utf-8")
            said = sys.stderr if log is None else stack.enter_context(log.open("w"))
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], text=True, cwd=REPOSITORY, pass_fds=[other_end],
                stdin=subprocess.PIPE, stdout=said, stderr=said,
                env={**os.environ, **(environment or {}), _PIPE: str(other_end)},
            )  # fmt: skip
        self.answer()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

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
        line = self._answers.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        said = "" if self._log is None else f": {self._log.read_text(errors='replace')[-2000:]}"
        raise RuntimeError(f"the process {self._name} has ended with {code} (-9: memory ran out, as a rule){said}")

    def close(self) -> None:
        """Tell the process that there are no more questions, and wait for its end."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._answers.close()


def serve(answer: Callable[[Any], Any]) -> None:
    """Run as a `Served` process: tell that it is ready, then answer each question."""
    with os.fdopen(int(os.environ.pop(_PIPE)), "w", encoding="utf-8") as answers:
        print("null", file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
