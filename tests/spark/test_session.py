"""What spark-submit was told stands; what it was not told gets this project's defaults."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bigfive_udf.spark.session import cancel_jobs
from cluster import clean_environment

JOB = """
import json
from bigfive_udf.spark.session import job_session
spark = job_session("session")
keys = ["spark.sql.session.timeZone", "spark.sql.execution.arrow.maxRecordsPerBatch", "spark.sql.adaptive.enabled"]
print(json.dumps([spark.sparkContext.master, *map(spark.conf.get, keys)]))
"""
GIVEN = ["--master", "local[1]", "--conf", "spark.sql.session.timeZone=Asia/Tokyo", "--conf", "spark.ui.enabled=false",
         "--conf", "spark.sql.adaptive.enabled=false"]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "master", "zone"),
    [(["spark-submit", *GIVEN], "local[1]", "Asia/Tokyo"), ([sys.executable], "local[*]", "UTC")],
    ids=["spark-submit", "plain python"],
)
def test_a_job_gets_the_session_that_it_was_submitted_with(tmp_path: Path, command: list[str], master: str, zone: str):
    script = tmp_path / "job.py"
    script.write_text(JOB)
    done = subprocess.run([*command, str(script)], capture_output=True, text=True, env=clean_environment(), timeout=120)
    assert done.returncode == 0, done.stderr
    # Adaptive execution is not the user's to switch off.
    assert json.loads(done.stdout.splitlines()[-1]) == [master, zone, "2048", "true"]


def test_what_spark_computes_ends_when_a_run_is_terminated(spark):
    """Else what cleans up after SIGTERM waits for it: minutes, where the scheduler then kills without a word."""

    def computing(numbers):
        time.sleep(60)
        return numbers

    started = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(spark.sparkContext.parallelize([1], 1).mapPartitions(computing).collect)
        while not spark.sparkContext.statusTracker().getActiveJobsIds():
            assert time.monotonic() < started + 20
            time.sleep(0.05)
        cancel_jobs()
        with pytest.raises(Exception, match="cancelled"):
            job.result(timeout=20)
    assert time.monotonic() - started < 20
