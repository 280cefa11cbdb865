"""Opposites mean the opposite, and what no rule is sure to turn round is left alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bigfive_udf.demo.opposites import opposite, with_opposites
from bigfive_udf.traits import TRAITS


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("I slam doors.", "I don't slam doors."),
        ("I don't slam doors.", "I slam doors."),
        ("I need a quiet corner.", "I don't need a quiet corner."),
        ("I am a good listener.", "I am not a good listener."),
        ("I'm not a good listener.", "I am a good listener."),
        ("I can sit still.", "I can't sit still."),
        ("I rarely slam doors.", "I often slam doors."),
        ("I always slam doors.", "I never slam doors."),
        ("I am seldom bored.", "I am often bored."),
        ("I have no patience.", "I have patience."),
        ("I have trouble sitting still.", "I have no trouble sitting still."),
        ("I find it hard to sit still.", "I find it easy to sit still."),
    ],
)
def test_a_simple_statement_is_turned_round(statement: str, expected: str) -> None:
    assert opposite(statement) == expected


@pytest.mark.parametrize(
    "statement",
    [
        "My word is my bond.",
        "I don't sing, and I don't dance.",
        "I sing but only at home.",
        "I see no point in singing.",
        "I would never sing.",
        "I never say what I don't mean.",
        "I played the drums.",
        "I have been to sea.",
        "I just sing.",
        "I sing in the morning and at noon and in the evening and again late at night.",
        "Itching powder is fun.",
    ],
)
def test_where_the_opposite_is_not_sure_there_is_none(statement: str) -> None:
    assert opposite(statement) is None


def test_labels_are_turned_round_and_missing_ones_stay_missing() -> None:
    rows = pd.DataFrame({"text": ["I slam doors.", "Doors are there to be slammed."]})
    labelled = rows.assign(**dict.fromkeys(TRAITS, np.nan))
    labelled["neuroticism"], labelled["agreeableness"] = [1.0, 1.0], [0.0, np.nan]
    doubled = with_opposites(labelled)
    assert doubled["text"].tolist() == [*rows["text"], "I don't slam doors."]
    assert doubled["neuroticism"].tolist() == [1.0, 1.0, 0.0]
    np.testing.assert_array_equal(doubled["agreeableness"], [0.0, np.nan, 1.0])
    assert doubled["openness"].isna().all()
