"""All numbers of a report, as one tree: the page shows them, the JSON beside it holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from bigfive_udf import __version__
from bigfive_udf.reporting.bins import cumulative, drawn, quantiles
from bigfive_udf.reporting.counts import LENGTHS, Counts
from bigfive_udf.reporting.drift import (
    FALSE_ALARMS,
    LARGE_DISTANCE,
    LARGE_PSI,
    LEAST_DISTANCE,
    UNKNOWN,
    Side,
    judge,
    worst,
)
from bigfive_udf.reporting.history import Failure, Record
from bigfive_udf.reporting.stretch import ARTIFACT, NOTHING, Stretch
from bigfive_udf.settings.report import CostSettings
from bigfive_udf.tables.ledger import Entry
from bigfive_udf.traits import STATUSES, TRAITS

FORMAT_VERSION = 1
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_SLOWEST = 5
_LIMITS = {
    "distance": LEAST_DISTANCE,
    "large_distance": LARGE_DISTANCE,
    "large_psi": LARGE_PSI,
    "false_alarms": FALSE_ALARMS,
}


@dataclass(frozen=True)
class ReportInputs:
    """All that a report is made of."""

    name: str
    """name of the table"""
    stretch: Stretch
    counts: Counts
    """counts of the partitions in `stretch.counted`"""
    stored: Side | None
    """the reference that the artifact keeps, if `stretch.kind` is the artifact"""
    records: Sequence[Record]
    failures: Sequence[Failure]
    standing: Mapping[str, Any]
    cost: CostSettings
    made_at: datetime


def figures_of(inputs: ReportInputs) -> dict[str, Any]:
    """The tree of figures: lists for ordered items, maps for named items, numbers as exact as they are known."""
    stretch, counts = inputs.stretch, inputs.counts
    at = {e.partition: i for i, e in enumerate(stretch.counted)}
    shown = np.array([at[e.partition] for e in stretch.shown])
    drift, reference = _drift(inputs, at)
    # If there is a comparison, its two sides are drawn, because the partitions of the page may belong to both.
    judged = np.array([at[e.partition] for e in stretch.current], int) if drift["traits"] else shown
    return {
        "format_version": FORMAT_VERSION,
        "version": __version__,
        "made_at": inputs.made_at.isoformat(timespec="seconds"),
        "table": {"name": inputs.name, "partitions_by": list(stretch.shown[0].values)},
        "stretch": {
            "first": stretch.shown[0].partition,
            "last": stretch.shown[-1].partition,
            "partitions": len(shown),
            "model_id": stretch.model_id,
            "other_models": sorted({e.model_id for e in stretch.shown} - {stretch.model_id}),
        },
        "texts": _texts(counts, shown),
        "reasons": [{"status": s, "reason": r, "texts": n} for s, r, n in counts.reasons],
        "lengths": [
            {"from": low, "to": high, "texts": int(n)}
            for low, high, n in zip(
                LENGTHS, (*[x - 1 for x in LENGTHS[1:]], None), counts.lengths[shown].sum(0), strict=True
            )
        ],
        "partitions": [_partition(e, at[e.partition], counts, reference) for e in stretch.shown],
        "traits": {trait: _trait(i, counts, judged, reference) for i, trait in enumerate(TRAITS)},
        "drift": drift,
        "runs": [_run(record) for record in inputs.records],
        "cost": _cost(inputs.records, inputs.cost),
        "failures": [
            {
                "partition": f.partition,
                "reason": f.reason,
                "run_id": f.run_id,
                "mended_by": f.mended_by,
                "kept": f.kept,
                "gone_by": f.gone_by,
            }
            for f in inputs.failures
        ],
        "slowest": [
            {"partition": e.partition, "seconds": e.seconds, "documents": e.documents, "tokens": e.n_tokens}
            for e in sorted(stretch.shown, key=lambda e: -e.seconds)[:_SLOWEST]
        ],
        "model": dict(inputs.standing),
    }


def _texts(counts: Counts, at: np.ndarray) -> dict[str, Any]:
    """Totals over the texts of some partitions."""
    documents, scored = int(counts.documents[at].sum()), int(counts.statuses[at, 0].sum())
    tokens = int(counts.tokens[at].sum())
    return {
        "documents": documents,
        **{status: int(counts.statuses[at, i].sum()) for i, status in enumerate(STATUSES)},
        "truncated": int(counts.truncated[at].sum()),
        "tokens": tokens,
        "windows": int(counts.windows[at].sum()),
        "longest": int(counts.longest[at].max()),
        "tokens_per_text": tokens / scored if scored else None,
    }


def _partition(entry: Entry, i: int, counts: Counts, reference: np.ndarray | None) -> dict[str, Any]:
    below = None if reference is None else cumulative(reference)
    traits = {}
    for t, trait in enumerate(TRAITS):
        own = counts.bins[i, t]
        apart = float(np.abs(cumulative(own) - below[t]).max()) if below is not None and own.sum() else None
        traits[trait] = _score(counts, np.array([i]), t) | {"distance": apart}
    return {
        "partition": entry.partition,
        "model_id": entry.model_id,
        "run_id": entry.run_id,
        "seconds": entry.seconds,
        "documents_per_second": entry.documents / entry.seconds if entry.seconds else None,
        **_texts(counts, np.array([i])),
        "traits": traits,
    }


def _trait(i: int, counts: Counts, at: np.ndarray, reference: np.ndarray | None) -> dict[str, Any]:
    return {
        "bins": drawn(counts.bins[at, i].sum(0)).tolist(),
        "reference_bins": None if reference is None else drawn(reference[i]).tolist(),
    }


def _score(counts: Counts, at: np.ndarray, i: int) -> dict[str, Any]:
    """The probabilities and labels of one trait in some partitions."""
    scores, labels = int(counts.scores[at, :, i].sum()), int(counts.labels[at, i].sum())
    found = quantiles(counts.bins[at, i].sum(0), QUANTILES)
    return {
        "scores": scores,
        "mean": float(counts.sums[at, :, i].sum() / scores) if scores else None,
        "quantiles": found,
        "labels": labels,
        "label_share": float(counts.positive[at, i].sum() / labels) if labels else None,
    }


def _drift(inputs: ReportInputs, at: Mapping[str, int]) -> tuple[dict[str, Any], np.ndarray | None]:
    """The part `drift`, and the (5, BINS) counts of the reference."""
    stretch, counts = inputs.stretch, inputs.counts
    sides = [np.array([at[e.partition] for e in side], int) for side in (stretch.reference, stretch.current)]
    kind = stretch.kind if stretch.kind != ARTIFACT or inputs.stored is not None else NOTHING
    about: dict[str, Any] = {
        "kind": kind,
        "why_none": _why_none(inputs) if kind == NOTHING else None,
        "reference": [e.partition for e in stretch.reference],
        "current": [e.partition for e in stretch.current],
        "other_models": stretch.other_models,
        "limits": _LIMITS,
    }
    if kind == NOTHING or not len(sides[1]):
        return about | {"verdict": UNKNOWN, "traits": {}, "by_authors": False, "by_days": False}, None
    current = counts.side(1, sides[1])
    reference = inputs.stored if kind == ARTIFACT and inputs.stored is not None else counts.side(0, sides[0])
    judged = judge(reference, current)
    traits = {
        trait: {
            "grade": drift.grade,
            "distance": drift.distance,
            "psi": drift.psi,
            "ordinary": drift.ordinary,
            "mean_reference": None if kind == ARTIFACT else _score(counts, sides[0], i)["mean"],
            "mean_current": _score(counts, sides[1], i)["mean"],
            "median_reference": quantiles(reference.total[i], (0.5,))[0],
            "median_current": quantiles(current.total[i], (0.5,))[0],
        }
        for i, (trait, drift) in enumerate(judged.traits.items())
    }
    about |= {
        "verdict": worst([t["grade"] for t in traits.values()]),
        "by_authors": judged.by_authors,
        "by_days": judged.by_days,
        "reference_texts": int(reference.total.sum(-1).max()),
        "current_texts": int(current.total.sum(-1).max()),
        "traits": traits,
    }
    return about, reference.total


def _why_none(inputs: ReportInputs) -> str:
    """Why there is nothing to compare with."""
    if inputs.stretch.other_models:
        return "the partitions to compare with are of another model, and the artifact keeps no reference"
    if inputs.stretch.kind == ARTIFACT:
        return "the table has no earlier partition of this model, and the artifact keeps no reference"
    return "reference.kind is none"


def _run(record: Record) -> dict[str, Any]:
    """One run. Its seconds divide into the scoring steps and everything before, between and after them."""
    stages = dict(record.worker_seconds)
    rest = None
    if record.seconds is not None and record.scoring_seconds is not None:
        rest = max(0.0, record.seconds - record.scoring_seconds)
    return {
        "run_id": record.run_id,
        "started": record.started,
        "exit_code": record.exit_code,
        "message": record.message,
        "under_way": record.under_way,
        "seconds": record.seconds,
        "scoring_seconds": record.scoring_seconds,
        "other_seconds": rest,
        "worker_seconds": {name: stages.get(name) for name in ("tokenize", "model", "load")},
        "documents": record.documents,
        "documents_per_second": record.documents_per_second,
        "cores": record.cores,
        "core_seconds": record.core_seconds,
        "precision": record.precision,
        "device": record.device,
    }


def _cost(records: Sequence[Record], cost: CostSettings) -> dict[str, Any]:
    """Time and cost of all runs together, as far as their records say."""
    known = [r for r in records if r.core_seconds is not None]
    hours = sum(r.core_seconds or 0.0 for r in known) / 3600
    documents = sum(r.documents for r in known)
    money = hours * cost.per_core_hour if cost.per_core_hour is not None and known else None
    return {
        "runs": len(known),
        "seconds": sum(r.seconds or 0.0 for r in known),
        "core_hours": hours if known else None,
        "documents": documents,
        "documents_per_core_hour": documents / hours if hours else None,
        "per_core_hour": cost.per_core_hour,
        "currency": cost.currency,
        "money": money,
        "money_per_million": money / documents * 1e6 if money is not None and documents else None,
    }
