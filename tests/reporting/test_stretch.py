"""Which partitions a page shows, and which it compares."""

from __future__ import annotations

from typing import Any

import pytest

from bigfive_udf.errors import InputError, SettingsError
from bigfive_udf.reporting.stretch import ARTIFACT, NOTHING, OWN_HALF, TABLE, Stretch, choose, in_order
from bigfive_udf.settings.report import ReferenceSettings, ReportedPartitionsSettings
from bigfive_udf.tables.ledger import COMMITTED, Entry


def entry(value: str | None, model: str = "m", run: str = "20260101T000000Z-a", column: str = "dt") -> Entry:
    return Entry(f"{column}={value}", {column: value}, COMMITTED, 1, "c", run, "now", model_id=model)


DAYS = {e.partition: e for e in (entry(f"2026-01-{day:02d}") for day in range(1, 31))}


def chosen(entries: dict[str, Entry] = DAYS, reference: dict[str, Any] | None = None, **wanted: Any) -> Stretch:
    return choose(entries, ("dt",), ReportedPartitionsSettings(**wanted), ReferenceSettings(**reference or {}))


def days(side: tuple[Entry, ...]) -> str:
    values = [str(e.values["dt"])[-2:] for e in side]
    return f"{values[0]}-{values[-1]}" if values else ""


@pytest.mark.parametrize(
    ("wanted", "reference", "sides"),
    [
        ({}, {}, ("03-30", "01-02", "03-30")),
        ({"last": 7}, {}, ("24-30", "01-23", "24-30")),
        ({"last": 7}, {"last": 14}, ("24-30", "10-23", "24-30")),
        ({"since": "dt=2026-01-05", "until": "dt=2026-01-06"}, {}, ("05-06", "01-04", "05-06")),
        ({"last": 7}, {"since": "dt=2026-01-10", "until": "dt=2026-01-12"}, ("24-30", "10-12", "24-30")),
        ({"last": 7}, {"since": "dt=2026-01-10"}, ("24-30", "10-23", "24-30")),
        ({"last": 7}, {"until": "dt=2026-01-25", "last": 2}, ("24-30", "24-25", "26-30")),
        ({"until": "dt=2026-01-06"}, {}, ("01-06", "01-03", "04-06")),
        ({"until": "dt=2026-01-03"}, {}, ("01-03", "", "01-03")),
    ],
)
def test_a_page_and_what_it_is_compared_with(wanted, reference, sides):
    found = chosen(reference=reference, **wanted)
    assert (days(found.shown), days(found.reference), days(found.current)) == sides


def test_where_the_reference_comes_from_is_told():
    assert chosen(last=7).kind == TABLE
    assert chosen(until="dt=2026-01-06").kind == OWN_HALF
    assert chosen(until="dt=2026-01-03").kind == ARTIFACT
    assert chosen(reference={"kind": "none"}).kind == NOTHING
    assert chosen(last=7).whole
    assert not chosen(until="dt=2026-01-06").whole


def test_probabilities_of_two_models_are_not_compared():
    mixed = DAYS | {e.partition: e for e in (entry(f"2026-01-{day:02d}", "old") for day in range(1, 26))}
    found = chosen(mixed, last=7)
    assert (days(found.shown), days(found.reference), days(found.current)) == ("24-30", "26-27", "28-30")
    assert (found.kind, found.other_models) == (OWN_HALF, 2)
    assert chosen(mixed, {"until": "dt=2026-01-27"}, last=7).other_models == 25


def test_one_run_is_the_partitions_that_it_committed():
    later = DAYS | {e.partition: e for e in (entry("2026-01-07", run="20260102T000000Z-b"), entry("2026-02-01"))}
    assert days(chosen(later, run="20260102T000000Z-b").shown) == "07-07"


def test_numbers_are_in_the_order_of_numbers_and_nulls_come_last():
    found = in_order([entry(v, column="n") for v in ("10", None, "9", "-1")])
    assert [e.values["n"] for e in found] == ["-1", "9", "10", None]


@pytest.mark.parametrize(
    ("wanted", "reference", "error", "message"),
    [
        ({"since": "2026"}, {}, SettingsError, r"partitions\.since 2026: write it as column=value"),
        ({"since": "dt=2027"}, {}, InputError, r"no partition of the table lies there; it has dt=2026-01-01 to"),
        ({}, {"until": "dt=2026-01-30", "last": 100}, SettingsError, "nothing of the page is left to be judged"),
        ({"until": "dt=2026-01-06"}, {"kind": "table"}, InputError, "no partition lies before dt=2026-01-01"),
    ],
)
def test_what_can_not_be_chosen_is_refused(wanted, reference, error, message):
    with pytest.raises(error, match=message):
        chosen(reference=reference, **wanted)
    with pytest.raises(InputError, match="no partition yet"):
        chosen({}, {}, **wanted)
