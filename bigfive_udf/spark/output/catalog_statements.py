"""The statements for Spark's catalog, with every name and value quoted; `name` must be quoted already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bigfive_udf.spark.output.catalog_definition import COMMENT, PATH, Definition
from bigfive_udf.spark.storage import literal, quoted
from bigfive_udf.tables.partitions import Values
from bigfive_udf.tables.views import View
from bigfive_udf.traits import Field


def create_table(name: str, wanted: Definition, place: str) -> str:
    """An external table over the files at `place`, without any partition yet."""
    by = f"PARTITIONED BY ({', '.join(map(quoted, wanted.keys))}) " if wanted.keys else ""
    return (
        f"CREATE TABLE {name} ({_columns(wanted.columns)}) USING parquet {by}LOCATION {literal(place)} "
        f"COMMENT {literal(COMMENT)} TBLPROPERTIES ({_pairs({PATH: place})})"
    )


def create_view(name: str, view: View, properties: Mapping[str, str]) -> str:
    """A view that replaces any view of that name."""
    columns = ", ".join(f"{quoted(column)} COMMENT {literal(about)}" for column, about in view.columns)
    return f"CREATE OR REPLACE VIEW {name} ({columns}) TBLPROPERTIES ({_pairs(properties)}) AS {view.sql}"


def describe(name: str) -> str:
    """Returns rows with what the catalog knows of a table: its columns, then its location and format."""
    return f"DESCRIBE TABLE EXTENDED {name}"


def add_columns(name: str, columns: Iterable[Field]) -> str:
    return f"ALTER TABLE {name} ADD COLUMNS ({_columns(columns)})"


def comment_on(name: str, column: Field) -> str:
    return f"ALTER TABLE {name} ALTER COLUMN {quoted(column.name)} COMMENT {literal(column.comment)}"


def set_properties(name: str, properties: Mapping[str, str]) -> str:
    return f"ALTER TABLE {name} SET TBLPROPERTIES ({_pairs(properties)})"


def unset_properties(name: str, keys: Iterable[str]) -> str:
    return f"ALTER TABLE {name} UNSET TBLPROPERTIES IF EXISTS ({', '.join(map(literal, keys))})"


def add_partitions(name: str, keys: Sequence[str], some: Iterable[Values]) -> str:
    return f"ALTER TABLE {name} ADD IF NOT EXISTS {' '.join(_partition(keys, values) for values in some)}"


def drop_partitions(name: str, keys: Sequence[str], some: Iterable[Values]) -> str:
    return f"ALTER TABLE {name} DROP IF EXISTS {', '.join(_partition(keys, values) for values in some)}"


def _pairs(properties: Mapping[str, str]) -> str:
    return ", ".join(f"{literal(key)} = {literal(value)}" for key, value in properties.items())


def _columns(columns: Iterable[Field]) -> str:
    return ", ".join(f"{quoted(c.name)} {c.sql_type} COMMENT {literal(c.comment)}" for c in columns)


def _partition(keys: Sequence[str], values: Values) -> str:
    return f"PARTITION ({', '.join(f'{quoted(c)} = {literal(v)}' for c, v in zip(keys, values, strict=True))})"
