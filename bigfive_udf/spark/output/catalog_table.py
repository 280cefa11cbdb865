"""The table that people query: an external table of Spark's catalog over a Parquet score table, with its views.

The ledger says what the table has, and the catalog follows it. In every run, before anything is scored and after
every commit, the two are compared, and differences are added, dropped or defined anew. So if a run could not update the
catalog, the next one does. A catalog that can't be reached costs no scores: the run goes on, and ends with exit code 7.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import SparkSession

from bigfive_udf.errors import BigFiveError, OutputError, RefusedError, SettingsError
from bigfive_udf.redaction import first_line
from bigfive_udf.runs import Run
from bigfive_udf.settings.score import ScoreSettings
from bigfive_udf.spark.job.planning import Planned, Scoring
from bigfive_udf.spark.output.author_files import OF, forget_older, keep_in_files
from bigfive_udf.spark.output.catalog_definition import DIGEST, PATH, PREFIX, Definition, definition_of, shape_of
from bigfive_udf.spark.output.catalog_lookup import Listed, Names
from bigfive_udf.spark.output.catalog_statements import (
    add_columns,
    add_partitions,
    comment_on,
    create_table,
    create_view,
    drop_partitions,
    set_properties,
    unset_properties,
)
from bigfive_udf.spark.storage import as_uri, quoted
from bigfive_udf.tables.by_author import directory_of
from bigfive_udf.tables.ledger import Ledger
from bigfive_udf.tables.opening import OpenTable
from bigfive_udf.tables.partitions import Values
from bigfive_udf.tables.score_table import ScoreTable
from bigfive_udf.tables.views import View, twice_named, views_of

# Partitions per statement: one statement for each would take minutes for a table of thousands.
_AT_ONCE = 500
_DERBY = "Another instance of Derby may have already booted"


class NotInCatalog:
    """Stands for a score table that is not in Spark's catalog."""

    def catch_up(self) -> None: ...

    def finish(self) -> None: ...

    def about(self) -> dict[str, Any]:
        return {}

    def lines(self) -> list[str]:
        return []

    def require_up_to_date(self, failure: str) -> None: ...


