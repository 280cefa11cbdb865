"""--result, the file that schedulers read: it never holds the result of an earlier run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.cluster import clean_environment

UNWRITABLE_RECORD = """
from bigfive_udf.command_line import main, parser
from bigfive_udf.errors import InputError
from bigfive_udf.tables.filesystem import LocalFileSystem

def work(args, run):
    run.keep_record = lambda record: LocalFileSystem().put("/dev/null/runs/record.json", record)
    if args.verbose:
        raise InputError("there is no corpus")
    return ""

main("light", parser(""), work)
"""
KILLED = """
import os, signal, sys
from bigfive_udf.command_line import main, parser

def work(args, run):
    if args.verbose:
        from bigfive_udf.spark.session import job_session
        job_session("killed")
        run.announce()
    os.kill(os.getpid(), signal.SIGKILL)

main("killed", parser(""), work)
"""
MADE_LATER = """
import os
from bigfive_udf.command_line import main, parser

def work(args, run):
    os.remove("later")
    return ""

main("light", parser(""), work)
"""
INDISCREET = """
from bigfive_udf.command_line import main, parser
from bigfive_udf.errors import OutputError

def work(args, run):
    run.secrets = {"s3.secret-access-key": "hunter2"}
    try:
        raise ValueError("no such key: hunter2")
    except ValueError as error:
        if args.verbose:
            raise OutputError("the catalog can't be reached") from error
        raise

main("indiscreet", parser(""), work)
"""
YESTERDAY = json.dumps({"run_id": "yesterday", "exit_code": 0, "message": ""})


def job(directory: Path, program: str, *flags: str, before: tuple[str, ...] = (sys.executable,)) -> tuple[int, str]:
    """Run a job of this program in a process of its own; returns its exit code and what it printed."""
    (directory / "job.py").write_text(program)
    done = subprocess.run(
        [*before, "job.py", *flags],
        cwd=directory, env=clean_environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=99,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_a_record_that_cannot_be_written_beside_the_table_leaves_no_result_of_the_last_run(tmp_path):
    """For example because the table's disk is full or has become read-only."""
    result = tmp_path / "last.json"
    for flags, expected in (([], 7), (["--verbose"], 3)):
        result.write_text(YESTERDAY)
        code, printed = job(tmp_path, UNWRITABLE_RECORD, "--result", str(result), *flags)
        record = json.loads(result.read_text())
        assert (code, record["exit_code"]) == (expected, expected), printed
        assert "record can't be written: [Errno 20] Not a directory" in printed
    assert record["message"] == "there is no corpus"


def assert_unknown(result: Path) -> None:
    record = json.loads(result.read_text())
    assert (record["job"], record["exit_code"], record["message"]) == ("killed", None, "running")


def test_a_run_that_is_killed_leaves_no_result_of_the_last_run(tmp_path):
    result = tmp_path / "last.json"
    at_three = tmp_path / "last-03:00.json"
    for name in (str(result), result.as_uri(), f"file:{result}", result.name, at_three.name):
        result = at_three if name == at_three.name else result
        result.write_text(YESTERDAY)
        code, printed = job(tmp_path, KILLED, "--result", name)
        assert code == -signal.SIGKILL, printed
        assert_unknown(result)


@pytest.mark.parametrize(
    ("mount", "name"), [("nights", "viewfs://nights/data/last.json"), ("default", "viewfs:/data/last.json")]
)
def test_on_another_file_system_it_leaves_none_either(tmp_path, mount, name):
    """The job writes it as soon as it has a Spark session, which reaches that file system."""
    result = tmp_path / "store" / "last.json"
    result.parent.mkdir()
    result.write_text(YESTERDAY)
    mounted = f"spark.hadoop.fs.viewfs.mounttable.{mount}.link./data=file://{result.parent}"
    before = ("spark-submit", "--master", "local[1]", "--conf", "spark.ui.enabled=false", "--conf", mounted)
    code, printed = job(tmp_path, KILLED, "--verbose", "--result", name, before=before)
    assert code != 0, printed
    assert_unknown(result)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.py", "store"], "nothing is called like a scheme"


def test_a_result_that_cannot_be_written_yet_is_warned_of_and_does_not_end_the_run(tmp_path):
    (tmp_path / "later").write_text("a file in the place of the directory")
    code, printed = job(tmp_path, MADE_LATER, "--result", "later/last.json")
    assert code == 0, printed
    assert "warning: --result can't be written yet: [Errno 17] File exists" in printed
    assert json.loads((tmp_path / "later" / "last.json").read_text())["exit_code"] == 0


def test_help_leaves_the_result_of_the_last_run_alone(tmp_path):
    result = tmp_path / "last.json"
    result.write_text(YESTERDAY)
    assert job(tmp_path, KILLED, "--result", str(result), "--help")[0] == 0
    assert result.read_text() == YESTERDAY


def test_no_stack_trace_tells_a_secret_of_the_settings(tmp_path):
    for flags, expected in ((["--verbose"], 7), ([], 1)):
        code, printed = job(tmp_path, INDISCREET, "--result", "last.json", *flags)
        assert code == expected
        assert "no such key: ***" in printed
        assert "hunter2" not in printed + (tmp_path / "last.json").read_text()
