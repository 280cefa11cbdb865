"""The score job as users start it, by spark-submit."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.support.served import REPOSITORY


@contextmanager
def score_job(
    settings: Mapping[str, Any], log: Path, *flags: str, spark: Sequence[str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Start the job with two cores; when the block ends, the job must have ended well.

    `flags` are the job's own, `spark` those of spark-submit.

    Raises:
        SystemExit: the job failed.
    """
    command = ["spark-submit", "--master", "local[2]", "--conf", "spark.ui.enabled=false", *spark]
    command += [str(REPOSITORY / "jobs" / "score.py"), *flags]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    with log.open("w") as file:
        job = subprocess.Popen(command, cwd=log.parent, stdout=file, stderr=file)
        try:
            yield job
        except BaseException:
            job.terminate()
            raise
        finally:
            code = job.wait()
    if code != 0:
        raise SystemExit(f"the job ended with {code}: {log.read_text()[-2000:]}")
