"""The evaluation of a model: figures with intervals, baselines to compare them with, and a verdict in words.

`evaluation.json` holds the result of `evaluation_of` and what the jobs add: the split, rows, model_id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from bigfive_udf.training.data import LabelledTexts
from bigfive_udf.training.metrics import LEAST_GROUPS, Predictions, evaluate
from bigfive_udf.traits import TRAITS

_MOST_R = 1 - 1e-12
BETTER, NOT_BETTER, UNKNOWN = "better than chance", "no better than chance", "not known"


def evaluation_of(
    predictions: Predictions, labelled: LabelledTexts, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """The figures of held-out rows; `labelled` holds the same rows with their scores and the order of the columns."""
    whom = "authors" if predictions.authors is not None else "texts"
    measured = evaluate(predictions, resamples=resamples, seed=seed)
    wider = ", widened by the square root of 2 for the cross-validation" if predictions.cross_validated else ""
    result: dict[str, Any] = {"intervals": f"95 %, bootstrap over {whom}, {resamples} resamples{wider}", **measured}
    if predictions.authors is not None:
        result["author_level"] = author_level(predictions, labelled, resamples=resamples, seed=seed)
    result["categorical_accuracy"] = categorical_accuracy(predictions, labelled.column_order)
    result["verdict"] = verdict(measured["traits"])
    return result


def author_level(
    predictions: Predictions, labelled: LabelledTexts, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """The figures per author instead of per text: the mean probability of an author's texts against the author's label.

    If an author's texts have different labels, the majority counts. If the label was a score, `pearson_r` is the
    correlation of the mean probability with the mean score, with its interval by Fisher's z. If each author is in one
    fold only, it is the mean over the folds, because different models are not compared.
    """
    assert predictions.authors is not None
    names, author = np.unique(predictions.authors, return_inverse=True)
    labels = _mean_by(author, predictions.labels, len(names))
    probabilities = _mean_by(author, predictions.probabilities, len(names))
    thresholds = _mean_by(author, np.broadcast_to(predictions.thresholds, predictions.labels.shape), len(names))
    folds = None
    if predictions.folds is not None:
        first = np.array([predictions.folds[author == a][0] for a in range(len(names))])
        # If an author's texts are in several folds, several models scored them: then all authors are compared.
        folds = first if (predictions.folds == first[author]).all() else None
    by_author = Predictions(
        np.where(np.isnan(labels), np.nan, labels >= 0.5), probabilities, thresholds, names, folds,
        cross_validated=predictions.cross_validated,
    )  # fmt: skip
    measured = evaluate(by_author, resamples=resamples, seed=seed)
    measured["authors"] = len(names)
    for i, trait in enumerate(TRAITS):
        if trait in labelled.cuts:
            scores = _mean_by(author, labelled.values, len(names))[:, i]
            r, between = _pearson(probabilities[:, i], scores, folds, predictions.cross_validated)
            measured["traits"][trait] |= {"pearson_r": r, "pearson_r_ci": between}
    return measured


def _mean_by(group: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """(rows, 5) -> (groups, 5) means of the values that are not NaN."""
    known = ~np.isnan(values)
    total = np.stack([np.bincount(group, np.where(k, v, 0), n) for k, v in zip(known.T, values.T, strict=True)], 1)
    count = np.stack([np.bincount(group, k, n) for k in known.T], 1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _pearson(
    x: np.ndarray, y: np.ndarray, folds: np.ndarray | None, cross_validated: bool
) -> tuple[float | None, list[float] | None]:
    """The mean over folds of the correlation, by Fisher's z, and its 95 % interval, widened as in `evaluate`."""
    known = ~np.isnan(x) & ~np.isnan(y)
    z, weights = [], []
    for fold in [known] if folds is None else [known & (folds == f) for f in np.unique(folds)]:
        if fold.sum() < LEAST_GROUPS or np.ptp(x[fold]) == 0 or np.ptp(y[fold]) == 0:
            continue
        z.append(np.arctanh(np.clip(np.corrcoef(x[fold], y[fold])[0, 1], -_MOST_R, _MOST_R)))
        weights.append(fold.sum() - 3)
    if not z:
        return None, None
    middle = np.average(z, weights=weights)
    half = stats.norm.ppf(0.975) / np.sqrt(sum(weights)) * (np.sqrt(2) if cross_validated else 1)
    r, low, high = (round(float(np.tanh(value)), 4) for value in (middle, middle - half, middle + half))
    return r, [low, high]


def categorical_accuracy(predictions: Predictions, column_order: Sequence[str]) -> dict[str, Any] | None:
    """What Keras calls `acc` for five sigmoids: how often the highest probability is that of the first positive label.

    It is not the accuracy of this task. It depends on `column_order`, the order of the label columns: argmax of a 0/1
    row is its first positive column, or the first column if none is positive. `base_rates_alone` is the value of a
    model that has learned only which trait is the most frequent. None where no row has all its labels, or there are
    fewer than two label columns.
    """
    order = [TRAITS.index(trait) for trait in column_order]
    labels, probabilities = predictions.labels[:, order], predictions.probabilities[:, order]
    whole = ~np.isnan(labels).any(1) & ~np.isnan(probabilities).any(1)
    if not whole.any() or len(order) < 2:
        return None
    first = labels[whole].argmax(1)
    return {
        "column_order": list(column_order),
        "value": round(float((probabilities[whole].argmax(1) == first).mean()), 4),
        "base_rates_alone": round(float((labels[whole].mean(0).argmax() == first).mean()), 4),
    }


