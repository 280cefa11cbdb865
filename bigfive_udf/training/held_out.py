"""Predictions for rows that a model has not seen, because it was trained on the other rows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bigfive_udf.errors import SettingsError
from bigfive_udf.model import bundle, hardware
from bigfive_udf.model.scorer import Scorer
from bigfive_udf.model.scores import ScoringOptions
from bigfive_udf.settings.train import TrainSettings
from bigfive_udf.training import calibration
from bigfive_udf.training.calibration import Calibration
from bigfive_udf.training.data import LabelledTexts
from bigfive_udf.training.finetune import Epoch, Examples, Finetuned, FinetuneOptions, finetune
from bigfive_udf.training.metrics import Predictions, macro_roc_auc
from bigfive_udf.training.plan import HoldoutPlan, stopping_part
from bigfive_udf.training.state import TrainingState
from bigfive_udf.traits import TRAITS


@dataclass(frozen=True)
class TrainingRecipe:
    """What every training of a run has in common; `base` is a directory."""

    settings: TrainSettings
    options: FinetuneOptions
    base: str
    state: TrainingState
    run: Callable[..., Finetuned] = finetune
    """`finetune`, or a function with the same signature that runs it in several processes"""
    say: Callable[[str], None] = print

    @classmethod
    def of(
        cls, settings: TrainSettings, base: str, state: TrainingState, run: Callable[..., Finetuned] = finetune
    ) -> TrainingRecipe:
        train, model = settings.train, settings.model
        of_model = {"head", "pooling", "max_length"}
        given = {f.name: getattr(model if f.name in of_model else train, f.name) for f in fields(FinetuneOptions)}
        options = FinetuneOptions(**given)
        return cls(settings, options, base, state, run)

    @property
    def seeds(self) -> list[int]:
        """train.seed, and the further seeds that only serve to measure the spread."""
        first = self.settings.train.seed
        return list(range(first, first + self.settings.train.seeds))

    def finetune(
        self,
        name: str,
        labelled: LabelledTexts,
        labels: np.ndarray,
        rows: np.ndarray,
        options: FinetuneOptions | None = None,
        validation: np.ndarray | None = None,
    ) -> Finetuned:
        """Train on `rows`, a mask; checkpoints are kept under `name`."""

        def part(mask: np.ndarray) -> Examples:
            return Examples(labelled.take(mask).texts, labels[mask])

        held = None if validation is None else part(validation)
        return self.run(part(rows), self.base, options or self.options, self.state.scratch(name), validation=held)

    def logits(self, made: Finetuned, texts: Sequence[str]) -> np.ndarray:
        """(n, 5) logits in fp32, computed as in the score job, long texts in windows; NaN where a text has no score."""
        machine = hardware.look(use_gpu=self.options.device != "cpu")
        device = hardware.decide(self.options.device, "fp32", [machine]).device
        weights = made.model.state_dict()
        if not all(bool(torch.isfinite(t).all()) for t in weights.values() if t.is_floating_point()):
            raise SettingsError(
                f"train.learning_rate {self.options.learning_rate:g}: the training ended in weights that are no finite "
                "numbers; set a lower one"
            )
        packed = bundle.pack(made.model.config, weights, made.tokenizer, list(range(len(TRAITS))), "fp32")
        with tempfile.TemporaryDirectory(prefix="bigfive-train-") as directory:
            for file, content in packed.files.items():
                (Path(directory) / file).write_bytes(content)
            return Scorer.open(Path(directory), ScoringOptions(made.max_length), device).score(list(texts)).logits

    def calibration(self, logits: np.ndarray, labels: np.ndarray) -> Calibration:
        return calibration.fit(logits, labels) if self.settings.labels.calibrate else Calibration.none()

    def thresholds(self, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return calibration.thresholds(probabilities, labels, self.settings.labels.thresholds)


@dataclass(frozen=True)
class OutOfFold:
    """The predictions for every row by a model that had not seen it."""

    plan: HoldoutPlan
    labels: np.ndarray
    """(n, 5); a median cut is the median over the authors of the other folds"""
    logits: dict[int, np.ndarray]
    """(n, 5) by seed, NaN where another author has the same text in another fold, since that copy was trained on"""
    curves: list[list[Epoch]]
    kept: list[int]
    """the kept epoch of each model"""

    @property
    def first(self) -> np.ndarray:
        """(n, 5) logits of the first seed, from which all figures are computed."""
        return next(iter(self.logits.values()))

    def predictions(self, recipe: TrainingRecipe, labelled: LabelledTexts) -> Predictions:
        """The predictions; calibration and thresholds of each fold are fitted on the other folds' predictions only."""
        probabilities, thresholds = np.empty_like(self.first), np.empty_like(self.first)
        for fold in range(self.plan.folds):
            held = self.plan.parts == fold
            fitted = recipe.calibration(self.first[~held], self.labels[~held])
            probabilities[held] = fitted.probabilities(self.first[held])
            thresholds[held] = recipe.thresholds(fitted.probabilities(self.first[~held]), self.labels[~held])
        return Predictions(
            self.labels, probabilities, thresholds, labelled.authors, self.plan.parts,
            cross_validated=True, texts=labelled.text_digests,
        )  # fmt: skip

    def spread(self) -> dict[int, float]:
        """Macro ROC AUC by seed, the mean over the folds."""
        parts, folds = self.plan.parts, range(self.plan.folds)
        return {
            seed: float(np.mean([macro_roc_auc(self.labels[parts == f], one[parts == f]) for f in folds]))
            for seed, one in self.logits.items()
        }


