"""Who is held out: decided, and checked, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bigfive_udf.errors import InputError
from bigfive_udf.settings.train import PARTS, TrainSettings
from bigfive_udf.training import splits
from bigfive_udf.training.data import LabelledTexts


@dataclass(frozen=True)
class HoldoutPlan:
    """Who is held out: `parts` (n,) is a fold, or an index into `PARTS` where there are no folds."""

    parts: np.ndarray
    folds: int
    by: str
    shared: np.ndarray
    """(n,) mask of rows of a held-out part that are not held out, because their text is in another part too"""

    @property
    def names(self) -> np.ndarray:
        """(n,) the part of each row as it is stored with the artifact."""
        if self.folds:
            return np.array([f"fold {p}" for p in self.parts.tolist()])
        return np.array([PARTS[p] for p in self.parts.tolist()])


def holdout_plan(settings: TrainSettings, labelled: LabelledTexts, test: LabelledTexts | None = None) -> HoldoutPlan:
    """Split the rows; `test` holds the rows of `data.test_path`, which must be other texts by other authors.

    Raises:
        InputError: fewer authors than folds, a trait that has one class only in a part, nothing to report on, or
            texts or authors that are in both tables.
    """
    if test is not None:
        _check_apart(settings, labelled, test)
    by, folds, seed = settings.split_by, settings.split.folds, settings.train.seed
    groups = splits.groups_of(labelled, by)
    if folds:
        parts = splits.folds_of(groups, labelled.values, folds, seed)
        shared = splits.in_another_part(labelled.text_digests, parts)
        for fold in range(folds):
            labels, _ = labelled.labels(parts != fold)
            held = (parts == fold) & ~shared
            splits.check_parts(labels, {f"fold {fold + 1}": held, f"all folds but {fold + 1}": parts != fold})
            stopping_part(settings, labelled, by, parts != fold, f"fold {fold + 1}")
        return HoldoutPlan(parts, folds, by, shared)
    shares = [settings.split.fractions[name] for name in PARTS]
    if shares[PARTS.index("test")] == 0 and settings.data.test_path is None:
        raise InputError("split.fractions.test is 0 and there is no data.test_path: no figure could be reported")
    parts = splits.parts_of(groups, labelled.values, shares, seed)
    labels, _ = labelled.labels(parts == 0)
    shared = splits.in_another_part(labelled.text_digests, parts) & (parts != 0)
    splits.check_parts(labels, {f"the {PARTS[p]} part": (parts == p) & ~shared for p in np.unique(parts)})
    return HoldoutPlan(parts, folds, by, shared)


def stopping_part(
    settings: TrainSettings, labelled: LabelledTexts, by: str, training: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """If early stopping is on, set aside authors of `training`, a mask, for it, so that held-out ones decide nothing.

    Returns the mask of the rows that are left to train on, and the mask for early stopping or None.

    Raises:
        InputError: no trait has labels of both kinds in the part for early stopping, so epochs can't be compared.
    """
    if settings.train.early_stopping is None:
        return training, None
    share = settings.split.fractions["validation"]
    groups = splits.groups_of(labelled, by)[training]
    inner = splits.parts_of(groups, labelled.values[training], [1 - share, share], settings.train.seed)
    rows = np.flatnonzero(training)
    rest, aside = (np.isin(np.arange(len(training)), rows[inner == part]) for part in (0, 1))
    labels = labelled.labels(training)[0][aside]
    if not any((column == 0).any() and (column == 1).any() for column in labels.T):
        raise InputError(
            f"{name}: no trait has labels of both kinds in the {aside.sum():,} texts that train.early_stopping is to "
            f"stop by: set a larger split.fractions.validation than {share:g}, or train.early_stopping to null"
        )
    return rest, aside


def _check_apart(settings: TrainSettings, labelled: LabelledTexts, test: LabelledTexts) -> None:
    """Refuse a test table that shares texts or authors with the training table."""
    shared = [("texts", set(labelled.texts) & set(test.texts))]
    if settings.split_by == "author" and labelled.authors is not None and test.authors is not None:
        shared.append(("authors", set(labelled.authors.tolist()) & set(test.authors.tolist())))
    for what, both in shared:
        if both:
            raise InputError(
                f"{len(both)} {what} of data.test_path {settings.data.test_path} are in data.path too: take them out "
                "of one of the two, or the figures would flatter"
            )
    everything = np.ones(len(test), bool)
    splits.check_parts(test.labels(everything)[0], {"data.test_path": everything})
