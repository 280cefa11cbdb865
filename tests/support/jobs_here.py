"""The jobs, run in this process where a process of its own would prove nothing more, and in one of their own."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from bigfive_udf.errors import BigFiveError
from bigfive_udf.runs import Run
from support.cluster import REPOSITORY, Finished, clean_environment

_PREPARED = multiprocessing.get_context("forkserver")
_PREPARED.set_forkserver_preload(["bigfive_udf.training.procedure", "bigfive_udf.training.publish"])
_BODIES = {
    "score": "score",
    "train": "train_model",
    "evaluate": "evaluate",
    "import_model": "import_model",
    "quantize": "quantize",
    "report": "report",
}


def arguments(settings: dict[str, Any]) -> list[str]:
    """Dotted settings as flags of a command line."""
    flags = []
    for key, value in settings.items():
        flags += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return flags


def run_here(job: str, settings: dict[str, Any], *flags: str) -> Run:
    """Run the body of jobs/<job>.py; returns what it would record, raises its errors."""
    run = Run(job)
    _body(job, run, settings, *flags)
    return run


def refused(
    score: Callable[..., Run], settings: dict[str, Any], kind: type[Exception], *words: str, flags: Sequence[str] = ()
) -> None:
    """The job fails with one line that has all these words."""
    with pytest.raises(kind) as caught:
        score(settings, *flags)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def run_recorded(job: str, settings: dict[str, Any], *flags: str) -> int:
    """The same, with the record kept beside the table as `command_line.main` keeps it; returns the exit code."""
    run, code, message = Run(job), 0, ""
    try:
        message = _body(job, run, settings, *flags)
    except BigFiveError as error:
        code, message = error.exit_code, str(error)
    if run.keep_record is not None:
        run.keep_record(run.record(code, message, None))
    return code


def load_job(job: str) -> Any:
    """The module jobs/<job>.py."""
    spec = importlib.util.spec_from_file_location(f"{job}_job", REPOSITORY / "jobs" / f"{job}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _body(job: str, run: Run, settings: dict[str, Any], *flags: str) -> str:
    module = load_job(job)
    return str(getattr(module, _BODIES[job])(module.FLAGS.parse_args([*flags, *arguments(settings)]), run))


def command_of(job: str, settings: dict[str, Any], *flags: str) -> list[str]:
    """What a user types."""
    return [sys.executable, str(REPOSITORY / "jobs" / f"{job}.py"), *flags, *arguments(settings)]


def run_alone(job: str, settings: dict[str, Any], *flags: str, directory: Path, **environment: str) -> Finished:
    """Run the job in a process of its own, with `directory` as its working directory."""
    result = directory / "result.json"
    result.unlink(missing_ok=True)
    done = subprocess.run(
        command_of(job, settings, "--result", str(result), *flags),
        cwd=directory, env=clean_environment(**environment), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    content = json.loads(result.read_text()) if result.exists() else {}
    return Finished(done.returncode, done.stdout, done.stderr, content)


def start_prepared(job: str, settings: dict[str, Any], directory: Path) -> BaseProcess:
    """Start the job in a process that is forked from one which has done the imports, the most of a short job's time."""
    process = _PREPARED.Process(target=_as_command, args=(command_of(job, settings)[1:], str(directory)))
    process.start()
    return process


def _as_command(command: list[str], directory: str) -> None:
    os.chdir(directory)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")
