"""Spark's scratch directories in local mode, with real processes that live side by side, end, or are killed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROCESS = """
import sys
from bigfive_udf.spark.scratch import own_scratch

directory = own_scratch()
assert own_scratch() == directory
(directory / "blockmgr-1").mkdir()
(directory / "blockmgr-1" / "shuffle").write_text("what somebody wrote")
print(directory, flush=True)
sys.stdin.read()
"""
KILLED_IN_THE_MIDDLE = """
import os, signal
from bigfive_udf.spark.session import job_session

spark = job_session("killed").newSession()
spark.range(1000).repartition(3).persist().count()
print(spark.sparkContext.getConf().get("spark.local.dir"), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path / f"bigfive_udf-{os.getuid()}-spark"


def started() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextmanager
def alive() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    directory = Path(process.stdout.readline().strip())
    try:
        yield process, directory
    finally:
        process.kill()
        process.communicate()


def runs(root: Path) -> set[Path]:
    return set(root.glob("run-*"))


def test_the_dead_leave_nothing_and_the_living_keep_what_is_theirs(root):
    with alive() as (_, one), alive() as (killed, two):
        assert runs(root) == {one, two}
        assert {stat.S_IMODE(path.stat().st_mode) for path in (root, one, two)} == {0o700}
        killed.kill()
        killed.wait()
        assert (two / "blockmgr-1" / "shuffle").exists(), "nobody has begun since"
        with alive() as (_, three):
            assert runs(root) == {one, three}
            assert (one / "blockmgr-1" / "shuffle").exists()
    with alive() as (_, four):
        assert runs(root) == {four}


def test_many_that_begin_at_once_take_nothing_from_each_other(root):
    go = [started() for _ in range(8)]
    try:
        found = {Path(process.stdout.readline().strip()) for process in go if process.stdout is not None}
        assert runs(root) == found
        assert len(found) == 8
        assert all((path / "blockmgr-1" / "shuffle").exists() for path in found)
    finally:
        for process in go:
            process.kill()
            process.communicate()


def test_what_is_not_of_a_run_stays(root):
    root.mkdir(mode=0o700)
    (root / "blockmgr-of-an-older-version").mkdir()
    with alive():
        assert (root / "blockmgr-of-an-older-version").exists()


def test_what_spark_wrote_goes_with_the_run_that_was_killed(root):
    done = subprocess.run([sys.executable, "-c", KILLED_IN_THE_MIDDLE], capture_output=True, text=True, timeout=120)
    assert done.returncode == -9, done.stderr
    killed = Path(done.stdout.strip().splitlines()[-1])
    assert killed.parent == root
    with alive() as (_, other):
        assert runs(root) == {other}
