"""What spark-submit was told stands; what it was not told gets this project's defaults."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bigfive_udf.spark.machines import crowd
from support.cluster import clean_environment

JOB = """
import json
from bigfive_udf.spark.session import job_session
spark = job_session("session")
keys = ["spark.sql.session.timeZone", "spark.sql.execution.arrow.maxRecordsPerBatch", "spark.sql.adaptive.enabled"]
keys += ["spark.ui.showConsoleProgress"]
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
    assert json.loads(done.stdout.splitlines()[-1]) == [master, zone, "2048", "true", "false"]


CORES = """
from bigfive_udf.spark.machines import cores, slots
from bigfive_udf.spark.session import job_session
spark = job_session("cores")
spark.range(1).count()  # which waits for executors
print(cores(spark), slots(spark), spark.sparkContext.defaultParallelism)
"""


@pytest.mark.parametrize(
    ("master", "given", "expected"),
    [
        ("local[2]", {}, "2 2 2"),
        ("local[3]", {"spark.default.parallelism": "200", "spark.task.cpus": "2"}, "2 1 200"),
        ("local", {"spark.default.parallelism": "200"}, "1 1 200"),
        pytest.param(
            "local-cluster[2,2,1024]", {"spark.default.parallelism": "200", "spark.cores.max": "4"}, "4 4 200",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_the_cores_are_those_of_the_executors_whatever_parallelism_is_wished_for(tmp_path, master, given, expected):
    (tmp_path / "job.py").write_text(CORES)
    conf = {**given, "spark.ui.enabled": "false", "spark.scheduler.minRegisteredResourcesRatio": "1.0"}
    flags = [f"--conf={key}={value}" for key, value in conf.items()]
    command = ["spark-submit", "--master", master, *flags, str(tmp_path / "job.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), timeout=120)
    assert done.stdout.splitlines()[-1:] == [expected], done.stderr


@pytest.mark.parametrize(
    ("workers", "n_cores", "n_gpus", "cure"),
    [(2, 16, 1, ""), (16, 16, 1, "16 workers share 1 GPU, .*spark.task.cpus=8"), (16, 16, 8, ""),
     (32, 64, 4, "32 workers share 4 GPUs, .*spark.task.cpus=8"), (3, 3, 1, "spark.task.cpus=2")],
)  # fmt: skip
def test_workers_that_crowd_a_gpu_are_told_of(workers, n_cores, n_gpus, cure):
    line = crowd(workers, n_cores, n_gpus)
    assert re.search(cure, line) if cure else line == ""


BEGUN = """
from bigfive_udf.command_line import main, parser
from bigfive_udf.spark.session import job_session

main("begun", parser(""), lambda args, run: str(job_session("begun")))
"""


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (["--master=spark://127.0.0.1:1", "--conf=spark.authenticate=true"], 2,
         r"A secret key must be specified via the spark\.authenticate\.secret config\.\): correct it"),
        (["--master=local[1]", "--conf=spark.executor.heartbeatInterval=soon"], 2,
         r"spark\.executor\.heartbeatInterval.*correct it"),
        (["--master=local[1]", "--conf=spark.eventLog.enabled=true", "--conf=spark.eventLog.dir=hdfs://127.0.0.1:1/l",
          "--conf=spark.hadoop.ipc.client.connect.max.retries=0"], 143, "can't reach .*Connection refused"),
    ],
)  # fmt: skip
def test_a_session_that_spark_does_not_give_is_no_defect(tmp_path, flags, code, told):
    (tmp_path / "job.py").write_text(BEGUN)
    command = ["spark-submit", "--conf=spark.ui.enabled=false", *flags, str(tmp_path / "job.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), timeout=120)
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("error:")]
    assert done.returncode == code, line
    assert re.search(told, line)
    assert "Traceback" not in done.stdout + done.stderr


ENDLESS = """
import time
from bigfive_udf.command_line import main, parser
from bigfive_udf.spark.session import job_session

def work(args, run):
    tasks = job_session("endless").sparkContext.parallelize([1], 1)
    print("begins", flush=True)
    tasks.map(lambda _: time.sleep(300)).collect()
    return ""

main("endless", parser(""), work)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_job_whose_spark_submit_is_signalled_is_no_defect(tmp_path: Path, number: signal.Signals):
    """spark-submit is the JVM: the job in it is not signalled, and hears of it by what Spark no longer does."""
    (tmp_path / "job.py").write_text(ENDLESS)
    result, told = tmp_path / "result.json", tmp_path / "told"
    command = ["spark-submit", "--conf", "spark.ui.enabled=false", "--conf", "spark.log.level=OFF"]
    with told.open("w") as out:
        submitted = subprocess.Popen(
            [*command, str(tmp_path / "job.py"), "--result", str(result)],
            env=clean_environment(), stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    wait_until(lambda: "begins" in told.read_text(), 60)
    time.sleep(3)
    submitted.send_signal(number)
    submitted.wait(timeout=30)
    wait_until(lambda: json.loads(result.read_text())["exit_code"] is not None, 30)
    record = json.loads(result.read_text())
    assert (record["exit_code"], record["message"].split(" (")[0]) == (143, "Spark ended under the job")
    assert "trace" not in record and "defect" not in told.read_text()


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_run_that_is_terminated_does_not_wait_for_what_spark_computes(tmp_path: Path):
    """Else its scheduler, tired of waiting, kills it without a word."""
    (tmp_path / "job.py").write_text(ENDLESS)
    command = [sys.executable, str(tmp_path / "job.py"), "--result", str(tmp_path / "result.json")]
    job = subprocess.Popen(
        command, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert job.stdout is not None
    assert any("begins" in line for line in job.stdout)
    time.sleep(3)
    job.send_signal(signal.SIGTERM)
    rest, _ = job.communicate(timeout=30)
    assert job.returncode == 143, rest
    assert json.loads((tmp_path / "result.json").read_text())["exit_code"] == 143
    assert "Traceback" not in rest
    assert "error: terminated" in rest
