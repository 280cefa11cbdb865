"""A score table as plain Parquet directories: staged beside the table, swapped in partition by partition.

<output>/dt=2026-11-22/part-….parquet, _SUCCESS      the table, and nothing else
<output>.job/table.json                              whose table this is and how it is partitioned
<output>.job/staging/<run_id>/                       what a run writes before it is checked and published
<output>.job/runs/<run_id>.json                      one record per run
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bigfive_udf.errors import OutputError, RefusedError, SettingsError
from bigfive_udf.tables.filesystem import FileSystem, alternatives, local_path
from bigfive_udf.tables.partitions import Values, is_hidden, partition_name

FORMAT_VERSION = 1
SUCCESS = "_SUCCESS"


@dataclass(frozen=True)
class ParquetTable:
    """The table at `path`, on the file system `fs`."""

    fs: FileSystem
    path: str

    @property
    def job_path(self) -> str:
        """Where the job keeps everything that is not the table."""
        return self.path.rstrip("/") + ".job"

    def prepare(self, partition_columns: Sequence[str], corpus: str) -> None:
        """Make sure that the table can be written and is ours, before anything is scored.

        Raises:
            OutputError: it can't be written, or holds files that this job has not written.
            SettingsError: the corpus lies in it, or it in the corpus.
            RefusedError: it has other partition columns.
        """
        inner = self.path.rstrip("/") + "/"
        if _overlap(self.path, corpus):
            raise SettingsError(
                f"output.path {self.path} and input.path {corpus} lie in one another: choose another output.path"
            )
        with _as_output_error(self.path):
            about = f"{self.job_path}/table.json"
            if not self.fs.exists(about):
                there = self.fs.files(self.path) if self.fs.exists(self.path) else []
                if any(not is_hidden(f.path.removeprefix(inner)) for f in there):
                    raise OutputError(
                        f"output.path {self.path} holds files that this job has not written: "
                        "choose an empty or a new directory"
                    )
                content = {
                    "format_version": FORMAT_VERSION,
                    "format": "parquet",
                    "partition_columns": list(partition_columns),
                }
                self.fs.put(about, json.dumps(content, indent=2) + "\n")
            elif (columns := self._columns(about)) != list(partition_columns):
                raise RefusedError(
                    f"output.path {self.path} is partitioned by {', '.join(columns) or 'nothing'}, the corpus by "
                    f"{', '.join(partition_columns) or 'nothing'}: rows would stand twice; choose another output.path"
                )
            self.fs.make_directory(self.path)

    def _columns(self, about: str) -> list[str]:
        try:
            content = json.loads(self.fs.read(about))
            version, columns = content["format_version"], list(content["partition_columns"])
        except (ValueError, KeyError, TypeError):
            raise OutputError(f"{about} is damaged: restore it, or choose another output.path") from None
        if version != FORMAT_VERSION:
            raise OutputError(
                f"{about} has format_version {version}, this program writes {FORMAT_VERSION}: upgrade bigfive-udf"
            )
        return columns

    @contextlib.contextmanager
    def staging(self, run_id: str) -> Iterator[str]:
        """A directory to write a run's rows to; it is gone afterwards, whatever happened."""
        path = f"{self.job_path}/staging/{run_id}"
        try:
            yield path
        finally:
            with contextlib.suppress(OSError):
                # A swap that could be neither finished nor undone has left the only copy of the old rows here.
                if not any(".old/" in f.path for f in self.fs.files(path)):
                    self.fs.delete(path)

    def publish(self, staging: str, columns: Sequence[str], values: Values) -> None:
        """Put one staged partition in the place of the table's, so that a reader finds the old rows or the new ones.

        A partition without rows was not staged; its place in the table is left empty.

        Raises:
            OutputError: the table can't be written; the partition is as it was.
        """
        name = partition_name(columns, values)
        staged, target = f"{staging}/{name}".rstrip("/"), f"{self.path}/{name}".rstrip("/")
        with _as_output_error(target):
            self.fs.put(f"{staged}/{SUCCESS}", "")
            self.fs.swap_in(staged, target)

    def write_record(self, run_id: str, record: str) -> None:
        """Keep the record of a run."""
        with _as_output_error(self.job_path):
            self.fs.put(f"{self.job_path}/runs/{run_id}.json", record)


def _overlap(table: str, corpus: str) -> bool:
    """Whether the table lies in the corpus, which may be a glob, or the corpus in the table."""
    return any(
        all(a == b or fnmatchcase(a, b) for a, b in zip(_parts(table), _parts(pattern), strict=False))
        for pattern in alternatives(corpus)
    )


def _parts(path: str) -> list[str]:
    plain = local_path(path)
    return (path if plain is None else os.path.normpath(plain)).rstrip("/").split("/")


@contextlib.contextmanager
def _as_output_error(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{path} can't be written ({reason}): check the path, its permissions and the free space"
        ) from error
