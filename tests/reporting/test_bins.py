"""Counting in bins loses no probability and little of where it was."""

from __future__ import annotations

import numpy as np
import pytest

from bigfive_udf.reporting.bins import BINS, DRAWN, EDGES, counted, drawn, quantiles


@pytest.mark.parametrize(("a", "b"), [(1, 1), (2, 8), (0.3, 30), (30, 0.3), (300, 300)])
def test_quantiles_are_numpys_to_within_a_bin(a, b):
    p = np.random.default_rng(0).beta(a, b, size=3001)
    shares = (0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999)
    bounds = np.concatenate([[0], EDGES, [1]])
    for found, exact in zip(quantiles(counted(p), shares), np.quantile(p, shares), strict=True):
        at = np.searchsorted(bounds, exact, side="right") - 1
        assert found == pytest.approx(exact, abs=1.5 * (bounds[at + 1] - bounds[at]))


def test_every_probability_is_in_one_bin_the_ends_and_edges_too():
    p = np.array([0.0, 1e-9, *EDGES, 0.5, 1.0, np.nan])
    assert counted(p).sum() == len(p) - 1
    assert counted(np.array([0.0]))[0] == counted(np.array([1.0]))[-1] == 1
    assert counted(EDGES).tolist() == [0, *[1] * (BINS - 1)], "an edge is of the bin above it"
    assert quantiles(np.zeros(BINS, int), (0.5,)) == [None]
    assert quantiles(counted(np.full(9, 0.25)), (0.5,)) == [pytest.approx(0.255)]


def test_bins_that_are_drawn_are_twentieths():
    p = np.random.default_rng(1).random(5000)
    assert drawn(counted(p)).tolist() == np.histogram(p, bins=[i / DRAWN for i in range(DRAWN + 1)])[0].tolist()
