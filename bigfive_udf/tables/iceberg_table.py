"""A score table as an Iceberg table: Spark writes the files, pyiceberg commits them, readers see whole snapshots.

<output>/data/<commit>/…/part-….parquet     the rows of a step, written at once where they will stay
<output>/metadata/                          the files that describe the table and its snapshots
<output>.job/catalog.db                     the SQLite catalog, where output.catalog names no other
<output>.job/staging/<commit>               marks a step that is not committed yet
<output>.job/unswept                        marks that the table may hold files that no snapshot has

Readers open it as load_catalog("bigfive", **output.catalog).load_table(output.table).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from bigfive_udf.errors import OutputError, RefusedError, SettingsError
from bigfive_udf.settings.secrets import without_secrets
from bigfive_udf.tables.commit import Commit
from bigfive_udf.tables.failures import as_output_error
from bigfive_udf.tables.filesystem import FileInfo, FileSystem, local_path
from bigfive_udf.tables.ledger import COMMITTED, Entry
from bigfive_udf.tables.partitions import is_hidden, relative_path

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyiceberg.catalog import Catalog
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table, Transaction
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot

CATALOG = "bigfive"
"""The catalog's name in pyiceberg; SQL catalogs keep tables apart by it."""
COMMIT = "bigfive.commit"
"""The snapshot property that names the run and step which wrote the snapshot."""

_PROPERTIES = {
    "format-version": "2",
    # Needed for merge_append to merge manifests.
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "2",
    # We handle conflicts ourselves: pyiceberg would append files again that another run has just committed.
    "commit.retry.num-retries": "0",
    # We delete old metadata ourselves: `_sweep` knows how long readers may hold on to an old state.
    "write.metadata.delete-after-commit.enabled": "false",
}
_FILES_AT_ONCE = 8
# A reader opens all manifests: from this number on, an append merges them into a few large ones.
_MOST_MANIFESTS = 100
# Whose exceptions mean that the catalog, or its server, has failed.
_CATALOG_MODULES = {"sqlalchemy", "requests", "urllib3", "botocore", "google", "thrift", "pyiceberg"}
_WRONG_SETTINGS = {"NoSuchPropertyException", "NotInstalledError", "ArgumentError", "NoSuchModuleError"}


