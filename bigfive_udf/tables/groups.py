"""A corpus without partition columns, divided into groups of files that are scored and committed one by one.

A file stays in its group for good, so that a new, changed or removed file affects only one group. The ledger says which
file is in which group, and only files that it does not know form new groups. New groups are cut in the order of the
files' modification times: the oldest files, which will be deleted together, are then in few groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from bigfive_udf.tables.filesystem import FileInfo
from bigfive_udf.tables.partitions import Layout, Partition, relative_path

MAX_GROUP_BYTES = 256 << 20
MAX_GROUP_FILES = 1000
_NAME = re.compile(r"group-(\d+)")


def grouped(
    files: Iterable[FileInfo],
    root: str,
    known: Mapping[str, Sequence[str]],
    max_bytes: int = MAX_GROUP_BYTES,
    max_files: int = MAX_GROUP_FILES,
) -> Layout:
    """The groups of a corpus: those that the ledger knows, and new ones of at most `max_bytes` and `max_files`.

    `known` maps the name of every group that ever existed to the paths of its files, relative to `root`. If all files
    of a group are gone, the group is left out. A file that is larger than `max_bytes` forms a group of its own.
    """
    owner = {path: name for name, paths in known.items() for path in paths}
    found: dict[str, list[FileInfo]] = {}
    number = max((int(m[1]) for name in known if (m := _NAME.fullmatch(name))), default=0)
    size = max_bytes + 1  # the first new file opens a group
    for file in sorted(files, key=lambda f: (f.modified, f.path)):
        name = owner.get(relative_path(file.path, root))
        if name is None:
            last = f"group-{number:06d}"
            if size + file.size > max_bytes or len(found.get(last, ())) >= max_files:
                number, size = number + 1, 0
            size += file.size
            name = f"group-{number:06d}"
        found.setdefault(name, []).append(file)
    return Layout((), tuple(Partition((name,), tuple(group)) for name, group in sorted(found.items())))
