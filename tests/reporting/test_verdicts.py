"""The words of the first screen, and the numbers as a person reads them."""

from __future__ import annotations

from typing import Any

import pytest

from bigfive_udf.reporting.history import Record, failures
from bigfive_udf.reporting.page import _KINDS
from bigfive_udf.reporting.verdicts import BAD, GOOD, LOOK, OPEN, Verdict, verdicts
from bigfive_udf.tables.ledger import COMMITTED, Entry

RUN = {"exit_code": 0, "under_way": False, "seconds": 9.0, "documents_per_second": 1.0, "message": ""}
FAILURE = {"partition": "dt=1", "mended_by": None, "kept": False, "gone_by": None}
TRAITS = {"openness": {"verdict": "better than chance"}, "extraversion": {"verdict": "better than chance"}}
GOOD_MODEL = {"known": True, "split": "author", "seen_rows": 0, "authors": 5, "traits": TRAITS}


def said(**changes: Any) -> dict[str, Verdict]:
    figures = {
        "stretch": {"partitions": 2},
        "texts": {"failed": 0},
        "runs": [RUN],
        "failures": [],
        "drift": {"kind": "table", "verdict": "none", "traits": {"openness": {"grade": "none"}}},
        "model": GOOD_MODEL,
    }
    ran, failed, drifted, good = verdicts(figures | changes)
    return {"ran": ran, "failed": failed, "drifted": drifted, "good": good}


def test_all_is_well_only_where_all_is():
    assert {v.mark for v in said().values()} == {GOOD}


@pytest.mark.parametrize(
    ("card", "changes", "mark", "answer"),
    [
        ("ran", {"runs": []}, OPEN, "partitions hold"),
        ("ran", {"runs": [RUN | {"under_way": True, "exit_code": None}]}, LOOK, "partitions hold"),
        ("failed", {"failures": [FAILURE]}, BAD, "Yes: dt=1"),
        ("failed", {"failures": [FAILURE | {"mended_by": "r"}]}, LOOK, "Not any more"),
        ("failed", {"failures": [FAILURE | {"gone_by": "r"}]}, LOOK, "Not any more"),
        ("failed", {"texts": {"failed": 3}}, LOOK, "Single texts"),
        ("failed", {"texts": {"failed": 3}, "runs": [RUN | {"exit_code": 1}]}, BAD, "The last run"),
        ("failed", {"runs": [RUN, RUN | {"under_way": True, "exit_code": None}]}, OPEN, "Not known yet"),
        ("failed", {"runs": [RUN, RUN | {"exit_code": 7, "message": "full"}]}, BAD, "The last run"),
        ("failed", {"runs": [RUN | {"exit_code": None}, RUN]}, LOOK, "Not any more"),
        ("drifted", {"drift": {"kind": "none", "verdict": "not known", "traits": {}, "why_none": "no"}},
         OPEN, "Not known"),
        ("drifted", {"drift": {"kind": "table", "verdict": "small", "traits": {"openness": {"grade": "small"}}}},
         LOOK, "Yes, small: openness"),
        ("drifted", {"drift": {"kind": "table", "verdict": "large", "traits": {"openness": {"grade": "large"}}}},
         BAD, "Yes, large: openness"),
        ("good", {"model": {"known": False, "why": "it is gone"}}, OPEN, "Nothing is known"),
        ("good", {"model": GOOD_MODEL | {"split": "random"}}, LOOK, "Better than chance for all traits"),
        ("good", {"model": GOOD_MODEL | {"traits": {"openness": {"verdict": "no better than chance"}}}},
         BAD, "No better than chance for openness"),
    ],
)  # fmt: skip
def test_what_is_not_well_is_said(card, changes, mark, answer):
    verdict = said(**changes)[card]
    assert verdict.mark == mark
    assert answer in verdict.answer


def test_a_failure_counts_until_a_later_run_has_scored_the_partition():
    def record(run_id: str, *failed: str) -> Record:
        return Record(
            run_id, 5, "", False, "", 1.0, 1.0, 1, 1.0, {}, 1, "cpu", "fp32", frozenset(), dict.fromkeys(failed, "why")
        )

    def entry(name: str, run_id: str) -> Entry:
        return Entry(name, {"dt": name}, COMMITTED, 1, "c", run_id, "now")

    records = [record("1", "a", "b", "c"), record("2", "c")]
    found = failures(records, {"a": entry("a", "2"), "b": entry("b", "0")})
    assert [(f.partition, f.run_id, f.mended_by, f.kept) for f in found] == [
        ("c", "2", None, False),
        ("b", "1", None, True),
        ("a", "1", "2", False),
    ]


def test_a_partition_that_keeps_its_older_rows_is_not_called_missing():
    assert "the rows that it had before" in said(failures=[FAILURE | {"kept": True}])["failed"].more
    assert "No later run" in said(failures=[FAILURE | {"kept": True}, FAILURE])["failed"].more


def test_a_failure_ends_with_a_run_that_looked_through_the_corpus_and_did_not_find_it():
    def record(run_id: str, code: int, whole: bool, *failed: str) -> Record:
        told = dict.fromkeys(failed, "why")
        return Record(
            run_id, code, "", False, "", 1.0, 1.0, 1, 1.0, {}, 1, "cpu", "fp32", frozenset(), told, whole_corpus=whole
        )

    first = record("1", 5, True, "a", "b")
    assert [f.gone_by for f in failures([first, record("2", 0, False)], {})] == [None, None]
    assert [f.gone_by for f in failures([first, record("2", 8, True)], {})] == [None, None]
    found = failures([first, record("2", 5, True, "b"), record("3", 5, True, "b")], {})
    assert [(f.partition, f.gone_by) for f in found] == [("b", None), ("a", "2")]


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("share", 0.4237, "42.4 %"),
        ("share", 0.0004, "0.04 %"),
        ("share", 0.00001, "<0.01 %"),
        ("share", 0, "0 %"),
        ("duration", 8.42, "8.4 s"),
        ("duration", 140.4, "2 min 20 s"),
        ("duration", 7322, "2 h 2 min"),
        ("int", 20000, "20,000"),
        ("rate", 86.51, "86.5"),
        ("rate", 145443.2, "145,443"),
    ],
)
def test_numbers_are_written_for_people(kind, value, text):
    assert _KINDS[kind](value) == text
