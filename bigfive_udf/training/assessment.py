"""Evaluate an existing model: its figures on labelled texts that it has not seen."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from bigfive_udf.errors import InputError, OutputError, SettingsError
from bigfive_udf.model.artifact import EVALUATION, Artifact
from bigfive_udf.settings.evaluate import EvaluateSettings
from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.training.data import LabelledTexts
from bigfive_udf.training.evaluation import evaluation_of
from bigfive_udf.training.metrics import Predictions
from bigfive_udf.training.provenance import read_split, read_training
from bigfive_udf.traits import SCORED, TRAITS, probability_column


def unseen_rows(artifact: Artifact, labelled: LabelledTexts) -> np.ndarray | None:
    """(n,) mask of the rows whose text and author the model was not trained on; None where that is not known."""
    seen = read_split(artifact.path)
    if seen is None:
        return None
    texts, authors = seen
    rows = ~np.isin(labelled.text_digests, list(texts))
    if labelled.author_digests is not None and authors is not None:
        rows &= ~np.isin(labelled.author_digests, list(authors))
    return rows


def knows_authors(artifact: Artifact) -> bool:
    """Whether the artifact tells whose texts it was trained on."""
    seen = read_split(artifact.path)
    return seen is not None and seen[1] is not None


def _trained_on(artifact: Artifact, labelled: LabelledTexts, unseen: np.ndarray | None, seen: str) -> str:
    """How many of the rows the model has seen, in words, as far as that is known."""
    if unseen is None:
        return "not known"
    count = int((~unseen).sum())
    whose = "" if labelled.authors is None else ", or others by their authors"
    text = f"{count:,} of {len(labelled):,} texts{whose}: {'left out' if seen == 'leave_out' else 'kept'}"
    text = text if count else "none of these texts"
    return text if labelled.authors is None or knows_authors(artifact) else f"{text}; by whom is not known"


def assess(artifact: Artifact, labelled: LabelledTexts, settings: EvaluateSettings) -> dict[str, Any]:
    """Evaluate an artifact on labelled texts, without the rows that it was trained on if the settings say so.

    Raises:
        InputError: nothing is left, or a trait has no cut.
    """
    unseen = unseen_rows(artifact, labelled)
    seen = 0 if unseen is None else int((~unseen).sum())
    trained_on = _trained_on(artifact, labelled, unseen, settings.data.seen)
    if unseen is not None and seen and settings.data.seen == "leave_out":
        if seen == len(labelled):
            raise InputError(
                f"{settings.data.path}: the model was trained on all {seen:,} texts or on others by their authors, and "
                "figures from them would flatter: give a table that it has not seen (its own out-of-fold figures are "
                f"in {os.path.join(artifact.path, EVALUATION)}), or set data.seen=keep"
            )
        labelled = labelled.take(unseen)
    labels = labelled.labels_at(_cuts(artifact, labelled, settings))
    scores = artifact.predict(labelled.texts, device=settings.model.device, precision=settings.model.precision)
    probabilities = scores[[probability_column(trait) for trait in TRAITS]].to_numpy(float, na_value=np.nan)
    thresholds = np.array([artifact.thresholds[trait] for trait in TRAITS])
    sizes = {"rows": {"test": len(labelled)}}
    if labelled.authors is not None:
        sizes["authors"] = {"test": len(np.unique(labelled.authors))}
    kept = seen if settings.data.seen == "keep" else 0
    by_author = labelled.authors is not None and knows_authors(artifact) and not kept
    return {
        "split": "author" if by_author else "random",
        "folds": 0,
        "author_column": settings.data.author_column,
        "model_id": artifact.model_id,
        "precision": str(scores["precision"].iloc[0]),
        "thresholds": dict(artifact.thresholds),
        "evaluated_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "trained_on": trained_on,
        "seen_rows": None if unseen is None else kept,
        "not_scored": int((scores["status"] != SCORED).sum()),
        **sizes,
        **evaluation_of(
            Predictions(labels, probabilities, thresholds, labelled.authors, texts=labelled.text_digests),
            labelled,
            resamples=settings.evaluation.resamples,
        ),
    }


def _cuts(artifact: Artifact, labelled: LabelledTexts, settings: EvaluateSettings) -> dict[str, float]:
    """The score at which each trait is cut; a median cut is the median that the model was trained with."""
    trained: Mapping[str, float] = (read_training(artifact.path) or {}).get("cuts") or {}
    cuts = {}
    for trait, cut in labelled.cuts.items():
        if cut == "median" and trait not in trained:
            raise InputError(
                f"data.cut median: {artifact.path} does not say at which score of {trait} its training authors were "
                f"cut; set data.cut={{{trait}: NUMBER}}"
            )
        cuts[trait] = trained[trait] if cut == "median" else float(cut)
    return cuts


def check_writable(artifact: Artifact, labelled: LabelledTexts, settings: EvaluateSettings) -> None:
    """Refuse to write figures beside a model, where the score job reads them, if they come from its own training data.

    Raises:
        SettingsError: with the cure.
    """
    if settings.output.path is not None and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:", settings.output.path):
        raise SettingsError(f"output.path {settings.output.path}: an evaluation is written to a local disk")
    unseen = unseen_rows(artifact, labelled)
    beside = artifact.path / EVALUATION
    here = settings.output.path is None or Path(settings.output.path).resolve() == beside.resolve()
    if settings.data.seen == "keep" and here and unseen is not None and not unseen.all():
        raise SettingsError(
            f"data.seen keep: {int((~unseen).sum()):,} of {len(labelled):,} texts were trained on or are by authors "
            "that were; such figures are not put beside the model: set output.path to another file"
        )


def keep_evaluation(artifact: Artifact, evaluation: Mapping[str, Any], path: str | None) -> list[str]:
    """Write the evaluation; an earlier one beside the model is kept under the time when it was written.

    Returns lines for the user that say what was written.

    Raises:
        OutputError: it can't be written.
    """
    target = Path(path) if path is not None else artifact.path / EVALUATION
    lines = [f"written: {target}"]
    try:
        if path is None and target.exists():
            written = datetime.fromtimestamp(target.stat().st_mtime, timezone.utc)
            names = (f"evaluation-{written:%Y%m%dT%H%M%SZ}{n}.json" for n in ("", *(f"-{i}" for i in range(1, 1000))))
            earlier = next(one for name in names if not (one := target.with_name(name)).exists())
            shutil.copyfile(target, earlier)
            lines.append(f"the one before is now {earlier.name}")
        LocalFileSystem().put(os.path.abspath(target), json.dumps(evaluation, indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"{target} can't be written: {error.strerror}; set output.path to another file") from error
    return lines
