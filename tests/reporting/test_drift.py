"""What the grades of drift are worth: shifts that are planted are called, and where there is none, none is.

The texts are drawn as real ones lie: authors are alike in themselves (intraclass correlation 0.3), a few write most of
it, and the oracle is that we know what was planted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from bigfive_udf.reporting.bins import BINS, EDGES, counted, cumulative
from bigfive_udf.reporting.drift import LARGE, NONE, SMALL, UNKNOWN, Judgement, Side, judge, stability_index, worst
from bigfive_udf.reporting.reference import held_out_reference, read_reference
from bigfive_udf.traits import TRAITS

TEXTS, THIRD, ALIKE, SEEDS = 5000, 1 / 3, 0.3, 20


@dataclass(frozen=True)
class Authors:
    """How many texts each writes, what they are like, and the group that their name falls into."""

    sizes: np.ndarray
    likes: np.ndarray
    groups: np.ndarray


def invent(rng: np.random.Generator, groups: int = 256) -> Authors:
    """About 900: half of them write three texts or fewer, the most active ones close to a hundred."""
    sizes = np.ceil(rng.lognormal(1.2, 1.0, size=TEXTS)).astype(int)
    sizes = sizes[: int(np.searchsorted(np.cumsum(sizes), TEXTS)) + 1]
    sizes[-1] -= sizes.sum() - TEXTS
    return Authors(sizes, rng.normal(size=(len(sizes), 5)), rng.integers(groups, size=len(sizes)))


def write(
    rng: np.random.Generator, authors: Authors, days: int = 7, shift: float = 0.0, restless: float = 0.0, alike=ALIKE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, 5) probabilities, and each text's author and day. Extraversion is shifted by so many standard deviations."""
    whose = rng.permutation(np.repeat(np.arange(len(authors.sizes)), authors.sizes))
    day = rng.integers(days, size=len(whose))
    own = np.sqrt(1 - alike) * rng.normal(size=(len(whose), 5))
    scores = np.sqrt(alike) * authors.likes[whose] + own + restless * rng.normal(size=(days, 5))[day]
    scores[:, 0] += shift
    return 1 / (1 + np.exp(-(0.9 * scores - 0.2))), whose, day


def side(probabilities: np.ndarray, group: np.ndarray, day: np.ndarray, groups: int = 256) -> Side:
    """Counted as the table's rows are."""
    days = int(day.max()) + 1

    def histograms(key: np.ndarray, n: int) -> np.ndarray:
        found = [np.searchsorted(EDGES, p, side="right") for p in probabilities.T]
        return np.stack([np.bincount(key * BINS + b, minlength=n * BINS).reshape(n, BINS) for b in found], 1)

    cell = day * groups + group
    sums = [np.bincount(cell, p, days * groups).reshape(days, groups) for p in probabilities.T]
    counts = np.bincount(cell, minlength=days * groups).reshape(days, groups)
    return Side(
        histograms(group, groups), histograms(day, days), np.stack(sums, -1), np.repeat(counts[..., None], 5, -1)
    )


def compared(seed: int, shift: float, same_authors: bool, days: tuple[int, int] = (7, 7), **how: float) -> Judgement:
    rng = np.random.default_rng(seed)
    first = invent(rng)
    sides = []
    for authors, n, moved in ((first, days[0], 0.0), (first if same_authors else invent(rng), days[1], shift)):
        probabilities, whose, day = write(rng, authors, n, moved, **how)
        sides.append(side(probabilities, authors.groups[whose], day))
    return judge(sides[0], sides[1], seed)


def without_authors(seed: int, shift: float) -> Judgement:
    """The same authors on both sides, as in any week, but nothing in the table says who they are."""
    rng = np.random.default_rng(seed)
    authors = invent(rng)
    sides = []
    for moved in (0.0, shift):
        probabilities, whose, day = write(rng, authors, 10, moved)
        sides.append(side(probabilities, np.zeros_like(whose), day, groups=1))
    return judge(sides[0], sides[1], seed)


