"""The artifact as it is written: the model, its evaluation, how it was trained and on whom, and its card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bigfive_udf.errors import ArtifactError
from bigfive_udf.model.artifact import EVALUATION, describe, load_artifact, new_artifact
from bigfive_udf.model.quiet import quiet_transformers
from bigfive_udf.settings.train import TrainSettings
from bigfive_udf.training.base_models import public_name
from bigfive_udf.training.card import write_card
from bigfive_udf.training.data import LabelledTexts
from bigfive_udf.training.held_out import Plan
from bigfive_udf.training.procedure import Outcome, epochs_json
from bigfive_udf.traits import TRAITS

SPLIT = "split.parquet"
TRAINING = "training.json"


def write_artifact(
    settings: TrainSettings, found: LabelledTexts, test: LabelledTexts | None, plan: Plan, outcome: Outcome
) -> dict[str, Any]:
    """Write `output.path`, whole or not at all, and return the evaluation as it stands there.

    Raises:
        OutputError: it exists, or can't be written.
    """
    thresholds = {trait: float(outcome.thresholds[i]) for i, trait in enumerate(TRAITS)}
    about: dict[str, Any] = {
        "head": settings.model.head,
        "pooling": settings.model.pooling,
        "thresholds": thresholds,
        "max_length": outcome.made.max_length,
        "languages": settings.model.languages,
        "base_model": public_name(settings.model.base),
        "training_data": f"sha256:{found.digest}",
    }
    with new_artifact(settings.output.path) as directory:
        with quiet_transformers():
            outcome.made.model.save_pretrained(directory)
            outcome.made.tokenizer.save_pretrained(directory)
        split_table(found, test, plan).to_parquet(directory / SPLIT, index=False)
        _write_json(directory / TRAINING, _training(settings, plan, outcome))
        describe(directory, **about)
        evaluation = {
            "split": plan.by,
            "folds": plan.folds,
            "author_column": settings.data.author_column,
            "model_id": load_artifact(directory).model_id,  # and a model that can't be opened is never published
            "precision": "fp32",
            "thresholds": thresholds,
            **outcome.evaluation,
        }
        _write_json(directory / EVALUATION, evaluation)
        write_card(directory, settings, found, evaluation, outcome)
        describe(directory, **about)  # again: the digests of the card and its pictures belong in it
    return evaluation


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _training(settings: TrainSettings, plan: Plan, outcome: Outcome) -> dict[str, Any]:
    """How the artifact came about, so that it can be done again: no path and no data of this machine."""
    recipe = settings.model_dump(mode="json", include={"split", "model", "train", "labels"})
    recipe["model"]["base"] = public_name(settings.model.base)
    return {
        "settings": recipe,
        "split": {"by": plan.by, "folds": plan.folds},
        "cuts": dict(outcome.cuts),
        "calibration": {
            trait: {
                "slope": float(outcome.calibration.slope[i]),
                "intercept": float(outcome.calibration.intercept[i]),
            }
            for i, trait in enumerate(TRAITS)
        },
        "epochs": epochs_json(outcome.curves),
    }


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