def verdict(traits: Mapping[str, Any]) -> dict[str, Any]:
    """Whether each trait is better than chance, and by how much, corrected for all traits examined; and a summary."""
    said = {trait: _said_of(trait, measured) for trait, measured in traits.items()}
    better = [trait for trait, (kind, _) in said.items() if kind == BETTER]
    known = [trait for trait, (kind, _) in said.items() if kind != UNKNOWN]
    if not known:
        summary = "nothing is known: no trait has enough labels of both kinds"
    elif not better:
        summary = f"no better than chance for any of {len(known)} traits"
    elif len(better) == len(known):
        summary = f"better than chance for all {len(known)} traits" if len(known) > 1 else f"{known[0]}: {BETTER}"
    else:
        rest = ", ".join(trait for trait in known if trait not in better)
        summary = f"better than chance for {', '.join(better)}; no better than chance for {rest}"
    return {
        "summary": summary,
        "corrected_for_traits": len(known),
        "traits": {trait: {"verdict": kind, "text": text} for trait, (kind, text) in said.items()},
    }


def _said_of(trait: str, measured: Mapping[str, Any]) -> tuple[str, str]:
    if measured["roc_auc"] is None or measured["roc_auc_ci_corrected"] is None:
        why = "no labels of both kinds" if measured["roc_auc"] is None else "too few authors or rows of one kind"
        return UNKNOWN, f"{trait}: not known ({why})"
    low, high = measured["roc_auc_ci_corrected"]
    kind = BETTER if measured["better_than_chance_corrected"] else NOT_BETTER
    return kind, (
        f"{trait}: {kind}. It ranks {100 * measured['roc_auc']:.0f} of 100 pairs of a high and a low text rightly "
        f"({100 * low:.0f} to {100 * high:.0f}); guessing ranks 50. Accuracy {measured['accuracy']:.3f}; always "
        f"answering the more frequent label gets {measured['majority_accuracy']:.3f}"
    )


def table(evaluation: Mapping[str, Any]) -> str:
    """The figures that matter as plain text, one line per trait."""
    columns = {"balanced_accuracy": 10, "accuracy": 10, "majority_accuracy": 10, "f1": 7, "ece": 7}
    names = "".join(f"{key.split('_')[0]:>{width}}" for key, width in columns.items())
    lines = [f"{'':<18}{'ROC AUC':>8}  {'95 % interval':<15}{names}  verdict"]
    said = evaluation["verdict"]["traits"]
    for name, measured in [*evaluation["traits"].items(), ("macro average", evaluation["macro"])]:
        if measured["roc_auc"] is None:
            lines.append(f"{name:<18}{'-':>8}  {'':<58}{said.get(name, {}).get('verdict', '')}")
            continue
        low, high = measured["roc_auc_ci"]
        figures = "".join(
            f"{measured[key]:>{width}.3f}" if measured[key] is not None else f"{'-':>{width}}"
            for key, width in columns.items()
        )
        lines.append(
            f"{name:<18}{measured['roc_auc']:>8.3f}  {f'{low:.3f} to {high:.3f}':<15}{figures}"
            f"  {said[name]['verdict'] if name in said else ''}"
        )
    return "\n".join(line.rstrip() for line in lines)


def evaluation_lines(evaluation: Mapping[str, Any]) -> list[str]:
    """What a user reads first: the origin of the figures, the figures, the verdict, and what could mislead."""
    lines = [f"figures of {origin(evaluation)}", "", table(evaluation), ""]
    lines.append(f"verdict: {evaluation['verdict']['summary']}")
    keras = evaluation.get("categorical_accuracy")
    if keras is not None:
        lines.append(
            f"Keras would call {keras['value']:.3f} its accuracy (categorical accuracy; the base rates alone give "
            f"{keras['base_rates_alone']:.3f} in this order of columns): see docs/why-27-percent.md"
        )
    if evaluation.get("split") == "random":
        lines.append(
            "warning: a random split. Where authors have several texts, these figures show authors, not traits: "
            "set data.author_column"
        )
    return lines


def origin(evaluation: Mapping[str, Any]) -> str:
    """Which rows the figures come from, in words."""
    rows, authors = evaluation["rows"], evaluation.get("authors") or {}
    part = "test" if "test" in rows else "out_of_fold"
    whose = f" by {authors[part]:,} authors (column {evaluation['author_column']})" if part in authors else ""
    if evaluation.get("seen_rows"):
        return (
            f"{rows[part]:,} texts{whose}, of which the model was trained on {evaluation['seen_rows']:,}: they flatter"
        )
    if evaluation.get("trained_on") == "not known":
        return f"{rows[part]:,} texts{whose}; what the model was trained on is not known"
    shared = evaluation.get("shared_texts", 0)
    rest = f" ({shared:,} more are left out: another author has the same text among what was trained on)" * bool(shared)
    if part == "test":
        return f"{rows[part]:,} test texts{whose}, on which nothing was fitted{rest}"
    held = "saw neither it nor its author" if evaluation.get("split") == "author" else "did not see it"
    return f"{rows[part]:,} texts{whose}, each predicted by a model that {held}{rest}"
