"""The pictures of a model card: ROC curves, calibration, and how the training went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats
from sklearn.metrics import roc_curve

from bigfive_udf.training.finetune import Epoch
from bigfive_udf.training.metrics import Predictions
from bigfive_udf.traits import TRAITS

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#8A8A8A"  # told apart by the colour-blind too (Okabe and Ito)
_GRID = np.linspace(0, 1, 101)
_IN_BIN, _LEAST_BINS, _MOST_BINS = 12, 3, 10


def draw_roc(path: Path, predictions: Predictions, measured: Mapping[str, Any]) -> None:
    """A curve per trait; with folds it is the mean of the folds' curves, as the area is the mean of their areas."""

    def panel(axes: Axes, i: int, y: np.ndarray, p: np.ndarray, folds: np.ndarray) -> None:
        curves, weights = [], []
        for fold in np.unique(folds):
            labels, scores = y[folds == fold], p[folds == fold]
            if len(np.unique(labels)) == 2:
                fpr, tpr, _ = roc_curve(labels, scores)
                curves.append(np.interp(_GRID, fpr, tpr))
                weights.append(labels.sum() * (1 - labels).sum())
        axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", label="guessing")
        if curves:
            mean = np.average(curves, axis=0, weights=weights)
            axes.plot(np.append(0, _GRID), np.append(0, mean), color=_BLUE, linewidth=2, label="this model")
            found = measured[TRAITS[i]]
            low, high = found["roc_auc_ci"]
            text = f"area {found['roc_auc']:.2f}\n{low:.2f} to {high:.2f}"
            axes.text(0.97, 0.05, text, ha="right", va="bottom", fontsize=9, transform=axes.transAxes)
        axes.set_xlabel("false positive rate")

    _panels(path, predictions, panel, "true positive rate")


def draw_calibration(path: Path, predictions: Predictions, uncalibrated: np.ndarray) -> None:
    """The share of high texts among texts with about the same probability: on the diagonal, if the two are equal.

    The bars are Wilson's 95 % intervals of the share, as if each text had its own author. `uncalibrated` are the
    probabilities before calibration, (rows, 5).
    """

    def panel(axes: Axes, i: int, y: np.ndarray, p: np.ndarray, folds: np.ndarray) -> None:
        known = _known(predictions, i)
        count = min(_MOST_BINS, max(_LEAST_BINS, len(y) // _IN_BIN))
        axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", label="ideal")
        for values, colour, marker, name in (
            (uncalibrated[known, i], _ORANGE, "s", "before calibration"),
            (p, _BLUE, "o", "as scored"),
        ):
            bins = [b for b in np.array_split(np.argsort(values, kind="stable"), count) if len(b)]
            points = np.array([(values[b].mean(), y[b].mean()) for b in bins])
            axes.plot(*points.T, color=colour, marker=marker, markersize=4, linewidth=1, label=name)
            if name == "as scored":
                ranges = [stats.binomtest(int(y[b].sum()), len(b)).proportion_ci(method="wilson") for b in bins]
                axes.vlines(points[:, 0], *zip(*ranges, strict=True), color=colour, linewidth=0.8, alpha=0.6)
        axes.set_xlabel("probability")

    _panels(path, predictions, panel, "share that is high")


def draw_training(path: Path, curves: Sequence[Sequence[Epoch]]) -> None:
    """Loss by epoch and, with a validation part, its ROC AUC; one line per model, the artifact's line is thick."""
    validated = any(epoch.validation_roc_auc is not None for epochs in curves for epoch in epochs)
    figure = Figure(figsize=(8 if validated else 4.5, 3), layout="constrained")
    axes: list[Axes] = list(figure.subplots(1, 2 if validated else 1, squeeze=False)[0])
    for n, epochs in enumerate(curves):
        last = n == len(curves) - 1
        style: dict[str, Any] = {"linewidth": 2 if last else 0.8, "alpha": 1 if last else 0.6, "marker": "."}
        steps = np.arange(1, len(epochs) + 1)
        label = ("this model" if last else "folds and seeds") if n in (0, len(curves) - 1) else None
        axes[0].plot(steps, [e.loss for e in epochs], color=_BLUE if last else _GREY, label=label, **style)
        if validated:
            with_loss = [(s, e.validation_loss) for s, e in zip(steps, epochs, strict=True) if e.validation_loss]
            if with_loss:
                axes[0].plot(
                    *zip(*with_loss, strict=True),
                    color=_ORANGE,
                    linestyle="--",
                    label="validation" if last or n == 0 else None,
                    **style,
                )
                aucs = [e.validation_roc_auc for e in epochs if e.validation_roc_auc is not None]
                axes[1].plot([s for s, _ in with_loss], aucs, color=_ORANGE, linestyle="--", **style)
    axes[0].set_ylabel("loss")
    axes[0].legend(fontsize=8, frameon=False)
    if validated:
        axes[1].axhline(0.5, color=_GREY, linestyle=":")
        axes[1].set_ylabel("validation ROC AUC, mean of traits")
    for one in axes:
        one.set_xlabel("epoch")
        one.xaxis.set_major_locator(MaxNLocator(integer=True))
        one.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _panels(
    path: Path,
    predictions: Predictions,
    panel: Callable[[Axes, int, np.ndarray, np.ndarray, np.ndarray], None],
    ylabel: str,
) -> None:
    figure = Figure(figsize=(12, 3.1), layout="constrained")
    all_axes = figure.subplots(1, len(TRAITS), sharey=True)
    for i, axes in enumerate(all_axes):
        known = _known(predictions, i)
        axes.set(title=TRAITS[i], xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.spines[["top", "right"]].set_visible(False)
        if known.any():
            folds = np.zeros(len(known), int) if predictions.folds is None else predictions.folds
            panel(axes, i, predictions.labels[known, i], predictions.probabilities[known, i], folds[known])
        else:
            axes.text(0.5, 0.5, "no labels", ha="center", color=_GREY, transform=axes.transAxes)
    all_axes[0].set_ylabel(ylabel)
    drawn = next((axes for axes in all_axes if axes.get_legend_handles_labels()[0]), None)
    if drawn is not None:
        figure.legend(*drawn.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    _save(figure, path)


def _known(predictions: Predictions, i: int) -> np.ndarray:
    return ~np.isnan(predictions.labels[:, i]) & ~np.isnan(predictions.probabilities[:, i])


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110, metadata={"Software": None})
