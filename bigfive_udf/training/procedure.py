"""From a labelled table to a model that can be published: what is trained, and where every figure comes from.

With folds, each row is predicted by a model that has not seen it (nor its author, in a split by author). Verdict,
calibration and thresholds come from these predictions, and the artifact is then trained on all rows. Without folds,
there is one model and three parts: it is trained on the first, calibrated on the second, and reported on the third,
which is used only once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from bigfive_udf import __version__
from bigfive_udf.model import checkpoint, hardware
from bigfive_udf.settings.train import PARTS, TrainSettings
from bigfive_udf.training import calibration
from bigfive_udf.training.calibration import Calibration
from bigfive_udf.training.data import LabelledTexts
from bigfive_udf.training.evaluation import evaluation_of
from bigfive_udf.training.finetune import Epoch, Finetuned
from bigfive_udf.training.held_out import TrainingRecipe, cross_validate, held_out_logits
from bigfive_udf.training.metrics import Predictions, macro_roc_auc
from bigfive_udf.training.plan import HoldoutPlan
from bigfive_udf.traits import TRAITS


@dataclass(frozen=True)
class TrainingOutcome:
    """The result of a training: a calibrated model and its evaluation."""

    made: Finetuned
    calibration: Calibration
    """what was folded into the model's last layer"""
    thresholds: np.ndarray
    """(5,)"""
    cuts: Mapping[str, float]
    """by trait, the score from which on the trait is high, where labels were scores"""
    evaluation: dict[str, Any]
    reported: Predictions
    """the rows behind the figures, for pictures"""
    uncalibrated: np.ndarray
    """(rows, 5) probabilities of the reported rows before calibration"""
    curves: list[list[Epoch]]
    """the epochs of each model that was trained; those of `made` come last"""


def identity_of(
    settings: TrainSettings, labelled: LabelledTexts, test: LabelledTexts | None, base: str
) -> dict[str, str]:
    """The properties that an interrupted training must share with this one to be resumed."""
    training = settings.model_dump(mode="json", exclude={"data", "output", "evaluation"})
    machine = hardware.look(use_gpu=settings.train.device != "cpu")
    placement = hardware.decide(settings.train.device, settings.train.precision, [machine], section="train")
    files = checkpoint.model_files(Path(base))
    return {
        "data or cut": labelled.digest
        + (test.digest if test is not None else "")
        + json.dumps(dict(labelled.cuts), sort_keys=True),
        "settings": hashlib.sha256(json.dumps(training, sort_keys=True).encode()).hexdigest(),
        "base model": checkpoint.model_id({p.name: checkpoint.sha256(p) for p in files}),
        "arithmetic": f"{placement.precision} on {placement.device}",
        "versions": f"bigfive-udf {__version__}, torch {torch.__version__}, transformers {transformers.__version__}",
    }


def train(
    recipe: TrainingRecipe, labelled: LabelledTexts, test: LabelledTexts | None, plan: HoldoutPlan
) -> TrainingOutcome:
    """Train as the plan says; `test` holds the rows of `data.test_path`, if it is set."""
    if plan.folds:
        return _with_folds(recipe, labelled, test, plan)
    return _with_one_split(recipe, labelled, test, plan)


def _with_folds(
    recipe: TrainingRecipe, labelled: LabelledTexts, test: LabelledTexts | None, plan: HoldoutPlan
) -> TrainingOutcome:
    held_out = cross_validate(recipe, labelled, plan)
    options = recipe.options
    if options.early_stopping is not None:  # no rows are left for early stopping: train as long as the folds did
        options = replace(options, epochs=max(1, round(float(np.median(held_out.kept)))), early_stopping=None)
    everything = np.ones(len(labelled), bool)
    labels, cuts = labelled.labels(everything)
    recipe.say(f"the model itself, on all {len(labelled):,} texts")
    made = recipe.finetune("final", labelled, labels, everything, options)

    fitted = recipe.calibration(held_out.first, held_out.labels)
    thresholds = recipe.thresholds(fitted.probabilities(held_out.first), held_out.labels)
    _finish(made, fitted, labelled)
    parts = {"train": labelled, "out_of_fold": labelled.take(~plan.shared)}
    reported, whose = held_out.predictions(recipe, labelled), labelled
    uncalibrated = Calibration.none().probabilities(held_out.first)
    evaluation: dict[str, Any] = _left_out(plan.shared) if test is None else {}
    if len(held_out.logits) > 1:
        evaluation["seeds"] = _seeds(held_out.spread(), "out of fold")
    if test is not None:
        evaluation["out_of_fold"] = _evaluation(recipe, reported, labelled)
        reported, uncalibrated = _tested(recipe, made, fitted, thresholds, test, cuts)
        parts, whose = parts | {"test": test}, test
    evaluation = _sizes(parts) | _evaluation(recipe, reported, whose) | evaluation
    curves = [*held_out.curves, made.epochs]
    return TrainingOutcome(made, fitted, thresholds, cuts, evaluation, reported, uncalibrated, curves)


