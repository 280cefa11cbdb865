"""The columns that a run carries from the corpus into the table, and their types."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql.types import StructType

from bigfive_udf.errors import InputError
from bigfive_udf.redaction import column_names
from bigfive_udf.settings.score import InputSettings

_WITH_PSEUDONYMS = r"(string|(var)?char\(|(tiny|small|big)?int$)"


@dataclass(frozen=True)
class TableColumns:
    """The carried columns that the table of scores has by now, and whether the corpus must have their types."""

    types: Mapping[str, str] | None = None
    """Spark types by name; None where no partition that stays has these columns, or where types don't matter"""
    strict: bool = False
    """the corpus must have these types; else the table may have partitions of several types"""

    def other_type(self, carried: Mapping[str, str]) -> str | None:
        """What follows "<files> have" where `carried` columns have other types than in the table; else None."""
        if self.types is None or list(self.types) != list(carried):
            return None
        for name, kind in carried.items():
            if kind != self.types[name]:
                return (
                    f"column {name} as {kind}, the table has it as {self.types[name]}: write it in that type, or set "
                    "on_schema_change to only_new"
                )
        return None


def carried_types(settings: InputSettings, schema: StructType) -> dict[str, str]:
    """The carried columns and their Spark types in the table; pseudonyms are strings.

    Raises:
        InputError: a column is not there, or has a type that can't be pseudonymised.
    """
    for column in (*settings.carried_columns, settings.text_column):
        if column not in schema.names:
            raise InputError(f"{settings.source} has no column {column}; its columns are {column_names(schema.names)}")
    types = {c: schema[c].dataType.simpleString() for c in settings.carried_columns}
    for column in settings.pseudonymised_columns:
        if not re.match(_WITH_PSEUDONYMS, types[column]):
            raise InputError(
                f"{settings.source} has column {column} as {types[column]}: pseudonyms are made of strings and whole "
                "numbers only; write it as one of them, or leave it out of input.pseudonymise"
            )
        types[column] = "string"
    return types
