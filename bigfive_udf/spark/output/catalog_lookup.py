"""What Spark's catalog has under the names of a score table and its views, and whether it belongs to that table."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import SparkSession

from bigfive_udf.errors import RefusedError, SettingsError
from bigfive_udf.spark.output.catalog_definition import PATH
from bigfive_udf.spark.storage import quoted
from bigfive_udf.tables.filesystem import local_path
from bigfive_udf.tables.partitions import Values, partition_values
from bigfive_udf.tables.views import view_names


@dataclass
class Listed:
    """The table as the catalog has it."""

    properties: dict[str, str] | None = None
    """None where there is no such table"""
    partitions: set[Values] = field(default_factory=set)
    views: set[str] = field(default_factory=set)
    """the table's views that are in the catalog, wanted or not"""


@dataclass(frozen=True)
class Names:
    """Tables and views of one database, found by name; None stands for the session's current database."""

    spark: SparkSession
    database: str | None

    def full(self, name: str) -> str:
        return f"{self.database}.{name}" if self.database else name

    def quoted(self, name: str) -> str:
        return f"{quoted(self.database)}.{quoted(name)}" if self.database else quoted(name)

    def ask(self, statement: str) -> Any:
        return self.spark.sql(statement)

    def exists(self, name: str) -> bool:
        return self.spark.catalog.tableExists(self.full(name))

    def properties(self, name: str) -> dict[str, str]:
        """The properties of a table or a view."""
        return {row[0]: row[1] for row in self.ask(f"SHOW TBLPROPERTIES {self.quoted(name)}").collect()}

    def require_database(self, table: str) -> None:
        """Raise SettingsError where there is no such database for `table`."""
        if self.database is not None and not self.spark.catalog.databaseExists(self.database):
            raise SettingsError(
                f"output.table {self.full(table)}: the catalog has no database {self.database}; make it with "
                f"CREATE DATABASE {self.database}"
            )

    def listed(self, table: str, place: str, partitioned: bool, views: Collection[str]) -> Listed:
        """What the catalog has of the table at `place`, which is to have `views`.

        Raises:
            RefusedError: a table or view of one of these names is somebody else's.
        """
        found = Listed()
        if self.exists(table):
            self._require_ours(table, place)
            found.properties = self.properties(table)
            if partitioned:
                rows = self.ask(f"SHOW PARTITIONS {self.quoted(table)}").collect()
                found.partitions = {partition_values(row[0]) for row in rows}
        for name in view_names(table):
            if not self.exists(name):
                continue
            if self.properties(name).get(PATH) != place:
                if name not in views:
                    continue
                raise RefusedError(
                    f"output.table {self.full(table)} needs the name {self.full(name)} for a view, and something else "
                    "has it: choose another name, or drop what has this one"
                )
            found.views.add(name)
        return found

    def _require_ours(self, table: str, place: str) -> None:
        rows = [tuple(row) for row in self.ask(f"DESCRIBE FORMATTED {self.quoted(table)}").collect()]
        start = next((i for i, row in enumerate(rows) if row[0].startswith("# Detailed")), len(rows))
        told = {row[0]: row[1] for row in rows[start:]}  # a column may be called Location too
        kind, there = told.get("Type"), told.get("Location", "no place of its own")
        # To drop a table that is not external would remove its files.
        if kind != "EXTERNAL" or _normal(there) != _normal(place):
            raise RefusedError(
                f"output.table {self.full(table)} is a {'view' if kind == 'VIEW' else 'table'} at {there}, not this "
                f"table at {place}: choose another name, or drop what has this one"
            )


def _normal(location: str) -> str:
    return (local_path(location) or location).rstrip("/")
