"""Deletes replaced files of the view by author when trash of their age is deleted, with or without a catalog.

<output>.job/by_author/<sequence>-<run_id>/_REPLACED     since when a later commit, or later files, have replaced them

The sequence is that of the table's last commit when the files were computed: machines may disagree about the time.

spark/output/author_files.py writes the files. They name authors, so the erasure of an author must need neither a
catalog nor the settings with which the files were made.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timezone

from bigfive_udf.tables.filesystem import FileSystem
from bigfive_udf.tables.ledger import Ledger


def directory_of(sequence: int, run_id: str) -> str:
    """The name of the directory for files that a run computes from the table after the commit of that number."""
    return f"{sequence:010d}-{run_id}"


def sequence_of(name: str) -> int:
    """The number of the commit in a directory's name; -1 for one that an earlier version named by the run alone."""
    number = name.partition("-")[0]
    return int(number) if len(number) == 10 and number.isdecimal() else -1


def forget_replaced(fs: FileSystem, job_path: str, ledger: Ledger, before: datetime) -> None:
    """Delete the files that were replaced before that time, and write the time into those that are newly replaced.

    Raises:
        OSError: files can't be deleted or marked.
    """
    folder = f"{job_path}/by_author"
    names = sorted(fs.names(folder), key=sequence_of)
    for name in names:
        if name == names[-1] and sequence_of(name) >= ledger.sequence:
            continue  # the view reads these files, and nothing was committed since
        mark, since = f"{folder}/{name}/_REPLACED", None
        with contextlib.suppress(FileNotFoundError, ValueError):
            since = datetime.fromisoformat(fs.read(mark).strip())
        if (since or datetime.now(timezone.utc)) < before:
            fs.delete(f"{folder}/{name}")
        elif since is None:
            fs.put(mark, datetime.now(timezone.utc).isoformat() + "\n")
