"""How well the models behind a table predict the traits, as far as is known, and the line that says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bigfive_udf.model.artifact import Artifact
from bigfive_udf.traits import TRAITS

_VERDICTS = {True: "better than chance", False: "NO better than chance", None: "not known"}


@dataclass(frozen=True)
class Evidence:
    """What is known of one model."""

    model_id: str
    path: str | None = None
    """where its artifact was; None for a model of which only the id is known"""
    split: str | None = None
    """how the texts of its evaluation were held out: author or random"""
    silent: tuple[str, ...] = ()
    """the traits that it was trained on without any label"""
    better: Mapping[str, bool | None] = field(default_factory=dict)
    """for each trait, whether the evaluation calls the model better than chance; None where not known"""
    area: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    """for each trait, ROC AUC with the ends of its 95 % interval"""

    def line(self, trait: str) -> str:
        """One line on what is known of a trait."""
        said = _VERDICTS[self.better.get(trait)]
        if trait not in self.area:
            return said
        area, low, high = self.area[trait]
        return f"{said}; ROC AUC {area:.3f}, 95 % interval {low:.3f} to {high:.3f}"

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Evidence:
        """Raises ValueError, TypeError or KeyError where the text does not come from `to_json`."""
        known = json.loads(text)
        area = {trait: (float(a), float(low), float(high)) for trait, (a, low, high) in known["area"].items()}
        return cls(**known | {"silent": tuple(known["silent"]), "area": area})


def evidence_of(artifact: Artifact, path: str | None = None) -> Evidence:
    """The evidence in an artifact; `path` is its path in the settings."""
    measured: Mapping[str, Mapping[str, Any]] = artifact.evaluation.get("traits") or {}
    area = {
        trait: (found["roc_auc"], *found["roc_auc_ci"])
        for trait, found in measured.items()
        if trait in TRAITS and found.get("roc_auc") is not None and found.get("roc_auc_ci") is not None
    }
    return Evidence(
        artifact.model_id,
        path or str(artifact.path),
        artifact.evaluation.get("split"),
        tuple(artifact.silent_traits),
        {trait: artifact.better_than_chance(trait) for trait in TRAITS},
        area,
    )
