"""What an artifact records about its training and its training authors: training.json and split.parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bigfive_udf.errors import ArtifactError, InputError
from bigfive_udf.training.data import LabelledTexts
from bigfive_udf.training.plan import HoldoutPlan

SPLIT = "split.parquet"
TRAINING = "training.json"


def read_training(directory: Path) -> dict[str, Any] | None:
    """Settings, cuts, calibration and epochs of the training; None where the model has no training.json.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = directory / TRAINING
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"{path} can't be read ({type(error).__name__}): copy the artifact again") from error


def split_table(labelled: LabelledTexts, test: LabelledTexts | None, plan: HoldoutPlan, base: str) -> pd.DataFrame:
    """The split, one row per text: digests of text and author, and the part.

    Rows that the base was trained on, according to its own split table, are in part `base`: the model has seen them
    too.
    """
    parts = [_rows(labelled, plan.names)]
    if test is not None:
        parts.append(_rows(test, np.full(len(test), "test")))
    before = _seen_rows(Path(base))
    if before is not None:
        parts.append(before.assign(part="base"))
    return pd.concat(parts, ignore_index=True).astype({"author": "string", "part": "category"})


def _rows(part: LabelledTexts, names: np.ndarray) -> pd.DataFrame:
    authors = part.author_digests
    return pd.DataFrame(
        {"text": part.text_digests, "author": [None] * len(part) if authors is None else authors, "part": names}
    )


def refuse_seen(base: str, setting: str, *tables: LabelledTexts | None) -> None:
    """Refuse a base that was itself trained on these texts or on their authors: nothing would be held out from it.

    Raises:
        InputError: naming what it has seen, and the cure.
    """
    seen = read_split(Path(base))
    for table in tables:
        if seen is None or table is None:
            continue
        texts, authors = set(table.text_digests.tolist()) & seen[0], set[str]()
        if table.author_digests is not None and seen[1] is not None:
            authors = set(table.author_digests.tolist()) & seen[1]
        if texts or authors:
            raise InputError(
                f"{setting} {base} was trained on {len(texts):,} of the texts and {len(authors):,} of the authors of "
                "the labelled table, and figures would flatter: start from the base that it was made of"
            )


def read_split(directory: Path) -> tuple[set[str], set[str] | None] | None:
    """Digests of the texts and of the authors that an artifact was trained, stopped or calibrated on.

    None where the artifact has no split table; the authors are None where its table had none.

    Raises:
        ArtifactError: the file is damaged.
    """
    seen = _seen_rows(directory)
    if seen is None:
        return None
    return set(seen["text"]), set(seen["author"].dropna()) or None


def _seen_rows(directory: Path) -> pd.DataFrame | None:
    """Text and author digests of the rows of `split.parquet` that anything was fitted on; None without the file."""
    path = directory / SPLIT
    if not path.is_file():
        return None
    try:
        table = pd.read_parquet(path)
        return table.loc[table["part"] != "test", ["text", "author"]]
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{path} can't be read ({type(error).__name__}): copy the artifact again") from error