def _with_one_split(
    recipe: TrainingRecipe, labelled: LabelledTexts, test: LabelledTexts | None, plan: HoldoutPlan
) -> TrainingOutcome:
    training, validation = ((plan.parts == PARTS.index(name)) & ~plan.shared for name in ("train", "validation"))
    labels, cuts = labelled.labels(training)
    recipe.say(f"one split: {training.sum():,} texts to train on, {validation.sum():,} to calibrate on")
    curves, spread = [], {}
    for seed in recipe.seeds[1:]:
        recipe.say(f"seed {seed}, for the spread")
        masks, options = (training, validation, validation), replace(recipe.options, seed=seed)
        logits, epochs, _ = held_out_logits(recipe, f"seed-{seed}", labelled, labels, masks, options)
        curves.append(epochs)
        spread[seed] = macro_roc_auc(labels[validation], logits)
    made = recipe.finetune("final", labelled, labels, training, validation=validation)

    logits = recipe.logits(made, labelled.take(validation).texts)
    fitted = recipe.calibration(logits, labels[validation])
    thresholds = recipe.thresholds(fitted.probabilities(logits), labels[validation])
    _finish(made, fitted, labelled)
    parts = {"train": labelled.take(training), "validation": labelled.take(validation)}
    in_test = plan.parts == PARTS.index("test")
    parts["test"] = labelled.take(in_test & ~plan.shared) if test is None else test
    reported, uncalibrated = _tested(recipe, made, fitted, thresholds, parts["test"], cuts)
    evaluation = _sizes(parts) | _evaluation(recipe, reported, parts["test"])
    evaluation |= _left_out(in_test & plan.shared) if test is None else {}
    if spread:
        first = {recipe.seeds[0]: macro_roc_auc(labels[validation], logits)}
        evaluation["seeds"] = _seeds(first | spread, "on the validation part")
    return TrainingOutcome(made, fitted, thresholds, cuts, evaluation, reported, uncalibrated, [*curves, made.epochs])


def _finish(made: Finetuned, fitted: Calibration, labelled: LabelledTexts) -> None:
    """Fold the calibration into the model, and silence the traits that had no label."""
    fitted.fold_into(made.model)
    silent = [i for i, column in enumerate(labelled.values.T) if np.isnan(column).all()]
    if silent:
        last = calibration.last_layer(made.model)
        with torch.no_grad():
            last.weight[silent] = 0
            last.bias[silent] = 0
    setattr(made.model.config, checkpoint.SILENT, [TRAITS[i] for i in silent])


def _tested(
    recipe: TrainingRecipe,
    made: Finetuned,
    fitted: Calibration,
    thresholds: np.ndarray,
    test: LabelledTexts,
    cuts: Mapping[str, float],
) -> tuple[Predictions, np.ndarray]:
    """The finished model's predictions for the test part, and their probabilities before calibration."""
    logits, none = recipe.logits(made, test.texts), Calibration.none()
    before = (logits - fitted.intercept) / fitted.slope
    labels, probabilities = test.labels_at(cuts), none.probabilities(logits)
    predictions = Predictions(labels, probabilities, thresholds, test.authors, texts=test.text_digests)
    return predictions, none.probabilities(before)


def _evaluation(recipe: TrainingRecipe, reported: Predictions, whose: LabelledTexts) -> dict[str, Any]:
    settings = recipe.settings
    return evaluation_of(reported, whose, resamples=settings.evaluation.resamples, seed=settings.train.seed)


def _sizes(parts: Mapping[str, LabelledTexts]) -> dict[str, Any]:
    return {
        "rows": {name: len(part) for name, part in parts.items()},
        "authors": {name: len(np.unique(part.authors)) for name, part in parts.items() if part.authors is not None},
    }


def _left_out(shared: np.ndarray) -> dict[str, int]:
    """How many rows are left out of all figures, because another author's copy of the text was trained on."""
    return {"shared_texts": int(shared.sum())} if shared.any() else {}


def _seeds(macro: Mapping[int, float], where: str) -> dict[str, Any]:
    return {
        "macro_roc_auc": {str(seed): round(value, 4) for seed, value in macro.items()},
        "range": [round(min(macro.values()), 4), round(max(macro.values()), 4)],
        "measured": where,
    }


def epochs_json(curves: list[list[Epoch]]) -> list[list[dict[str, Any]]]:
    """The curves as they are stored."""
    return [[asdict(epoch) for epoch in epochs] for epochs in curves]
