"""One execution of a job, and the record that it leaves."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from secrets import token_hex
from typing import Any

from bigfive_udf import __version__
from bigfive_udf.redaction import told
from bigfive_udf.settings.secrets import without_secrets

RUNNING = "running"
"""message of a record without an exit code: its run is still going on, or ended without writing another record"""
_FEW_LINES, _LOG_SECONDS = 100, 30.0


@dataclass
class Run:
    """One execution of a job: its name in records, its start, and what it reports, also when it fails."""

    job: str
    started: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    run_id: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    """fields of --result and of the run record beside the exit code; filled while the job runs"""
    keep_record: Callable[[str], None] | None = None
    """stores the record, in addition to --result; set once the job knows where its records lie"""
    keep_log: Callable[[str], None] | None = None
    """stores the log; every flush passes the whole log"""
    keep_result: Callable[[str], None] | None = None
    """writes --result, if the user asked for it"""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """properties of a catalog; no message and no stack trace may contain their secrets"""
    log_texts: bool = False
    """whether the log may hold excerpts of texts"""
    lines: list[str] = field(default_factory=list)
    """the log: one JSON object per line, with time, run_id, job, event and the event's own fields"""
    _kept_at: float = 0.0
    _announced: bool = False

    def __post_init__(self) -> None:
        self.run_id = self.run_id or f"{self.started:%Y%m%dT%H%M%SZ}-{token_hex(3)}"

    def log(self, event: str, **about: Any) -> None:
        """Add an event to the log, and flush the log now or with a later event."""
        line = {"time": datetime.now(timezone.utc).isoformat(), "run_id": self.run_id, "job": self.job, "event": event}
        self.lines.append(json.dumps(line | about, default=str) + "\n")
        # A long log is not flushed at each event, or a run of a thousand steps would write it a thousand times.
        if len(self.lines) <= _FEW_LINES or time.monotonic() - self._kept_at > _LOG_SECONDS:
            self.flush_log()

    def flush_log(self) -> None:
        """Store the log so far, if it has lines and there is a place for it."""
        if self.keep_log is not None and self.lines:
            self.keep_log("".join(self.lines))
            self._kept_at = time.monotonic()

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Record the seconds that the block takes, under `phase_seconds`."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.result.setdefault("phase_seconds", {})[phase] = round(time.monotonic() - started, 3)

    def discreet(self, text: str) -> str:
        """The text with stars in place of the secrets in the run's settings."""
        return without_secrets(text, self.secrets)

    def announce(self) -> None:
        """Write to --result that the run is still going on, so that a killed run leaves no result of an earlier run.

        A failed write is only a warning here: the job writes --result again at its end, where a failure counts.
        """
        if self.keep_result is None or self._announced:
            return
        try:
            self.keep_result(self.record(None, RUNNING, None))
            self._announced = True
        except Exception as error:  # Py4J's errors too
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
    """Versions of Python and of the packages that the run's figures depend on."""
    found = {"python": platform.python_version()}
    for package in ("pyspark", "torch", "transformers", "tokenizers", "pyarrow", "pandas", "pyiceberg"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
