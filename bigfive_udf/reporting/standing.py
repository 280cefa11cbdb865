"""What is known about the model behind the scores: the main figures of its evaluation.json, if there is one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bigfive_udf.model import checkpoint
from bigfive_udf.model.artifact import EVALUATION
from bigfive_udf.tables.filesystem import local_path
from bigfive_udf.traits import TRAITS

BETTER, NOT_BETTER, UNKNOWN = "better than chance", "no better than chance", "not known"
_FIGURES = ("roc_auc", "roc_auc_ci", "ece", "accuracy", "majority_accuracy", "positives")


def find_model(path: str | None, model_id: str) -> tuple[Path | None, str]:
    """The directory of the model that computed the scores, or why it is not known, in words."""
    if path is None:
        return None, "no run of the table says where its model is"
    plain = local_path(path) or path
    directory = Path(plain)
    if "://" in plain or not directory.is_dir():
        return None, "its model is not where the last run had it"
    found = checkpoint.model_id({p.name: checkpoint.sha256(p) for p in checkpoint.model_files(directory)})
    if found != model_id:
        return None, f"the model is now another one, {found}"
    return directory, ""


def standing(directory: Path | None, why: str, model_id: str) -> dict[str, Any]:
    """The part `model` of a report.

    Raises:
        ArtifactError: evaluation.json is damaged.
    """
    about: dict[str, Any] = {"model_id": model_id, "known": False, "why": why}
    if directory is None:
        return about
    if not (directory / EVALUATION).is_file():
        return about | {"why": f"the model has no {EVALUATION}"}
    evaluation = checkpoint.read_json(directory / EVALUATION)
    measured: Mapping[str, Any] = evaluation.get("traits") or {}
    said = (evaluation.get("verdict") or {}).get("traits") or {}
    traits = {}
    for trait in TRAITS:
        own = measured.get(trait) or {}
        verdict = (said.get(trait) or {}).get("verdict") or _verdict(own)
        traits[trait] = {"verdict": verdict} | {key: own.get(key) for key in _FIGURES}
    rows, authors = evaluation.get("rows") or {}, evaluation.get("authors") or {}
    part = "test" if "test" in rows else "out_of_fold"
    return about | {
        "known": any(t["verdict"] != UNKNOWN for t in traits.values()),
        "why": "its evaluation gives no figure of any trait",
        "split": evaluation.get("split"),
        "texts": rows.get(part),
        "authors": authors.get(part),
        "seen_rows": evaluation.get("seen_rows"),
        "traits": traits,
    }


def _verdict(measured: Mapping[str, Any]) -> str:
    better = measured.get("better_than_chance_corrected", measured.get("better_than_chance"))
    too_few = "roc_auc_ci_corrected" in measured and measured["roc_auc_ci_corrected"] is None
    if measured.get("roc_auc") is None or too_few or better is None:
        return UNKNOWN
    return BETTER if better else NOT_BETTER
