"""When the files of the view by author go, which spark/output/author_files.py makes: as trash does, catalog or not.

<output>.job/by_author/<run_id>/_REPLACED     since when a later commit, or later files, stand in their place

They name authors, so whoever erases one must not need a catalog for it, nor the settings by which they were made.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timezone

from bigfive_udf.tables.filesystem import FileSystem
from bigfive_udf.tables.ledger import Ledger


def forget_replaced(fs: FileSystem, job_path: str, ledger: Ledger, before: datetime) -> None:
    """Remove for good what was replaced before that time, and note of what is replaced since when it is.

    Raises:
        OSError: it can't be removed.
    """
    folder = f"{job_path}/by_author"
    names = fs.names(folder)
    for name in names:
        if name == names[-1] and name >= ledger.last_run:
            continue  # what the view reads, and no commit has come since
        mark, since = f"{folder}/{name}/_REPLACED", None
        with contextlib.suppress(FileNotFoundError, ValueError):
            since = datetime.fromisoformat(fs.read(mark).strip())
        if (since or datetime.now(timezone.utc)) < before:
            fs.delete(f"{folder}/{name}")
        elif since is None:
            fs.put(mark, datetime.now(timezone.utc).isoformat() + "\n")
