"""Deletes replaced files of the view by author when trash of their age is deleted, with or without a catalog.

<output>.job/by_author/<run_id>/_REPLACED     the time since which a later commit, or later files, have replaced them

spark/output/author_files.py writes the files. They name authors, so the erasure of an author must need neither a
catalog nor the settings with which the files were made.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timezone

from bigfive_udf.tables.filesystem import FileSystem
from bigfive_udf.tables.ledger import Ledger


def forget_replaced(fs: FileSystem, job_path: str, ledger: Ledger, before: datetime) -> None:
    """Delete the files that were replaced before that time, and write the time into those that are newly replaced.

    Raises:
        OSError: files can't be deleted or marked.
    """
    folder = f"{job_path}/by_author"
    names = fs.names(folder)
    for name in names:
        if name == names[-1] and name >= ledger.last_run:
            continue  # the view reads these files, and no later run has committed
        mark, since = f"{folder}/{name}/_REPLACED", None
        with contextlib.suppress(FileNotFoundError, ValueError):
            since = datetime.fromisoformat(fs.read(mark).strip())
        if (since or datetime.now(timezone.utc)) < before:
            fs.delete(f"{folder}/{name}")
        elif since is None:
            fs.put(mark, datetime.now(timezone.utc).isoformat() + "\n")