@dataclass
class CatalogTable:
    """The table `name` in the database of `names`, and what is known of it."""

    names: Names
    name: str
    table: ScoreTable
    ledger: Ledger
    settings: ScoreSettings
    scoring: Scoring
    run: Run
    behind: str | None = None
    """why the catalog is not up to date; None if it is, as far as is known"""
    _listed: Listed | None = field(default=None, init=False)
    """what the catalog has; None until it was asked"""
    _views: Sequence[View] = field(default=(), init=False)

    @property
    def views(self) -> list[str]:
        """The names of the views that the table has."""
        return [self.names.full(view.name) for view in self._views]

    @property
    def full_name(self) -> str:
        return self.names.full(self.name)

    def check(self) -> None:
        """Refuse a name that this table can't have, before anything is scored.

        Raises:
            SettingsError: there is no such database, or a column has a name that can't be used.
            RefusedError: a table or view of that name is somebody else's.
        """
        if (twice := twice_named(self._wanted_views)) is not None:
            raise SettingsError(
                f"output.table {self.full_name}: its view {twice[0]} would have two columns {twice[1]}; rename that "
                "column of the corpus, or leave output.table out"
            )
        if (comma := next((c for c in self.settings.input.carried_columns if "," in c), None)) is not None:
            raise SettingsError(
                f"output.table {self.full_name}: Hive takes no comma in the name of a column, and {comma!r} has one; "
                "rename that column of the corpus, or leave output.table out"
            )
        try:
            self.names.require_database(self.name)
            self._look()
        except (SettingsError, RefusedError):
            raise
        except Exception as error:
            self._fall_behind(error)

    def catch_up(self, definition: bool = True) -> None:
        """Update the catalog to the ledger and, with `definition`, also to the settings and the model.

        It raises nothing: if the update fails, `behind` says why, and `finish` tries once more.
        """
        if self.behind is not None:
            return  # Hive retries for a while, and a run must not wait for it after every commit
        entries = self.ledger.committed
        try:
            listed = self._listed or self._look()
            if not entries and listed.properties is None:
                return
            if definition or listed.properties is None:
                artifact, had = self.scoring.artifact, listed.properties
                wanted = definition_of(self._uri, self.table.columns, entries.values(), self.settings, artifact, had)
                self._define(listed, wanted)
            if self.table.columns:
                self._follow(listed, {tuple(e.values[c] for c in self.table.columns) for e in entries.values()})
            self.names.ask(f"REFRESH TABLE {self._quoted}")
            self.behind = None
        except Exception as error:
            self._fall_behind(error)

    def finish(self) -> None:
        """Update the catalog a last time, and compute the view by author if it is to be kept in files."""
        self.behind = None
        self.catch_up()
        by_author = [v for v in self._views if v.name.endswith("_by_author")]
        if self.behind is not None:
            return
        entries = self.ledger.committed.values()
        state = f"{len(entries)} partitions, up to commit {max((e.sequence for e in entries), default=0)}"
        try:
            if not self.settings.output.author_files or not by_author:
                forget_older(self.table, keep=0)
                return
            (view,) = by_author
            if self.names.properties(view.name).get(OF) != state:
                about = {PATH: self._uri, OF: state}
                directory = directory_of(self.ledger.sequence, self.run.run_id)
                keep_in_files(self.names.ask, self.names.quoted(view.name), view, self.table, directory, about)
            # The replaced rows of this view are kept only as long as trash is, see tables/by_author.py.
            forget_older(self.table, keep=2)
        except Exception as error:
            self._fall_behind(error)

    def about(self) -> dict[str, Any]:
        """For the run record."""
        return {"catalog": {"table": self.full_name, "views": self.views, "behind": self.behind}}

    def lines(self) -> list[str]:
        """Lines for the user: the names that can be queried now."""
        return [f"  in SQL: {', '.join([self.full_name, *self.views])}"] if self.behind is None else []

    def require_up_to_date(self, failure: str) -> None:
        """Raise OutputError if the catalog is behind; `failure` is the run's other error message, or empty."""
        if self.behind is not None:
            raise OutputError(
                f"output.table {self.full_name} can't be brought up to date ({self.behind}); the scores are in "
                f"{self.table.path}, none is lost, and the next run catches up{'; ' if failure else ''}{failure}"
            )

    @property
    def _uri(self) -> str:
        return as_uri(self.table.fs, self.table.path)

    @property
    def _quoted(self) -> str:
        return self.names.quoted(self.name)

    @property
    def _wanted_views(self) -> Sequence[View]:
        return views_of(shape_of(self.settings, self.table.columns), quoted)

    def _look(self) -> Listed:
        wanted = [view.name for view in self._wanted_views]
        self._listed = self.names.listed(self.name, self._uri, bool(self.table.columns), wanted)
        return self._listed

    def _define(self, listed: Listed, wanted: Definition) -> None:
        """Create or change the table and its views as `wanted`."""
        self._views = wanted.views
        there = listed.properties is not None and listed.properties.get(DIGEST) == wanted.digest
        names = {view.name for view in wanted.views}
        if there and listed.views == names:
            return
        if listed.properties is None or not self._altered(wanted):
            self._make(listed, wanted)
        for view in wanted.views:
            self.names.ask(create_view(self.names.quoted(view.name), view, {PATH: self._uri}))
            listed.views.add(view.name)
        for name in listed.views - names:
            self.names.ask(f"DROP VIEW IF EXISTS {self.names.quoted(name)}")
        listed.views &= names
        # This comes last, so that an interrupted definition is begun anew.
        self._set_properties(listed, {**wanted.properties, DIGEST: wanted.digest})

    def _make(self, listed: Listed, wanted: Definition) -> None:
        """Create the table, and first drop an existing one whose columns can't be altered. No file is touched."""
        if listed.properties is not None:
            self.names.ask(f"DROP TABLE {self._quoted}")
            listed.properties = None
        self.names.ask(create_table(self._quoted, wanted, self._uri))
        listed.properties, listed.partitions = {PATH: self._uri}, set()

    def _altered(self, wanted: Definition) -> bool:
        """Add columns and change comments by ALTER TABLE; False if that can't produce the wanted columns."""
        there = {f.name: f for f in self.names.spark.table(self.full_name).schema.fields}
        names = [c.name for c in wanted.columns]
        new = [c for c in wanted.columns if c.name not in there]
        if not there.keys() <= set(names) or any(key not in there for key in wanted.keys):
            return False
        if any(there[c.name].dataType.simpleString() != c.sql_type for c in wanted.columns if c.name in there):
            return False
        others = [c for c in wanted.columns if c not in new and _comment(there[c.name]) != c.comment]
        if any(not c.name.isidentifier() or c.name in wanted.keys for c in others):
            return False  # Spark can't comment on these
        if new:
            self.names.ask(add_columns(self._quoted, new))
        for column in others:
            self.names.ask(comment_on(self._quoted, column))
        return True

    def _set_properties(self, listed: Listed, wanted: dict[str, str]) -> None:
        gone = [key for key in listed.properties or () if key.startswith(PREFIX) and key not in wanted]
        if gone:
            self.names.ask(unset_properties(self._quoted, gone))
        self.names.ask(set_properties(self._quoted, wanted))
        listed.properties = wanted

    def _follow(self, listed: Listed, wanted: set[Values]) -> None:
        """Add and drop partitions, many in one statement."""
        changes = (add_partitions, wanted - listed.partitions), (drop_partitions, listed.partitions - wanted)
        for change, some in changes:
            rest = sorted(some, key=str)
            for at in range(0, len(rest), _AT_ONCE):
                self.names.ask(change(self._quoted, self.table.columns, rest[at : at + _AT_ONCE]))
        listed.partitions = wanted

    def _fall_behind(self, error: Exception) -> None:
        self._listed = None  # so that the next attempt looks again
        self.behind = _reason(error)
        with contextlib.suppress(BigFiveError):  # the run must report its commits, whatever else goes wrong
            self.run.log("catalog is behind", table=self.full_name, reason=self.behind)


