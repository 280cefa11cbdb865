"""Spark for tests that need real processes: spark-submit as a user types it, and a standalone cluster."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyspark

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SPARK_HOME = Path(pyspark.__file__).parent
SCORE = REPOSITORY / "jobs" / "score.py"
ALONE = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"']
"""The beginning of a command that gets its own disk: append the directory to mount it at, then the command."""


def clean_environment(**changes: str) -> dict[str, str]:
    """The environment of a user who has activated the virtual environment, and has set nothing else.

    But for what `conftest` limits, since tests run side by side: threads of a training, and the JVM's care of itself.
    """
    names = ("HOME", "LANG", "JAVA_HOME", "TMPDIR", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "SPARK_SUBMIT_OPTS")
    keep = {k: v for k, v in os.environ.items() if k in names}
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    return keep | {"PATH": path, "SPARK_LOCAL_IP": "127.0.0.1"} | changes


@dataclass(frozen=True)
class Finished:
    """What a job printed, its exit code, and its --result."""

    code: int
    out: str
    err: str
    result: dict[str, Any]

    @property
    def error(self) -> str:
        """The line that begins with error:, of which there must be one; spark-submit sends a job's stderr to stdout."""
        lines = [line for line in (self.out + self.err).splitlines() if line.startswith("error:")]
        assert len(lines) == 1, self.out + self.err
        return lines[0]


def submit(
    settings: dict[str, Any],
    *flags: str,
    directory: Path,
    master: str = "local[2]",
    conf: Sequence[str] = (),
    properties: Path | None = None,
    job: Path = SCORE,
    timeout: float = 240,
    **environment: str,
) -> Finished:
    """Run a job with spark-submit; `settings` are dotted keys."""
    result = directory / "result.json"
    result.unlink(missing_ok=True)
    command = ["spark-submit", "--master", master, "--conf", "spark.ui.enabled=false"]
    if properties is not None:
        command += ["--properties-file", str(properties)]
    for entry in conf:
        command += ["--conf", entry]
    command += [str(job), "--result", str(result), *flags]
    for key, value in settings.items():
        command += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    done = subprocess.run(
        command, cwd=directory, env=clean_environment(**environment), capture_output=True, text=True, timeout=timeout
    )
    content = json.loads(result.read_text()) if result.exists() else {}
    return Finished(done.returncode, done.stdout, done.stderr, content)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def standalone_cluster(
    directory: Path, workers: int = 2, java_options: str = "", own_disk: Path | None = None
) -> Iterator[str]:
    """A master and workers of one core each, every one a process of its own; yields the master's URL.

    At the directory `own_disk` each worker gets its own disk, as on machines that share no directory; this needs root.
    """
    port, ui_port = free_port(), free_port()
    environment = clean_environment(
        SPARK_HOME=str(SPARK_HOME), SPARK_NO_DAEMONIZE="1", SPARK_DAEMON_JAVA_OPTS=java_options
    )
    launcher = str(SPARK_HOME / "bin" / "spark-class")
    url = f"spark://127.0.0.1:{port}"
    master = ["-h", "127.0.0.1", "-p", str(port), "--webui-port", str(ui_port)]
    alone = [] if own_disk is None else [*ALONE, str(own_disk)]
    commands = [[launcher, "org.apache.spark.deploy.master.Master", *master]]
    for i in range(workers):
        commands.append(
            [*alone, launcher, "org.apache.spark.deploy.worker.Worker", "-h", "127.0.0.1", "-c", "1", "-m", "3g",
             "-d", str(directory / f"worker-{i}"), "--webui-port", "0", url]
        )  # fmt: skip
    processes = []
    try:
        for i, command in enumerate(commands):
            log = (directory / f"daemon-{i}.log").open("w")
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True))
        _wait_for_workers(ui_port, workers)
        yield url
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in processes:
            process.wait(timeout=30)


def tasks_by_worker(directory: Path) -> list[int]:
    """How many tasks the executors of each worker began, by their own logs."""
    return [
        sum(log.read_text(errors="replace").count("Running task ") for log in worker.glob("app-*/*/stderr"))
        for worker in sorted(directory.glob("worker-*"))
    ]


def _wait_for_workers(ui_port: int, workers: int) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ui_port}/json/", timeout=5) as answer:
                if json.load(answer)["aliveworkers"] == workers:
                    return
        except (OSError, ValueError):  # not there yet, or there with a page for people
            pass
        time.sleep(0.5)
    raise TimeoutError(f"{workers} workers did not register")


def spark_sql(query: str, directory: Path, *flags: str) -> list[str]:
    """The rows of an answer as spark-sql prints them, with tabs between values; its metastore is in `directory`."""
    done = subprocess.run(
        ["spark-sql", "--master", "local[2]", "--conf", "spark.ui.enabled=false", *flags, "-e", query],
        cwd=directory, env=clean_environment(), capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()