WORLDS: dict[str, Callable[[int, float], Judgement]] = {
    "other authors on each side": lambda seed, shift: compared(seed, shift, same_authors=False),
    "the same authors on both sides": lambda seed, shift: compared(seed, shift, same_authors=True),
    "one partition a side": lambda seed, shift: compared(seed, shift, same_authors=False, days=(1, 1)),
    "no author column, by partition": without_authors,
}


@pytest.mark.parametrize("world", WORLDS)
def test_a_shift_of_a_third_of_a_standard_deviation_is_called_and_no_shift_is_not(world):
    make = WORLDS[world]
    found = [make(seed, THIRD).traits["extraversion"] for seed in range(SEEDS)]
    called = sum(drift.grade in (SMALL, LARGE) for drift in found)
    nothing = [make(100 + seed, 0.0).traits.values() for seed in range(SEEDS)]
    false = sum(worst([drift.grade for drift in traits]) != NONE for traits in nothing)
    # Not only because a distance below 0.05 is none, whatever is ordinary.
    beyond = sum(any(drift.distance > drift.ordinary for drift in traits) for traits in nothing)
    print(f"{world}: called in {called} of {SEEDS} seeds; any trait called for nothing in {false}, beyond in {beyond}")
    assert called >= 19
    assert false <= 1
    assert beyond <= 1
    # A third of a standard deviation of a normal distribution: 2 * Phi(1/6) - 1 and 1/9.
    assert np.mean([drift.distance for drift in found]) == pytest.approx(2 * stats.norm.cdf(1 / 6) - 1, abs=0.02)
    assert np.mean([drift.psi for drift in found]) == pytest.approx(1 / 9, abs=0.03)


def test_a_test_of_single_texts_would_sound_false_alarms():
    """What the resampling of authors is for: the same weeks, judged as if each text had an author of its own."""
    false = 0
    for seed in range(SEEDS):
        rng = np.random.default_rng(100 + seed)
        both = [write(rng, invent(rng))[0][:, 0] for _ in range(2)]
        false += stats.ks_2samp(*both).pvalue < 0.05
    assert false >= 5


def test_days_that_differ_anyway_are_no_drift_however_many_texts_they_have():
    """A quarter of a standard deviation from day to day: seen in any comparison of two weeks, and no news."""
    false = 0
    for seed in range(SEEDS):
        found = compared(seed, 0.0, same_authors=True, restless=0.25)
        assert found.by_days
        false += worst([d.grade for d in found.traits.values()]) != NONE
    assert false <= 1
    plain = compared(0, 0.0, same_authors=True, restless=0.0).traits
    wild = compared(0, 0.0, same_authors=True, restless=0.25).traits
    assert all(wild[trait].ordinary > 2 * plain[trait].ordinary for trait in TRAITS)


def test_authors_in_groups_vary_as_much_as_authors_one_by_one():
    """Over many tables the spread of the mean, by groups of a hash, is that which the tables have among them."""
    means, estimated = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        authors = invent(rng, groups=64)
        probabilities, whose, _ = write(rng, authors)
        p, group = probabilities[:, 0], authors.groups[whose]
        means.append(p.mean())
        estimated.append((np.bincount(group, p - p.mean(), 64) ** 2).sum() / TEXTS**2)
    assert np.mean(estimated) == pytest.approx(np.var(means), rel=0.2)
    single = np.mean([write(np.random.default_rng(0), invent(np.random.default_rng(0)))[0][:, 0].var() / TEXTS])
    assert np.mean(estimated) > 4 * single, "or the texts were not alike, and this shows nothing"


def test_a_shift_that_is_sure_and_tiny_is_none_and_one_of_a_standard_deviation_is_large():
    assert compared(1, 0.06, same_authors=True, alike=0.9).traits["extraversion"].grade == NONE
    assert compared(1, 1.0, same_authors=False).traits["extraversion"].grade == LARGE