@dataclass(frozen=True)
class IcebergTable:
    """The table at `path`, on the file system `fs`, known as `identifier` (namespace.table) in a catalog.

    `catalog` holds the properties of any pyiceberg catalog; without any, SQLite beside the table is the catalog.
    `columns` are the partition columns; the files contain them, and their values divide the table.
    """

    fs: FileSystem
    path: str
    catalog: Mapping[str, str]
    identifier: str
    columns: tuple[str, ...]
    kind = "iceberg"
    keeps_keys_in_files = True

    @property
    def job_path(self) -> str:
        return self.path.rstrip("/") + ".job"

    @property
    def _root(self) -> str:
        return self.path.rstrip("/")

    @property
    def _location(self) -> str:
        return self._root if local_path(self._root) is None else f"file://{self._root}"

    @property
    def _unswept(self) -> str:
        return f"{self.job_path}/unswept"

    def staging(self, commit: str) -> str:
        self._properties()  # reports wrong properties before anything is scored
        with as_output_error(self.job_path):
            self.fs.put(f"{self.job_path}/staging/{commit}", "")
        return f"{self._root}/data/{commit}"

    def abandon(self, commit: str) -> None:
        directory = f"{self._root}/data/{commit}"
        with as_output_error(directory):
            if self.fs.exists(directory):
                # A run that died at the very end of a commit leaves this mark: its rows are in the table and stay.
                with self._table() as table:
                    self._keep_only(directory, self._live(table, table.snapshots()) if table else ())
            self.fs.delete(f"{self.job_path}/staging/{commit}")

    def unfinished(self) -> list[str]:
        with as_output_error(self.job_path):
            return self.fs.names(f"{self.job_path}/staging")

    def table_files(self, commit: str, name: str, staged: Sequence[FileInfo]) -> tuple[tuple[str, int], ...]:
        return tuple((relative_path(f.path, self._root), f.size) for f in staged)

    def paths(self, entry: Entry) -> list[str]:
        return [f"{self._root}/{name}" for name, _ in entry.files]

    def publish(self, commit: Commit, previous: Mapping[str, Entry]) -> None:
        with self._catalog() as catalog:
            from pyiceberg.exceptions import CommitFailedException, TableAlreadyExistsError, ValidationException

            conflict = (CommitFailedException, TableAlreadyExistsError, ValidationException)
            unswept = self.fs.exists(self._unswept)
            try:
                unswept |= self._commit(catalog, commit, previous)
            except conflict:
                unswept = True
                try:
                    self._commit(catalog, commit, previous)
                except conflict as error:
                    raise OutputError(
                        f"{self.identifier} in output.catalog was changed by others during the commit "
                        f"({self._reason(error)}): let only this job write it, and run again"
                    ) from error
            if unswept and (table := self._load(catalog)):
                self._sweep(table, None)
            self.fs.delete(self._unswept)

    def _commit(self, catalog: Catalog, commit: Commit, previous: Mapping[str, Entry]) -> bool:
        """Replace the files of the partitions' previous entries by the new ones in one snapshot; safe to repeat.

        Returns whether this leaves files in the table that no snapshot has.
        """
        from pyiceberg.io import load_file_io

        table = self._load(catalog)
        added = {name: (e, size) for e in commit.entries if e.state == COMMITTED for name, size in e.files}
        known = (previous[e.partition] for e in commit.entries if e.partition in previous)
        replaced = {name for e in known for name, _ in e.files} - added.keys()
        live: dict[str, DataFile] = {}
        if table:
            # Most steps only add files and were never committed before: then there is nothing to look up.
            commits = {s.summary.get(COMMIT) for s in table.snapshots() if s.summary}
            live = self._live(table, [table.current_snapshot()]) if replaced or commit.commit in commits else {}
        gone = [live[name] for name in sorted(replaced) if name in live]
        new = {name: added[name] for name in added if name not in live}
        if not gone and not new:
            return False
        current = table.current_snapshot() if table else None
        crowded = bool(table and current and not gone and len(current.manifests(table.io)) >= _MOST_MANIFESTS)
        self.fs.put(self._unswept, commit.commit)
        footers = self._footers(table.io if table else load_file_io(catalog.properties, self._location), new)
        with self._transaction(catalog, table, [f.schema.to_arrow_schema() for f in footers.values()]) as transaction:
            metadata = transaction.table_metadata
            snapshot = transaction.update_snapshot(snapshot_properties={COMMIT: commit.commit})
            change = snapshot.overwrite if gone else snapshot.merge_append if crowded else snapshot.fast_append
            with change() as files:
                for file in gone:
                    files.delete_data_file(file)
                for file in self._data_files(metadata, new, footers):
                    files.append_data_file(file)
        return crowded  # pyiceberg leaves behind the new files' manifest that it has merged with the others

    def _footers(self, io: FileIO, new: Mapping[str, tuple[Entry, int]]) -> dict[str, pq.FileMetaData]:
        import pyarrow.parquet as pq

        def footer(name: str) -> pq.FileMetaData:
            file = io.new_input(f"{self._location}/{name}")
            try:
                whole = len(file) == new[name][1]
            except FileNotFoundError:
                whole = False
            if not whole:
                raise OutputError(
                    f"{self._root}/{name} is not what was to be committed: move {self.job_path}/commit.json away, and "
                    "run again"
                )
            with file.open() as stream:
                return pq.read_metadata(stream)

        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            return dict(zip(new, pool.map(footer, new), strict=True))

    def _transaction(self, catalog: Catalog, table: Table | None, schemas: Sequence[pa.Schema]) -> Transaction:
        """A transaction on the table that, where the new files need it, creates the table or adds columns."""
        import pyarrow as pa
        from pyiceberg.exceptions import ResolveError, ValidationError

        # Any column may be null: a later file may lack it.
        schema = pa.schema([f.with_nullable(True) for f in pa.unify_schemas(schemas)]) if schemas else None
        if table is None:
            catalog.create_namespace_if_not_exists(self.identifier.rpartition(".")[0])
            created = catalog.create_table_transaction(
                self.identifier, schema, location=self._location, properties=_PROPERTIES
            )
            if self.columns:
                with created.update_spec() as spec:
                    for column in self.columns:
                        spec.add_identity(column)
            # Spark's files have no field ids, their columns are found by name.
            names = created.table_metadata.schema().name_mapping.model_dump_json()
            created.set_properties({"schema.name-mapping.default": names})
            return created
        transaction = table.transaction()
        if schema is not None and not _holds(table, schema):
            try:
                with transaction.update_schema() as update:
                    update.union_by_name(schema)
            except (ResolveError, ValidationError, ValueError) as error:
                raise OutputError(
                    f"{self.identifier} can't take the new rows ({self._reason(error)}): a column keeps its type; move "
                    f"{self.job_path}/commit.json away, and choose another output.path or other kept columns"
                ) from error
        return transaction

    def _data_files(
        self, metadata: TableMetadata, new: Mapping[str, tuple[Entry, int]], footers: Mapping[str, pq.FileMetaData]
    ) -> Iterator[DataFile]:
        from pyiceberg.io.pyarrow import (
            compute_statistics_plan,
            data_file_statistics_from_parquet_metadata,
            match_metrics_mode,
            parquet_path_to_id_mapping,
        )
        from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
        from pyiceberg.partitioning import PartitionSpec
        from pyiceberg.typedef import Record
        from pyiceberg.types import StringType

        schema, spec = metadata.schema(), metadata.spec()
        carried = {column for entry, _ in new.values() for column in entry.columns}
        plan, ids = compute_statistics_plan(schema, metadata.properties), parquet_path_to_id_mapping(schema)
        # No minimum and maximum of authors and ids: a snapshot keeps those of the files that it has replaced, and so
        # would still name an author who is erased from the rows.
        plan = {
            i: replace(c, mode=match_metrics_mode("counts")) if c.column_name in carried else c for i, c in plan.items()
        }
        for name, (entry, size) in new.items():
            statistics = data_file_statistics_from_parquet_metadata(footers[name], plan, ids)
            # Strings come from our entry: for a long one the file keeps no statistics, and pyiceberg would take it for
            # null. Values of other types are exact in the statistics, and have their type there.
            values = [
                entry.values[f.name]
                if isinstance(schema.find_type(f.source_id), StringType)
                else statistics.partition(PartitionSpec(f), schema)[0]
                for f in spec.fields
            ]
            yield DataFile.from_args(
                content=DataFileContent.DATA,
                file_path=f"{self._location}/{name}",
                file_format=FileFormat.PARQUET,
                partition=Record(*values),
                file_size_in_bytes=size,
                sort_order_id=None,
                spec_id=spec.spec_id,
                equality_ids=None,
                key_metadata=None,
                **statistics.to_serialized_dict(),
            )

    def discard(self, commit: Commit) -> None:
        directory = f"{self._root}/data/{commit.commit}"
        with as_output_error(directory):
            self._keep_only(directory, {name for e in commit.entries for name, _ in e.files})
            self.fs.delete(f"{self.job_path}/staging/{commit.commit}")

    def damaged(self, entries: Mapping[str, Entry], announced: Sequence[Entry] = ()) -> frozenset[str]:
        with self._table() as table:
            committed = self._live(table, [table.current_snapshot()]) if table else {}
            data = f"{self._root}/data"
            files = self.fs.files(data) if self.fs.exists(data) else ()
            stored = {relative_path(f.path, self._root): f.size for f in files}
        expected = {file: name for name, e in entries.items() for file in e.files}
        under_way = {e.partition for e in announced}
        coming = {name for e in announced for name, _ in e.files}
        if foreign := committed.keys() - {name for name, _ in expected} - coming:
            raise OutputError(
                f"{self._root}/{min(foreign)} was committed by no run of this job: delete its rows from "
                f"{self.identifier}, a table holds nothing else"
            )
        return frozenset(
            partition
            for (name, size), partition in expected.items()
            if stored.get(name) != size or name not in committed or committed[name].file_size_in_bytes != size
        ) - frozenset(under_way)

    def clean(self, before: datetime, commits: Mapping[str, datetime] | None = None) -> None:
        """Expire the snapshots that were replaced before that time, and delete files that only they have.

        Readers of a snapshot that was current at that time, or later, lose nothing. `commits` is not needed, because
        snapshots have their own times.
        """
        with self._table() as table:
            if table is None:
                return
            snapshots = sorted((s.timestamp_ms, s.snapshot_id) for s in table.snapshots())
            old = _replaced([ms for ms, _ in snapshots], before)
            # Never expire what a branch or tag points to: the current snapshot, or one that somebody wants to keep.
            if {i for _, i in snapshots[:old]} - {ref.snapshot_id for ref in table.refs().values()}:
                self.fs.put(self._unswept, "")
                recent = datetime.fromtimestamp(snapshots[old][0] / 1000, timezone.utc)
                table.maintenance.expire_snapshots().older_than(recent).commit()
            elif not self.fs.exists(self._unswept):
                return
            self._sweep(table, before)
            self.fs.delete(self._unswept)

    def _sweep(self, table: Table, before: datetime | None) -> None:
        """Delete every file below the table that belongs neither to a snapshot nor to a step under way.

        Metadata files that were replaced before that time go too. Later ones stay: a reader that has just got the
        location of one from the catalog may be about to read it.
        """
        metadata, snapshots = table.metadata, table.snapshots()
        versions = [(entry.metadata_file, entry.timestamp_ms) for entry in metadata.metadata_log]
        versions.append((table.metadata_location, metadata.last_updated_ms))
        manifests = (m for s in snapshots for m in s.manifests(table.io))
        old = _replaced([ms for _, ms in versions], before) if before else 0
        needed = {file for file, _ in versions[old:]}
        needed |= {s.manifest_list for s in snapshots} | {m.manifest_path for m in manifests}
        needed |= {s.statistics_path for s in (*metadata.statistics, *metadata.partition_statistics)}
        self._keep_only(f"{self._root}/metadata", {self._name(uri) for uri in needed})
        under_way = {f"data/{commit}" for commit in self.unfinished()}
        self._keep_only(f"{self._root}/data", self._live(table, snapshots).keys() | under_way)

    def _keep_only(self, directory: str, names: Collection[str]) -> None:
        """Delete all in `directory` except these files and directories, named relative to the table's root."""
        if not self.fs.exists(directory):
            return
        kept = {f"{self._root}/{name}" for name in names}
        above = {path[:i] for path in kept for i, c in enumerate(path) if c == "/"}
        if directory not in above:
            self.fs.delete(directory)
            return
        dead = {f"{directory}/{name}" for name in self.fs.names(directory) if is_hidden(name)}
        for file in self.fs.files(directory):
            path = file.path
            if path in kept or any(a in kept for a in _parents(path, directory)):
                continue
            # A directory of which nothing is kept goes as a whole: fewer requests, and no empty one stays behind.
            dead.add(next((a for a in _parents(path, directory) if a not in above), path))
        for path in sorted(dead):
            self.fs.delete(path)

    def _live(self, table: Table, snapshots: Iterable[Snapshot | None]) -> dict[str, DataFile]:
        """The data files of the snapshots, by their name relative to the table."""
        manifests = {m.manifest_path: m for s in snapshots if s for m in s.manifests(table.io)}
        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            read = pool.map(lambda m: m.fetch_manifest_entry(table.io, discard_deleted=True), manifests.values())
            return {self._name(e.data_file.file_path): e.data_file for entries in read for e in entries}

    def _name(self, uri: str) -> str:
        return relative_path(local_path(uri) or uri, self._root)

    def _load(self, catalog: Catalog) -> Table | None:
        from pyiceberg.exceptions import NoSuchTableError

        try:
            table = catalog.load_table(self.identifier)
        except NoSuchTableError:
            return None
        if (local_path(table.location()) or table.location().rstrip("/")) != self._root:
            raise SettingsError(
                f"output.table {self.identifier} of output.catalog lies in {table.location()}, output.path is "
                f"{self.path}: choose another output.table, or set output.path to it"
            )
        columns = [f.name for f in table.spec().fields]
        if columns != list(self.columns):
            raise RefusedError(
                f"output.table {self.identifier} is partitioned by {', '.join(columns) or 'nothing'}, the corpus by "
                f"{', '.join(self.columns) or 'nothing'}: choose another output.path and output.table"
            )
        return table

    @contextmanager
    def _table(self) -> Iterator[Table | None]:
        """The table, or None where there is none yet; looking for it writes nothing."""
        self._properties()
        if not self.catalog and not self.fs.exists(f"{self.job_path}/catalog.db"):
            with as_output_error(self.path):
                yield None
            return
        with self._catalog() as catalog:
            yield self._load(catalog)

    @contextmanager
    def _catalog(self) -> Iterator[Catalog]:
        """The catalog, connected anew each time: hours may pass between two commits."""
        properties = self._properties()
        from pyiceberg.catalog import load_catalog

        with as_output_error(self.path):
            if not self.catalog:
                self.fs.make_directory(self.job_path)
            try:
                catalog = load_catalog(CATALOG, **properties)
            except Exception as error:
                wrong = isinstance(error, (ValueError, ImportError)) or type(error).__name__ in _WRONG_SETTINGS
                raise (SettingsError if wrong else OutputError)(self._unusable(error)) from error
            try:
                yield catalog
            except Exception as error:
                if type(error).__module__.partition(".")[0] in _CATALOG_MODULES:
                    raise OutputError(self._unusable(error)) from error
                raise
            finally:
                catalog.close()

    def _properties(self) -> dict[str, str]:
        try:
            import pyiceberg.catalog  # noqa: F401
            from sqlalchemy import URL
        except ImportError:
            raise SettingsError(
                "output.format iceberg needs pyiceberg, which is not installed: pip install 'bigfive-udf[iceberg]'"
            ) from None
        if local_path(self.path) is None and not self.catalog:
            raise SettingsError(
                f"output.catalog is empty, and output.path {self.path} is not a local directory, where SQLite could be "
                "the catalog: set it to the properties of a pyiceberg catalog"
            )
        if set("?#") & set(self.path):
            raise SettingsError(f"output.path {self.path} holds ? or #, which no URI may: choose another output.path")
        if self.catalog:
            return dict(self.catalog)
        # Many readers on a slow disk may keep a commit waiting for longer than SQLite's 5 seconds.
        uri = URL.create("sqlite", database=f"{self.job_path}/catalog.db", query={"timeout": "60"})
        return {"type": "sql", "uri": uri.render_as_string(), "warehouse": self._location}

    def _unusable(self, error: Exception) -> str:
        which = "output.catalog" if self.catalog else f"output.catalog, which is {self.job_path}/catalog.db,"
        return f"{which} can't be used ({self._reason(error)}): check its settings, and that its server can be reached"

    def _reason(self, error: Exception) -> str:
        """The first line of an error, without the catalog's secrets."""
        return without_secrets(next(iter(str(error).strip().splitlines()), type(error).__name__), self.catalog)


def _holds(table: Table, schema: pa.Schema) -> bool:
    """Whether the table has these columns: a cheap check; a change makes pyiceberg copy all metadata many times."""
    from pyiceberg.io.pyarrow import pyarrow_to_schema

    try:
        fields = pyarrow_to_schema(schema, table.name_mapping()).fields
    except ValueError:  # a column that the table does not know
        return False
    return all(field in table.schema().fields for field in fields)


def _parents(path: str, directory: str) -> list[str]:
    """The directories above `path` and below `directory`, outermost first."""
    return [path[:i] for i, c in enumerate(path) if c == "/" and i > len(directory)]


def _replaced(moments: Sequence[int], before: datetime) -> int:
    """How many states were replaced before that time; `moments`, in order, are the ms at which each became current."""
    return sum(ms < before.timestamp() * 1000 for ms in moments[1:])
