"""How much of a figure is due to the split: one recipe, cross-validated with authors kept apart and with authors mixed.

The difference is the apparent knowledge of traits that comes from recognising authors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bigfive_udf.errors import ArtifactError, InputError
from bigfive_udf.model import hub
from bigfive_udf.model.artifact import Artifact
from bigfive_udf.settings.evaluate import EvaluateSettings
from bigfive_udf.settings.train import TrainSettings
from bigfive_udf.training import base_models
from bigfive_udf.training.data import LabelledTexts
from bigfive_udf.training.evaluation import evaluation_of
from bigfive_udf.training.held_out import TrainingRecipe, cross_validate
from bigfive_udf.training.plan import holdout_plan
from bigfive_udf.training.procedure import identity_of
from bigfive_udf.training.provenance import TRAINING, read_training, refuse_seen
from bigfive_udf.training.state import training_state

DEFAULT_FOLDS = 5


def settings_of_training(artifact: Artifact, settings: EvaluateSettings) -> TrainSettings:
    """The settings that the artifact was trained with, applied to the table of this comparison.

    Raises:
        ArtifactError: it was not trained by the train job, or does not record its encoder.
    """
    trained = read_training(artifact.path)
    if trained is None:
        raise ArtifactError(
            f"{artifact.path} has no {TRAINING}: --compare-splits trains the same recipe again, and only a model of "
            "jobs/train.py tells its recipe"
        )
    try:
        known = trained["settings"]
        model = known["model"] | ({} if settings.model.base is None else {"base": settings.model.base})
        data = settings.data.model_dump(exclude={"seen"})
        split = known["split"] | {"by": "author", "folds": known["split"]["folds"] or DEFAULT_FOLDS}
        return TrainSettings.model_validate(
            {
                "data": data,
                "split": split,
                "model": model,
                "train": known["train"] | {"seeds": 1, "processes": 1, "device": settings.model.device},
                "labels": known["labels"],
                "evaluation": settings.evaluation.model_dump(),
                "output": {"path": str(artifact.path)},
            }
        )
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise ArtifactError(
            f"{artifact.path / TRAINING} is not as this program writes it ({type(error).__name__}): "
            "train the artifact anew"
        ) from error


def _base_of(base: str, recorded: bool) -> str:
    """The directory of the encoder; a recorded name means a hub model, never a local directory that has this name."""
    if not recorded:
        return base_models.locate(base)
    if base == base_models.MINILM_NAME:
        return str(base_models.minilm_directory())
    return str(hub.snapshot(base, "model.base"))


def compare_splits(
    artifact: Artifact, labelled: LabelledTexts, settings: EvaluateSettings, run_id: str
) -> dict[str, Any]:
    """Cross-validate the artifact's recipe twice; the leak is the random split's figure minus the author split's.

    Raises:
        InputError: the table has no authors, or too few.
        ArtifactError: the recipe or its encoder is missing.
    """
    if labelled.authors is None:
        raise InputError("--compare-splits: data.author_column is not set, and without authors there is nothing to mix")
    recipe = settings_of_training(artifact, settings)
    base = _base_of(recipe.model.base, recorded=settings.model.base is None)
    refuse_seen(base, "model.base", labelled)
    result: dict[str, Any] = {}
    finished = []
    for by in ("author", "random"):
        one = recipe.model_copy(update={"split": recipe.split.model_copy(update={"by": by})})
        plan = holdout_plan(one, labelled)
        work = Path(f"{artifact.path.resolve()}.compare-{by}")
        with training_state(work, identity_of(one, labelled, None, base), run_id) as state:
            print(f"split by {by}, {plan.folds} folds", *state.lines(), sep="\n")
            trained = TrainingRecipe.of(one, base, state)
            held_out = cross_validate(trained, labelled, plan)
            predictions = held_out.predictions(trained, labelled)
            result[by] = evaluation_of(predictions, labelled, resamples=settings.evaluation.resamples)
        finished.append(state)
    for state in finished:  # only after both are done: an interruption costs one fold
        state.remove()
    result["leak"] = round(result["random"]["macro"]["roc_auc"] - result["author"]["macro"]["roc_auc"], 4)
    return result


def comparison_lines(compared: Mapping[str, Any]) -> list[str]:
    """The two figures and the leak, in words."""
    lines = [f"{'the same recipe':<30}{'macro ROC AUC':>14}  {'95 % interval':<16}verdict"]
    for by, name in (("random", "split at random, authors mixed"), ("author", "split by author")):
        measured = compared[by]["macro"]
        low, high = measured["roc_auc_ci"]
        between = f"{low:.3f} to {high:.3f}"
        lines.append(f"{name:<30}{measured['roc_auc']:>14.3f}  {between:<16}{compared[by]['verdict']['summary']}")
    lines.append(f"the leak: {compared['leak']:+.3f} of the random split's figure comes from knowing the authors")
    return lines
