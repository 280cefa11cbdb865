"""Building blocks for the settings of all jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from bigfive_udf.traits import LETTERS, TRAITS

# How loading.py resolves a relative path; a name on the model hub looks like a relative path but stays unchanged.
PATH: dict[str, Any] = {"path": "file system"}
PATH_OR_HUB: dict[str, Any] = {"path": "file system or hub"}
PATH_OR_NAME: dict[str, Any] = {"path": "file system, hub or a bare name"}
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of all settings: refuses unknown keys and converts no values."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, str_min_length=1)


V = TypeVar("V")


def by_trait(value: Mapping[str, V]) -> dict[str, V]:
    """The same map with traits' names as keys, where letters may stand for them.

    Raises:
        ValueError: a key is no trait, or a trait is given twice.
    """
    named = {LETTERS.get(key, key): found for key, found in value.items()}
    if twice := [key for key in value if LETTERS.get(key, key) != key and LETTERS.get(key) in value]:
        raise ValueError(f"{twice[0]} and {LETTERS[twice[0]]} are the same trait; give one of them")
    if unknown := sorted(set(named) - set(TRAITS)):
        raise ValueError(f"{unknown[0]!r} is no trait; the traits are {', '.join(TRAITS)}")
    return named
