"""A run as a person at a terminal has it: spark-submit with the laptop's property file, on a real pseudo-terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from pathlib import Path

from support.cluster import REPOSITORY, SCORE, clean_environment
from support.corpora import corrupt
from support.jobs_here import arguments


def test_a_terminal_shows_how_far_the_run_is_and_what_failed(basics, corpus, tmp_path):
    corrupt(corpus / "dt=2026-01-05" / "part-0.parquet")
    command = ["spark-submit", "--properties-file", str(REPOSITORY / "conf" / "spark" / "laptop.conf")]
    command += ["--master", "local[1]", str(SCORE), "--result", str(tmp_path / "result.json"), *arguments(basics)]
    ours, theirs = pty.openpty()
    job = subprocess.Popen(
        command, cwd=tmp_path, env=clean_environment(TERM="xterm"), stdin=theirs, stdout=theirs,
        stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    content = b""
    try:
        while some := os.read(ours, 65536):
            content += some
    except OSError:  # the last process that had the terminal is gone
        pass
    finally:
        os.close(ours)
    assert job.wait(timeout=60) == 5
    shown = content.decode()
    assert re.search(r"\r +\d+ % .{10} \d of 3 partitions committed", shown), shown
    assert re.search(r"[\r\n]failed: dt=2026-01-05: .*part-0.parquet", shown), shown

    # Spark's history server finds what it did: the directory was not there before.
    application = json.loads((tmp_path / "result.json").read_text())["spark"]["application_id"]
    (log,) = Path(tmp_path / "spark-events").iterdir()
    assert application in log.name
