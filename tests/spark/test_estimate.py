"""Rates that a run takes from the ledger: of its own model, and for the cores that it has."""

from __future__ import annotations

from typing import Any

from bigfive_udf.spark.job.estimate import remembered
from bigfive_udf.tables.ledger import COMMITTED, Entry


def entries(*about: dict[str, Any]) -> dict[str, Entry]:
    """Entries of 1,000 documents with 20 tokens each, in the order of their commits."""
    numbers = {"documents": 1000, "n_tokens": 20_000, "seconds": 10.0, "cores": 4, "model_id": "a"}
    return {
        f"dt={i}": Entry(f"dt={i}", {"dt": str(i)}, COMMITTED, i, f"c{i}", "r", "2026-01-01", **(numbers | one))
        for i, one in enumerate(about)
    }


def test_a_rate_is_reckoned_for_the_cores_that_there_are():
    found = remembered(entries({}, {"cores": 16, "seconds": 2.5}), "a", n_cores=8)
    assert found is not None
    assert (found.documents_per_second, found.tokens_per_document) == (200.0, 20.0)
    assert found.source == "the last 2 partitions that this model has scored, reckoned for 8 cores"


def test_entries_of_versions_without_cores_count_as_they_are():
    found = remembered(entries({"cores": 0}), "a", n_cores=8)
    assert found is not None
    assert (found.documents_per_second, found.source) == (100.0, "the last 1 partitions that this model has scored")


def test_another_model_and_partitions_without_a_time_tell_nothing():
    assert remembered(entries({"model_id": "b"}, {"seconds": 0.0}, {"documents": 0}), "a", n_cores=8) is None


def test_only_the_last_partitions_count():
    found = remembered(entries(*[{"seconds": 1000.0}] * 300, *[{}] * 200), "a", n_cores=4)
    assert found is not None and found.documents_per_second == 100.0
