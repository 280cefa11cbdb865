"""One execution of a job, and the record that it leaves."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from secrets import token_hex
from typing import Any

from bigfive_udf import __version__
from bigfive_udf.redaction import told
from bigfive_udf.settings.secrets import without_secrets

RUNNING = "running"
"""The message of a record without an exit code: its run is on, or has died without a word."""
_FEW_LINES, _LOG_SECONDS = 100, 30.0


@dataclass
class Run:
    """One execution of a job: its name in records, its start, and what is to be told of it, whatever happens."""

    job: str
    started: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    run_id: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    """what --result and the run record hold beside the exit code: filled while the job goes on"""
    keep_record: Callable[[str], None] | None = None
    """where the record goes beside --result, once the job knows its table"""
    keep_log: Callable[[str], None] | None = None
    """where the log goes, which is kept whole whenever it is flushed"""
    keep_result: Callable[[str], None] | None = None
    """where --result goes, if it was asked for"""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """properties of a catalog, whose secrets no message and no stack trace may tell"""
    log_texts: bool = False
    """whether the log may hold excerpts of texts"""
    lines: list[str] = field(default_factory=list)
    """the log: a JSON object a line, with time, run_id, event and what belongs to it"""
    _kept_at: float = 0.0
    _announced: bool = False

    def __post_init__(self) -> None:
        self.run_id = self.run_id or f"{self.started:%Y%m%dT%H%M%SZ}-{token_hex(3)}"

    def log(self, event: str, **about: Any) -> None:
        """Add an event to the log, and keep what there is so far, or soon."""
        line = {"time": datetime.now(timezone.utc).isoformat(), "run_id": self.run_id, "job": self.job, "event": event}
        self.lines.append(json.dumps(line | about, default=str) + "\n")
        # A long one not at each event, or a run of a thousand steps would write it a thousand times.
        if len(self.lines) <= _FEW_LINES or time.monotonic() - self._kept_at > _LOG_SECONDS:
            self.flush_log()

    def flush_log(self) -> None:
        """Keep what there is of the log, where there is any."""
        if self.keep_log is not None and self.lines:
            self.keep_log("".join(self.lines))
            self._kept_at = time.monotonic()

    def discreet(self, text: str) -> str:
        """A text without the secrets of the run's settings."""
        return without_secrets(text, self.secrets)

    def announce(self) -> None:
        """Say in --result that the run is on, so that after a kill nobody takes what the last run said for its result.

        What can't be written now is warned of: the end tries again, and that counts.
        """
        if self.keep_result is None or self._announced:
            return
        try:
            self.keep_result(self.record(None, RUNNING, None))
            self._announced = True
        except Exception as error:  # of Py4J too
            print(f"warning: --result can't be written yet: {' '.join(told(error).split())}", file=sys.stderr)

    def record(self, exit_code: int | None, message: str, trace: str | None) -> str:
        """The JSON of --result."""
        finished = datetime.now(timezone.utc)
        about = {
            "job": self.job,
            "run_id": self.run_id,
            "exit_code": exit_code,
            "message": message,
            "version": __version__,
            "versions": _versions(),
            "started": self.started.isoformat(),
            "finished": finished.isoformat(),
            "seconds": round((finished - self.started).total_seconds(), 3),
        }
        return json.dumps(about | self.result | ({"trace": trace} if trace else {}), indent=2, default=str) + "\n"


def _versions() -> dict[str, str]:
    """What the run's figures depend on beside this program."""
    found = {"python": platform.python_version()}
    for package in ("pyspark", "torch", "transformers", "tokenizers", "pyarrow", "pandas", "pyiceberg"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
