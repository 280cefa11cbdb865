"""What the settings of all jobs are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from bigfive_udf.traits import LETTERS, TRAITS

# A relative path is resolved against the folder of its file; a name on the model hub looks like one and is left alone.
PATH: dict[str, Any] = {"path": "file system"}
PATH_OR_HUB: dict[str, Any] = {"path": "file system or hub"}
PATH_OR_NAME: dict[str, Any] = {"path": "file system, hub or a bare name"}
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Settings that know every key they have and change nothing that they are given."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, str_min_length=1)


V = TypeVar("V")


def by_trait(value: Mapping[str, V]) -> dict[str, V]:
    """A map from traits, or their letters, with the traits' names as keys.

    Raises:
        ValueError: a key is no trait, or a trait is there twice.
    """
    named = {LETTERS.get(key, key): found for key, found in value.items()}
    if twice := [key for key in value if LETTERS.get(key, key) != key and LETTERS.get(key) in value]:
        raise ValueError(f"{twice[0]} and {LETTERS[twice[0]]} are the same trait; give one of them")
    if unknown := sorted(set(named) - set(TRAITS)):
        raise ValueError(f"{unknown[0]!r} is no trait; the traits are {', '.join(TRAITS)}")
    return named
