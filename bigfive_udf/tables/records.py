"""The record and the log that each run leaves beside the table, until they expire."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

from bigfive_udf.runs import RUNNING, Run
from bigfive_udf.settings.score import RetentionSettings
from bigfive_udf.tables.by_author import forget_replaced
from bigfive_udf.tables.failures import as_output_error
from bigfive_udf.tables.opening import OpenTable, make_table
from bigfive_udf.tables.score_table import time_of

SEEN = "seen-"
"""How the file begins whose sight shows that executors share the table's disk, see spark/output/shared_path.py."""


def keep_records(run: Run, table: OpenTable) -> None:
    """Write the run's record and log beside the table from now on; if the previous run died, note that in its record.

    Raises:
        OutputError: they can't be written.
    """
    fs, marker = table.fs, f"{table.job_path}/running"
    with as_output_error(table.job_path):
        if fs.exists(marker) and (dead := fs.read(marker).strip()) != run.run_id:
            path = f"{table.job_path}/runs/{dead}.json"
            if fs.exists(path) and (record := json.loads(fs.read(path))).get("exit_code") is None:
                message = f"ended without a word: killed, or its machine was lost (noticed by run {run.run_id})"
                fs.put(path, json.dumps(record | {"message": message}, indent=2) + "\n")
        fs.put(marker, run.run_id + "\n")
    table.put(f"runs/{run.run_id}.json", run.record(None, RUNNING, None))

    def keep(record: str) -> None:
        table.put(f"runs/{run.run_id}.json", record)
        with as_output_error(table.job_path):
            if fs.exists(marker) and fs.read(marker).strip() == run.run_id:
                fs.delete(marker)

    run.keep_record = keep
    run.keep_log = lambda text: table.put(f"runs/{run.run_id}.log", text, private=run.log_texts)
    for line in table.mended:
        run.log("mended", what=line)


@contextmanager
def cleaned(table: OpenTable, retention: RetentionSettings) -> Iterator[None]:
    """On exit, also after a failure, delete replaced rows and run records that have expired, and compact the ledger.

    A failed run must not delay an erasure required by law.

    Raises:
        OutputError: something can't be deleted.
    """
    try:
        yield
    except Exception:
        with contextlib.suppress(Exception):  # the error that ended the run is the one to report
            if table.ours is not None and table.ours():
                _clean(table, retention)
        raise
    _clean(table, retention)


def _clean(table: OpenTable, retention: RetentionSettings) -> None:
    now = datetime.now(timezone.utc)

    def kept_from(days: float) -> datetime:
        # 0 days means at once, even if the clock of the machine that made the commit is ahead of this one.
        return now - timedelta(days=days) if days else datetime.max.replace(tzinfo=timezone.utc)

    if table.there is not None:
        kind, columns = table.there
        days = retention.snapshot_days if kind == "iceberg" else retention.trash_days
        make_table(table.fs, table.path, table.output, columns).clean(kept_from(days), table.ledger.commits)
    with as_output_error(table.job_path):
        forget_replaced(table.fs, table.job_path, table.ledger, kept_from(retention.trash_days))
        table.ledger.compact()
        for name in table.fs.names(table.job_path):
            if name.startswith(SEEN):  # of a run that was killed while it asked the executors
                table.fs.delete(f"{table.job_path}/{name}")
        for name in table.fs.names(f"{table.job_path}/runs"):
            began = time_of(name)
            if began is not None and began < now - timedelta(days=retention.record_days):
                table.fs.delete(f"{table.job_path}/runs/{name}")