def cross_validate(recipe: TrainingRecipe, labelled: LabelledTexts, plan: HoldoutPlan) -> OutOfFold:
    """Train a model per fold and seed on the other folds; models done before an interruption are not trained again."""
    labels = np.full((len(labelled), len(TRAITS)), np.nan)
    logits: dict[int, np.ndarray] = {}
    curves: list[list[Epoch]] = []
    kept: list[int] = []
    for seed in recipe.seeds:
        logits[seed] = np.full((len(labelled), len(TRAITS)), np.nan)
        for fold in range(plan.folds):
            held = plan.parts == fold
            fold_labels, _ = labelled.labels(~held)
            labels[held] = fold_labels[held]
            training, validation = stopping_part(recipe.settings, labelled, plan.by, ~held, f"fold {fold + 1}")
            title = f"fold {fold + 1} of {plan.folds}" + (f", seed {seed}" if len(recipe.seeds) > 1 else "")
            recipe.say(f"{title}: {training.sum():,} texts to train on, {held.sum():,} held out")
            parts = (training, validation, held)
            logits[seed][held], epochs, best = held_out_logits(
                recipe, f"fold-{fold}-seed-{seed}", labelled, fold_labels, parts, replace(recipe.options, seed=seed)
            )
            curves.append(epochs)
            kept.append(best)
        logits[seed][plan.shared] = np.nan
    return OutOfFold(plan, labels, logits, curves, kept)


def held_out_logits(
    recipe: TrainingRecipe,
    name: str,
    labelled: LabelledTexts,
    labels: np.ndarray,
    parts: tuple[np.ndarray, np.ndarray | None, np.ndarray],
    options: FinetuneOptions,
) -> tuple[np.ndarray, list[Epoch], int]:
    """Train on the first mask, stop early by the second; return the third's logits, the epochs and the kept epoch."""
    training, validation, held = parts
    done = recipe.state.result(name)
    if done is None:
        made = recipe.finetune(name, labelled, labels, training, options, validation)
        about: dict[str, Any] = {"epochs": [asdict(epoch) for epoch in made.epochs], "kept": made.kept}
        done = {"logits": recipe.logits(made, labelled.take(held).texts)}, about
        recipe.state.keep(name, *done)
    else:
        recipe.say("  done before the interruption")
    arrays, about = done
    return arrays["logits"], [Epoch(**epoch) for epoch in about["epochs"]], about["kept"]