def test_where_nobody_can_know_what_is_ordinary_the_grade_says_so():
    rng = np.random.default_rng(0)
    probabilities, whose, day = write(rng, invent(rng), days=1)
    alone = side(probabilities, np.zeros_like(whose), day, groups=1)
    found = judge(alone, alone)
    assert {drift.grade for drift in found.traits.values()} == {UNKNOWN}
    assert (found.by_authors, found.by_days) == (False, False)
    assert found.traits["openness"].distance == 0


def test_one_author_who_writes_nearly_everything_is_no_yardstick():
    rng = np.random.default_rng(0)
    probabilities, whose, day = write(rng, invent(rng), days=1)
    group = np.where(np.arange(len(whose)) % 50, 7, whose % 256)
    assert not judge(side(probabilities, group, day), side(probabilities, group, day)).by_authors


def test_a_trait_without_scores_is_not_known_and_disturbs_no_other():
    rng = np.random.default_rng(0)
    probabilities, whose, day = write(rng, invent(rng))
    made = side(probabilities, whose % 256, day)
    for array in (made.by_group, made.by_day):
        array[:, 3] = 0
    made.sums[..., 3] = made.counts[..., 3] = 0
    grades = {trait: drift.grade for trait, drift in judge(made, made).traits.items()}
    assert grades == {trait: UNKNOWN if trait == "conscientiousness" else NONE for trait in TRAITS}


def test_the_distance_is_that_of_scipy_to_within_a_bin():
    rng = np.random.default_rng(3)
    a, b = rng.beta(2, 5, size=4000), rng.beta(2.4, 5, size=3000)
    ours = np.abs(cumulative(counted(a)) - cumulative(counted(b))).max()
    assert ours == pytest.approx(stats.ks_2samp(a, b).statistic, abs=0.005)
    assert ours <= stats.ks_2samp(a, b).statistic + 1e-12


def test_the_stability_index_is_its_formula_over_the_references_tenths():
    rng = np.random.default_rng(4)
    a, b = rng.random(100_000), rng.beta(1.3, 1, size=100_000)
    edges = np.arange(1, 10) / 10  # tenths of a uniform reference
    shares = [np.bincount(np.searchsorted(edges, x), minlength=10) / len(x) for x in (a, b)]
    expected = ((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum()
    assert stability_index(counted(a), counted(b)) == pytest.approx(expected, rel=0.05)
    assert stability_index(counted(a), counted(a)) == 0


def test_the_artifacts_held_out_texts_are_a_reference_too(tmp_path):
    called = false = 0
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        authors = invent(rng)
        probabilities, whose, _ = write(rng, authors)
        (tmp_path / "reference.json").write_text(json.dumps(held_out_reference(probabilities, whose)))
        stored = read_reference(tmp_path)
        assert stored is not None
        assert stored.total.sum() == TEXTS * 5
        assert max(stored.effective) < TEXTS / 2, "texts of one author are not independent"
        for shift in (0.0, THIRD):
            others = invent(rng)
            probabilities, whose, day = write(rng, others, shift=shift)
            found = judge(stored, side(probabilities, others.groups[whose], day), seed)
            if shift:
                called += found.traits["extraversion"].grade in (SMALL, LARGE)
            else:
                false += worst([d.grade for d in found.traits.values()]) != NONE
    # Where nothing is known of the table's authors, the artifact's own uncertainty still counts.
    few = json.loads((tmp_path / "reference.json").read_text())
    for trait in few["traits"].values():
        trait["effective_texts"] = 20
    (tmp_path / "reference.json").write_text(json.dumps(few))
    vague, nobody = read_reference(tmp_path), side(probabilities, np.zeros_like(whose), day, groups=1)
    assert vague is not None
    assert judge(vague, nobody).traits["openness"].ordinary > 0.2 > judge(stored, nobody).traits["openness"].ordinary
    print(f"against an artifact: called in {called} of {SEEDS}, for nothing in {false}")
    assert called >= 19
    assert false <= 1
    assert read_reference(tmp_path / "nowhere") is None
