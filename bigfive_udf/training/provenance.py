"""How an artifact came about and on whom, as it tells itself: training.json and split.parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bigfive_udf.errors import ArtifactError
from bigfive_udf.training.data import LabelledTexts
from bigfive_udf.training.plan import Plan

SPLIT = "split.parquet"
TRAINING = "training.json"


def read_training(directory: Path) -> dict[str, Any] | None:
    """Settings, cuts, calibration and epochs of the training; None where the model does not tell.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = directory / TRAINING
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} can't be read ({type(error).__name__}): copy the artifact again") from error


def split_table(found: LabelledTexts, test: LabelledTexts | None, plan: Plan) -> pd.DataFrame:
    """Who was on which side: digests of text and author, and the part, a row per text."""
    parts = [_rows(found, plan.names)]
    if test is not None:
        parts.append(_rows(test, np.full(len(test), "test")))
    return pd.concat(parts, ignore_index=True)


def _rows(part: LabelledTexts, names: np.ndarray) -> pd.DataFrame:
    authors = part.author_digests
    return pd.DataFrame(
        {"text": part.text_digests, "author": [None] * len(part) if authors is None else authors, "part": names}
    ).astype({"author": "string", "part": "category"})


def read_split(directory: Path) -> tuple[set[str], set[str]] | None:
    """Digests of the texts and of the authors that an artifact was trained, stopped or calibrated on; None where it
    does not say.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = directory / SPLIT
    if not path.is_file():
        return None
    try:
        seen = pd.read_parquet(path)
        seen = seen[seen["part"] != "test"]
        return set(seen["text"]), set(seen["author"].dropna())
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{path} can't be read ({type(error).__name__}): copy the artifact again") from error