def catalog_table(
    spark: SparkSession, settings: ScoreSettings, work: Planned, opened: OpenTable, run: Run
) -> CatalogTable | NotInCatalog:
    """The table that output.table names, checked and updated to the commits of earlier runs.

    Raises:
        SettingsError: the name can't be used, or this session keeps no tables.
        RefusedError: a table or view of that name is somebody else's.
    """
    name = settings.output.catalog_name
    if name is None:
        return NotInCatalog()
    if spark.conf.get("spark.sql.catalogImplementation") != "hive":
        raise SettingsError(
            f"output.table {settings.output.table}: this session's catalog (spark.sql.catalogImplementation) is "
            "in-memory and forgets every table; set it to hive, or leave output.table out"
        )
    found = CatalogTable(Names(spark, name[0]), name[1], work.table, opened.ledger, settings, work.scoring, run)
    found.check()
    _refuse_two_types(found.full_name, work)
    if found.behind is None:
        # The catalog already tells the labels and models of the partitions that are about to be replaced.
        found.catch_up(definition=False)
    return found


def _refuse_two_types(name: str, work: Planned) -> None:
    """Refuse a table whose partitions would have a column in different types: Spark reads only one type."""
    leaving = {task.name for task in work.plan.score} | {entry.partition for entry in work.plan.remove}
    had: dict[str, tuple[str, str]] = {}
    if work.readable is not None and work.rows:
        had = {column: (kind, "what is to be scored") for column, kind in work.readable.columns.items()}
    for entry in (e for e in work.entries.values() if e.partition not in leaving):
        for column, kind in entry.columns.items():
            other, where = had.setdefault(column, (kind, entry.partition))
            if other != kind:
                raise RefusedError(
                    f"output.table {name}: column {column} is {kind} in {entry.partition} and {other} in {where}, and "
                    "a table has one type for a column: score the older partitions again (on_schema_change=rescore), "
                    "or leave output.table out"
                )


def _reason(error: Exception) -> str:
    """The message for a failure of the catalog: the error's first line, or the cause if it is known."""
    trace = " ".join(str(part) for part in (error, getattr(error, "_stackTrace", ""), error.__cause__))
    if _DERBY in trace:
        return (
            "another process holds the embedded metastore, Derby, which takes one at a time: close it, or configure a "
            "metastore that is shared"
        )
    return f"{type(error).__name__}: {first_line(str(error), 300)}"


def _comment(column: Any) -> str:
    return str(column.metadata.get("comment", ""))
