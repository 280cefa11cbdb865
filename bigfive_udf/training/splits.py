"""Which rows are trained on and which are held out: by author or at random, stratified over the five labels.

A greedy assignment after the idea of Sechidis et al. 2011 (stratification of multilabel data), applied to whole
groups as scikit-learn's StratifiedGroupKFold does for a single label. Groups are assigned in order of size. Each goes
to the part where it brings the shares of rows, and of each trait's positives and negatives, nearest to the wanted ones.

The same rows and seed give the same parts, whatever the order of the rows. But: the shares are met only approximately
where few groups hold most rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from bigfive_udf.errors import InputError
from bigfive_udf.training.data import LabelledTexts
from bigfive_udf.traits import TRAITS

_RANDOMNESS = 0.005
"""roughly, how much better than the others a part must be to be chosen whatever the seed is"""


def groups_of(labelled: LabelledTexts, by: str) -> np.ndarray:
    """(n,) str: the group of a row, never on two sides: its author, or in a random split its text, so no copy leaks."""
    if by == "author" and labelled.authors is not None:
        return labelled.authors
    return labelled.text_digests


def folds_of(groups: np.ndarray, values: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """(n,) the fold of each row, 0 to folds - 1; see `parts_of`.

    Raises:
        InputError: there are fewer groups than folds.
    """
    return parts_of(groups, values, [1 / folds] * folds, seed)


def parts_of(groups: np.ndarray, values: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """(n,) int: the part of each row, an index into `shares`; no group is in two parts.

    `groups` (n,) names each row's group, `values` (n, 5) holds labels or scores, NaN where missing. A score counts
    as positive from the trait's median on, so that the parts are alike whatever the cut will be.

    Raises:
        InputError: there are fewer groups than parts.
    """
    names, group = np.unique(groups, return_inverse=True)
    wanted = np.asarray(shares, float)
    used = np.flatnonzero(wanted)
    if len(names) < len(used):
        raise InputError(
            f"{len(names)} authors or texts can't be split into {len(used)} parts: set fewer split.folds, "
            "or bring texts by more authors"
        )
    content = _content(group, values, len(names))
    total = np.where(content.sum(0) > 0, content.sum(0), 1)
    content = content / total
    dice = _dice(names, seed, len(used))
    order = np.lexsort((dice[:, 0], -content.sum(1)))
    filled = np.zeros((len(used), content.shape[1]))
    part = np.empty(len(names), int)
    for g in order:
        # How much the sum of squared distances from the wanted shares falls, for each part that could get this group.
        missing = wanted[used, None] - filled
        gain = (missing * content[g]).sum(1) / wanted[used]
        # Of parts that are about equally good, choose one at random by its share (Gumbel's trick), so that the most
        # diligent author is not always trained on.
        chosen = int(np.argmax(gain + _RANDOMNESS * np.abs(gain).max() * (np.log(wanted[used]) + dice[g])))
        filled[chosen] += content[g]
        part[g] = used[chosen]
    _fill_empty(part, used, content)
    return part[group]


def in_another_part(texts: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """(n,) whether another author has the same text in another part: then the row is not held out from that part.

    `texts` (n,) holds equal names for equal texts, `parts` (n,) int.
    """
    _, text = np.unique(texts, return_inverse=True)
    n = text.max(initial=-1) + 1
    first = np.full(n, np.iinfo(int).max)
    np.minimum.at(first, text, parts)
    last = np.full(n, -1)
    np.maximum.at(last, text, parts)
    return np.asarray((first != last)[text])


def _content(group: np.ndarray, values: np.ndarray, n_groups: int) -> np.ndarray:
    """(groups, 1 + 10): rows, and positives and negatives of each trait."""
    columns = [np.ones(len(group), bool)]
    for column in values.T:
        known = ~np.isnan(column)
        scores = len(np.unique(column[known])) > 2
        high = column >= np.median(column[known]) if scores else column > 0.5
        columns += [known & high, known & ~high]
    return np.stack([np.bincount(group, weights=c.astype(float), minlength=n_groups) for c in columns], axis=1)


def _dice(names: np.ndarray, seed: int, n: int) -> np.ndarray:
    """(groups, n) draws of Gumbel's distribution that depend on the group's name and the seed alone."""
    prefix = f"{seed}\0"
    digests = (hashlib.shake_256(f"{prefix}{name}".encode("utf-8", "surrogatepass")).digest(4 * n) for name in names)
    uniform = (np.frombuffer(b"".join(digests), np.uint32).reshape(-1, n) + 0.5) / 2**32
    return -np.log(-np.log(uniform))


def _fill_empty(part: np.ndarray, used: np.ndarray, content: np.ndarray) -> None:
    """Give each part that got no group the smallest group of the part with the most groups."""
    for p in used:
        if not (part == p).any():
            richest = used[np.argmax([(part == q).sum() for q in used])]
            candidates = np.flatnonzero(part == richest)
            part[candidates[np.argmin(content[candidates].sum(1))]] = p


def check_parts(labels: np.ndarray, parts: dict[str, np.ndarray]) -> None:
    """Refuse parts in which a labelled trait has one class only: nothing could be learned there, or nothing measured.

    `labels` (n, 5); `parts` maps a name for messages to a mask of rows.

    Raises:
        InputError: naming the trait, the part and the cure.
    """
    for i, trait in enumerate(TRAITS):
        if np.isnan(labels[:, i]).all():
            continue
        for name, rows in parts.items():
            known = labels[rows, i][~np.isnan(labels[rows, i])]
            if len(np.unique(known)) == 2:
                continue
            what = (
                f"all {len(known)} labels are {'positive' if known.sum() else 'negative'}" if len(known) else "no label"
            )
            raise InputError(
                f"{trait}: {what} in {name}: set fewer split.folds or larger split.fractions, another train.seed, "
                "or leave the trait out of data.label_columns"
            )
