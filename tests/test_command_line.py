"""--result, which a scheduler reads and nobody else: it never tells of another run than the last."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from cluster import clean_environment

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
    """As where the table's disk is full, or has become read-only."""
    result = tmp_path / "last.json"
    for flags, expected in (([], 7), (["--verbose"], 3)):
        result.write_text(YESTERDAY)
        code, printed = job(tmp_path, UNWRITABLE_RECORD, "--result", str(result), *flags)
        record = json.loads(result.read_text())
        assert (code, record["exit_code"]) == (expected, expected), printed
        assert "record can't be written: [Errno 20] Not a directory" in printed
    assert record["message"] == "there is no corpus"
