"""One execution of a job, and the record that it leaves."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from bigfive_udf import __version__


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

    def __post_init__(self) -> None:
        self.run_id = self.run_id or f"{self.started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"

    def record(self, exit_code: int, message: str, trace: str | None) -> str:
        """The JSON of --result."""
        finished = datetime.now(timezone.utc)
        about = {
            "job": self.job,
            "run_id": self.run_id,
            "exit_code": exit_code,
            "message": message,
            "version": __version__,
            "started": self.started.isoformat(),
            "finished": finished.isoformat(),
            "seconds": round((finished - self.started).total_seconds(), 3),
        }
        return json.dumps(about | self.result | ({"trace": trace} if trace else {}), indent=2, default=str) + "\n"
