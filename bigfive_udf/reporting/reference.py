"""The probabilities of held-out texts that an artifact keeps from its training, as a reference to judge drift.

`reference.json` lies in the artifact and is digested like its other files; model_id does not depend on it. It holds
counts by bin and no text. Like the figures in evaluation.json, they come from texts that the model had not seen.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bigfive_udf.errors import ArtifactError
from bigfive_udf.reporting.bins import BINS, EDGES, counted
from bigfive_udf.reporting.drift import Side
from bigfive_udf.traits import TRAITS

REFERENCE = "reference.json"
FORMAT_VERSION = 1


def held_out_reference(probabilities: np.ndarray, authors: np.ndarray | None) -> dict[str, Any]:
    """The content of reference.json for (n, 5) held-out probabilities, NaN where there is none."""
    group = np.arange(len(probabilities)) if authors is None else np.unique(authors, return_inverse=True)[1]
    return {
        "format_version": FORMAT_VERSION,
        "edges": EDGES.tolist(),
        "texts": len(probabilities),
        "authors": None if authors is None else int(group.max(initial=-1)) + 1,
        "traits": {
            trait: {
                "counts": counted(probabilities[:, i]).tolist(),
                "effective_texts": round(_effective(probabilities[:, i], group), 1),
            }
            for i, trait in enumerate(TRAITS)
        },
    }


def read_reference(directory: Path) -> Side | None:
    """The held-out probabilities of the artifact in that directory; None where it keeps none.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = directory / REFERENCE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format_version"] != FORMAT_VERSION or not np.allclose(content["edges"], EDGES):
            return None  # written by another version, which counted otherwise
        counts = np.array([content["traits"][trait]["counts"] for trait in TRAITS], np.int64).reshape(len(TRAITS), BINS)
        effective = tuple(float(content["traits"][trait]["effective_texts"]) for trait in TRAITS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} can't be read ({type(error).__name__}): copy the artifact again") from error
    empty = np.zeros((0, 1, len(TRAITS)))
    return Side(counts[None], np.zeros((0, len(TRAITS), BINS)), empty, empty, effective)


def _effective(probabilities: np.ndarray, group: np.ndarray) -> float:
    """How many independent texts these are worth for estimating their mean, since texts of one author are alike."""
    known = ~np.isnan(probabilities)
    values, group = probabilities[known], group[known]
    if len(values) < 2 or np.ptp(values) == 0:
        return float(len(values))
    apart = np.bincount(group, values - values.mean())
    alike = (apart**2).sum() / (len(values) * values.var())
    return float(len(values) / max(1.0, alike))
