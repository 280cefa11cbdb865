"""Windows, batches and means: properties that hold for any lengths."""

from __future__ import annotations

import doctest
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigfive_udf.model import batching
from bigfive_udf.model.batching import BATCH_OVERHEAD, WindowRule, filled, mean_by_document, plan_batches, split_windows

rules = st.integers(1, 60).flatmap(
    lambda capacity: st.builds(
        WindowRule, st.just(capacity), st.integers(0, capacity - 1), st.one_of(st.none(), st.integers(1, 9))
    )
)


def test_examples_in_the_docstrings():
    assert doctest.testmod(batching).failed == 0
    assert doctest.testmod(batching).attempted > 0


@given(st.integers(1, 2000), rules)
def test_windows_cover_the_text_evenly_and_within_capacity(n_tokens, rule):
    windows, truncated = split_windows(n_tokens, rule)
    sizes = [stop - start for start, stop in windows]
    assert max(sizes) <= rule.capacity
    assert max(sizes) - min(sizes) <= 1
    assert windows[0][0] == 0
    for (_, stop), (start, _) in pairwise(windows):
        assert stop - start == rule.overlap
    if truncated:
        assert len(windows) == rule.max_windows
        assert windows[-1][1] < n_tokens
    else:
        assert windows[-1][1] == n_tokens


@given(st.integers(1, 2000), rules)
def test_no_fewer_windows_would_do(n_tokens, rule):
    windows, truncated = split_windows(n_tokens, rule)
    reach_of_one_less = rule.capacity + (len(windows) - 2) * (rule.capacity - rule.overlap)
    assert truncated or len(windows) == 1 or reach_of_one_less < n_tokens


@given(st.lists(st.integers(1, 600), max_size=200), st.integers(1, 4000))
def test_every_window_is_in_one_batch_and_no_batch_is_too_large(lengths, budget):
    batches = plan_batches(np.array(lengths, dtype=int), budget)
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= budget
    firsts = [lengths[batch[0]] for batch in batches]
    assert firsts == sorted(firsts, reverse=True), "longest first"


@given(st.lists(st.integers(1, 60), max_size=9, unique=True), st.integers(60, 400))
def test_no_other_cut_of_the_lengths_costs_less(lengths, budget):
    """Each length once, so that every plan is a way to cut the sorted lengths, and all of them can be tried."""
    lengths = sorted(lengths, reverse=True)

    def cost(plan):
        return sum(filled(len(batch) * max(batch)) + budget * BATCH_OVERHEAD for batch in plan)

    best = float("inf")
    for cuts in product([False, True], repeat=max(0, len(lengths) - 1)):
        plan = [[n] for n in lengths[:1]]
        for cut, length in zip(cuts, lengths[1:], strict=True):
            plan = [*plan, [length]] if cut else [*plan[:-1], [*plan[-1], length]]
        if all(len(batch) == 1 or len(batch) * max(batch) <= budget for batch in plan):
            best = min(best, cost(plan))
    planned = [[lengths[i] for i in batch] for batch in plan_batches(np.array(lengths, dtype=int), budget)]
    assert cost(planned) == pytest.approx(best if lengths else 0)


def test_texts_of_one_length_fill_batches_and_are_not_padded():
    batches = plan_batches(np.array([20] * 120 + [19] * 60), 1000)
    assert [len(batch) for batch in batches] == [48, 48, 24 + 8, 52], "960 tokens are filled by none"


@pytest.mark.parametrize(("length", "count", "budget"), [(20, 51, 1024), (20, 50, 1000), (59, 17, 1024)])
def test_texts_of_one_length_that_fit_one_batch_stay_together(length, count, budget):
    assert [len(batch) for batch in plan_batches(np.full(count, length), budget)] == [count]


def test_where_nothing_is_filled_up_batches_are_as_large_as_allowed():
    lengths = np.full(170, 59)  # 17 x 59 would be filled by 21, 13 x 59 by 1
    assert {len(batch) for batch in plan_batches(lengths, 1024)} == {13, 170 % 13}
    assert {len(batch) for batch in plan_batches(lengths, 1024, computed=int)} == {17}


def test_no_bound_costs_no_more_than_a_large_one():
    assert len(plan_batches(np.arange(1, 600), 10**12)) == 1


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(-5, 5), st.integers(1, 50)), max_size=60))
def test_means_belong_to_their_document_in_any_order(windows):
    document = np.array([d for d, _, _ in windows], dtype=int)
    values = np.array([[v, -v] for _, v, _ in windows]).reshape(-1, 2)
    weights = np.array([w for _, _, w in windows], dtype=float)
    means = mean_by_document(values, document, weights, 10)
    for d in range(10):
        mine = [(v, w) for e, v, w in windows if e == d]
        if not mine:
            assert np.isnan(means[d]).all()
            continue
        expected = sum(v * w for v, w in mine) / sum(w for _, w in mine)
        np.testing.assert_allclose(means[d], [expected, -expected], atol=1e-9)


@pytest.mark.parametrize("wrong", [{"capacity": 0}, {"capacity": 5, "overlap": 5}, {"capacity": 5, "max_windows": 0}])
def test_impossible_rules_are_refused(wrong):
    with pytest.raises(ValueError, match=r"\d"):
        WindowRule(**wrong)
