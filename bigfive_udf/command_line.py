"""What all jobs share: flags, one clear line and an exit code for every failure, and `--result`."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from bigfive_udf.errors import BigFiveError, SettingsError
from bigfive_udf.redaction import first_line, told, trace_of
from bigfive_udf.runs import Run
from bigfive_udf.tables.filesystem import LocalFileSystem, is_uri


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see --help")


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the flags of every job."""
    made = _Parser(description=description, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--config", metavar="FILE", help="settings, YAML; without it all but --set has its default")
    made.add_argument(
        "--set", action="append", default=[], metavar="key.path=value", help="override a setting; may repeat"
    )
    made.add_argument(
        "--result", metavar="FILE", help="write exit code, message and summary here as JSON (any file system)"
    )
    made.add_argument("--verbose", action="store_true", help="show Spark's own log and stack traces")
    return made


def positive(text: str) -> int:
    """Parse a flag's value that must be a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


_SPARK_HAS_ENDED = (
    "Spark ended under the job (terminated, by its cluster or for want of memory); nothing is half-written, "
    "run it again"
)


class _Terminated(BaseException):
    """Raised by the handler of SIGTERM, at whatever point the job is."""


def main(job: str, flags: argparse.ArgumentParser, work: Callable[[argparse.Namespace, Run], str]) -> NoReturn:
    """Run `work`, which returns the closing message, and exit with 0 or with the error's exit code."""
    run = Run(job)
    # Schedulers stop a job with SIGTERM: it still writes its record, as after Ctrl-C.
    stopped = threading.Event()

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second SIGTERM ends the job at once
        stopped.set()
        # Cancelled Spark jobs fail in the call that waits for them. Leaving that call here, before its answer has come,
        # would make the cleanup wait for the answer.
        if not _cancel_spark_jobs():
            raise _Terminated

    signal.signal(signal.SIGTERM, stop)
    args, result_file = None, _result_flag(sys.argv[1:])
    run.keep_result = partial(_write, result_file) if result_file is not None else None
    code, message, trace = 0, "", None
    try:
        args = flags.parse_args()
        if result_file is not None and not _is_remote(result_file):
            run.announce()  # to a remote file score and report announce themselves, once they have a Spark session
        code, message = 0, work(args, run)
    except BigFiveError as error:
        code, message = (143, _SPARK_HAS_ENDED) if _spark_has_ended(error) else (error.exit_code, str(error))
        if args is not None and args.verbose:
            print(run.discreet(trace_of(error)), file=sys.stderr)
    except _Terminated:
        pass
    except KeyboardInterrupt:
        code, message = 130, "interrupted; nothing is half-written, run it again"
    # Everything else is a defect of ours, and the only case with a stack trace.
    except Exception as error:
        if _spark_has_ended(error):
            code, message = 143, _SPARK_HAS_ENDED
        elif not stopped.is_set():
            said = run.discreet(first_line(told(error), 1000))
            code, message = 1, f"a defect of this program: {type(error).__name__}: {said}"
            trace = run.discreet(trace_of(error))
            print(trace, file=sys.stderr)
    if stopped.is_set():
        code, message = 143, "terminated; nothing is half-written, run it again"
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the rest takes only a moment, and the work is done
    code, message = _kept(run, code, message, trace)
    if code:
        print(f"error: {_one_line(message)}", file=sys.stderr)
    elif message:
        print(message)
    with contextlib.suppress(Exception):
        _stop_spark()
    sys.stdout.flush()
    sys.exit(code)


def _kept(run: Run, code: int, message: str, trace: str | None) -> tuple[int, str]:
    """Write the run's log, its record and --result; a failed write is a failure too, but never hides another one."""
    try:
        run.flush_log()
    except Exception as error:
        print(f"error: the run's log can't be written: {_one_line(told(error))}", file=sys.stderr)
    # Each on its own: if the table's disk is full, a scheduler must still not read the result of the previous run.
    for keep in (run.keep_record, run.keep_result):
        try:
            if keep is not None:
                keep(run.record(code, message, trace))
        except Exception as error:  # Py4J's errors too, where the record lies on a file system that Spark accesses
            if code == 0:
                code, message = 7, f"the work is done, but its record can't be written: {_one_line(told(error))}"
            else:
                print(f"error: the record can't be written: {_one_line(told(error))}", file=sys.stderr)
    return code, message


def _result_flag(arguments: list[str]) -> str | None:
    """The value of --result, read even where other flags are wrong, so that a scheduler always gets its file."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--result")
    try:
        return finder.parse_known_args(arguments)[0].result
    except SystemExit:
        return None


def _is_remote(path: str) -> bool:
    return is_uri(path) and not path.startswith("file:")


def _write(path: str, content: str) -> None:
    if _is_remote(path):
        from bigfive_udf.spark.session import any_session
        from bigfive_udf.spark.storage import locate

        fs, located = locate(any_session(), path)
        fs.put(located, content)
        return
    LocalFileSystem().put(os.path.abspath(path.removeprefix("file:")), content)


def _has_spark() -> bool:
    """Whether a session may have been started; else Spark must not be imported just to learn that there is none."""
    return "bigfive_udf.spark.session" in sys.modules


def _spark_has_ended(error: BaseException) -> bool:
    if not _has_spark():
        return False
    from bigfive_udf.spark.ending import is_gone

    return is_gone(error)


def _cancel_spark_jobs() -> bool:
    """Whether Spark was computing."""
    if not _has_spark():
        return False
    from bigfive_udf.spark.ending import cancel_jobs

    return cancel_jobs()


def _stop_spark() -> None:
    if _has_spark():
        from bigfive_udf.spark.ending import stop

        stop()


def _one_line(message: str) -> str:
    return " ".join(message.split())
