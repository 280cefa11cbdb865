"""Write an artifact: the model, its evaluation, the records of its training and of its split, and its card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bigfive_udf.model.artifact import EVALUATION, describe, load_artifact, new_artifact
from bigfive_udf.model.quiet import quiet_transformers
from bigfive_udf.reporting.reference import REFERENCE, held_out_reference
from bigfive_udf.settings.train import TrainSettings
from bigfive_udf.training.base_models import public_name
from bigfive_udf.training.card import write_card
from bigfive_udf.training.data import LabelledTexts
from bigfive_udf.training.plan import HoldoutPlan
from bigfive_udf.training.procedure import TrainingOutcome, epochs_json
from bigfive_udf.training.provenance import SPLIT, TRAINING, split_table
from bigfive_udf.traits import TRAITS


def write_artifact(
    settings: TrainSettings,
    labelled: LabelledTexts,
    test: LabelledTexts | None,
    plan: HoldoutPlan,
    base: str,
    outcome: TrainingOutcome,
    work: Path,
) -> dict[str, Any]:
    """Write the artifact to `output.path`, whole or not at all, and return its evaluation.

    `base` is the directory of the encoder, which may record the authors that it was trained on. The artifact is made in
    `work`, where the next run looks for the remains of a killed run.

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
        "training_data": f"sha256:{labelled.digest}",
    }
    with new_artifact(settings.output.path, within=work) as directory:
        with quiet_transformers():
            outcome.made.model.save_pretrained(directory)
            outcome.made.tokenizer.save_pretrained(directory)
        split_table(labelled, test, plan, base).to_parquet(directory / SPLIT, index=False)
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
        reference = held_out_reference(outcome.reported.probabilities, outcome.reported.authors)
        _write_json(directory / REFERENCE, reference)
        write_card(directory, settings, labelled, evaluation, outcome)
        describe(directory, **about)  # again, to add the digests of the reference, the card and its pictures
    return evaluation


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _training(settings: TrainSettings, plan: HoldoutPlan, outcome: TrainingOutcome) -> dict[str, Any]:
    """The record of the training, complete enough to repeat it, without paths and data of this machine."""
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
