"""What the settings of all jobs are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

# A relative path is resolved against the folder of its file; a name on the model hub looks like one and is left alone.
PATH: dict[str, Any] = {"path": "file system"}
PATH_OR_HUB: dict[str, Any] = {"path": "file system or hub"}
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Settings that know every key they have and change nothing that they are given."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, str_min_length=1)
