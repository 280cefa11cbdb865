"""No author is on two sides, no row is lost, labels are spread evenly, and the same seed gives the same split."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from bigfive_udf.errors import InputError
from bigfive_udf.training.data import LabelledTexts
from bigfive_udf.training.splits import check_parts, folds_of, groups_of, in_another_part, parts_of
from bigfive_udf.traits import TRAITS

RATES = [0.42, 0.37, 0.53, 0.46, 0.74]


def table(authors: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Authors of very different diligence, each with a label per trait: groups (n,), values (n, 5)."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((authors, 5)) < RATES).astype(float)
    texts = np.maximum(1, rng.lognormal(2, 1, authors)).astype(int)
    return np.repeat([f"a{i}" for i in range(authors)], texts), np.repeat(labels, texts, axis=0)


@given(
    authors=st.lists(st.integers(0, 12), min_size=1, max_size=60),
    weights=st.lists(st.integers(1, 8), min_size=1, max_size=6),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_every_row_is_in_one_part_and_no_author_in_two(
    authors: list[int], weights: list[int], seed: int, data: st.DataObject
) -> None:
    groups = np.array([f"a{a}" for a in authors])
    cells = st.sampled_from([0.0, 1.0, np.nan, 2.5])
    values = np.array(data.draw(st.lists(st.tuples(*[cells] * 5), min_size=len(groups), max_size=len(groups))))
    shares = [w / sum(weights) for w in weights]
    if len(set(authors)) < len(shares):
        with pytest.raises(InputError, match="can't be split into"):
            parts_of(groups, values, shares, seed)
        return
    parts = parts_of(groups, values, shares, seed)
    assert set(parts.tolist()) == set(range(len(shares))), "no part is empty, no row is in none"
    assert all(len(set(parts[groups == g].tolist())) == 1 for g in set(groups.tolist()))
    order = np.array(data.draw(st.permutations(range(len(groups)))))
    again = parts_of(groups[order], values[order], shares, seed)
    np.testing.assert_array_equal(again, parts[order], "the order of the rows decides nothing")


def test_a_part_of_share_zero_gets_nothing() -> None:
    groups, values = table(60)
    assert set(parts_of(groups, values, [0.8, 0.2, 0.0], 0).tolist()) == {0, 1}


def test_another_seed_is_another_split_and_shares_are_kept() -> None:
    groups, values = table(300)
    first, other = (parts_of(groups, values, [0.8, 0.1, 0.1], seed) for seed in (0, 1))
    assert (first != other).mean() > 0.1
    np.testing.assert_allclose(np.bincount(first) / len(first), [0.8, 0.1, 0.1], atol=0.01)


def unevenness(parts: np.ndarray, values: np.ndarray) -> float:
    """Mean distance of the parts' shares of positives from the whole table's."""
    whole = np.nanmean(values, axis=0)
    return float(np.mean([np.abs(np.nanmean(values[parts == p], axis=0) - whole) for p in np.unique(parts)]))


def test_all_five_labels_are_spread_more_evenly_than_by_scikit_learn() -> None:
    """Which stratifies over one label: here the combination of the five, which few authors share."""
    ours, theirs = [], []
    for seed in range(5):
        groups, values = table(150, seed)
        ours.append(unevenness(folds_of(groups, values, 5, seed), values))
        combination = (values @ 2 ** np.arange(5)).astype(int)
        parts = np.empty(len(groups), int)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some combinations have fewer rows than folds
            splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
            for fold, (_, held) in enumerate(splitter.split(groups, combination, groups)):
                parts[held] = fold
        theirs.append(unevenness(parts, values))
    assert np.mean(ours) < 0.5 * np.mean(theirs)


def test_scores_are_spread_evenly_too() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat([f"a{i}" for i in range(100)], 10)
    values = np.repeat(rng.normal(3, 1, (100, 5)), 10, axis=0)
    parts = folds_of(groups, values, 5, 0)
    high = (values >= np.median(values, axis=0)).astype(float)
    assert unevenness(parts, high) < 0.03


def test_at_random_copies_of_a_text_stay_together() -> None:
    texts = [f"text {i % 40}" for i in range(200)]
    found = LabelledTexts(texts, np.array([f"a{i % 7}" for i in range(200)]), np.full((200, 5), np.nan), {}, ())
    parts = folds_of(groups_of(found, "random"), np.tile([0.0, 1, 0, 1, 0], (200, 1)), 5, 0)
    assert all(len({p for t, p in zip(texts, parts.tolist(), strict=True) if t == text}) == 1 for text in set(texts))
    assert groups_of(found, "author").tolist() == found.authors.tolist()  # type: ignore[union-attr]


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 3)), max_size=30))
def test_a_text_that_stands_in_another_part_too_is_known(rows: list[tuple[str, int]]) -> None:
    texts, parts = np.array([t for t, _ in rows], str), np.array([p for _, p in rows], int)
    expected = [any(t == text and p != part for t, p in rows) for text, part in rows]
    assert in_another_part(texts, parts).tolist() == expected


def test_a_trait_with_one_class_in_a_part_is_refused() -> None:
    labels = np.tile([0.0, 1.0], (5, 5)).reshape(10, 5)
    labels[:5, TRAITS.index("openness")] = 1
    parts = {"the test part": np.arange(10) < 5, "the train part": np.arange(10) >= 5}
    with pytest.raises(
        InputError, match=r"openness: all 5 labels are positive in the test part: .*data\.label_columns"
    ):
        check_parts(labels, parts)
    labels[:5, TRAITS.index("openness")] = np.nan
    with pytest.raises(InputError, match="openness: no label in the test part"):
        check_parts(labels, parts)
    labels[:, TRAITS.index("openness")] = np.nan
    check_parts(labels, parts)  # a trait without any label is masked, not refused
