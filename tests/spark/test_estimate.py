"""Rates that a run takes from the ledger: of its own model and settings, and for the cores that it has."""

from __future__ import annotations

from typing import Any

import pytest

from bigfive_udf.model.hardware import Placement
from bigfive_udf.spark.job.estimate import Rates, remembered
from bigfive_udf.tables.fingerprint import ScoreRecipe
from bigfive_udf.tables.ledger import COMMITTED, Entry

SETTINGS = {"text.long_documents": "windows"}


def rates(*about: dict[str, Any], device: str = "cpu", n_cores: int = 8) -> Rates | None:
    """What is remembered of entries of 1,000 documents with 20 tokens each, in the order of their commits."""
    usual = {"documents": 1000, "n_tokens": 20_000, "seconds": 10.0, "cores": 4, "model_id": "a", "precision": "bf16"}
    entries = {
        f"dt={i}": Entry(
            f"dt={i}", {"dt": str(i)}, COMMITTED, i, f"c{i}", "r", "2026-01-01",
            **(usual | {"settings": SETTINGS, "device": "cpu"} | one),
        )
        for i, one in enumerate(about)
    }  # fmt: skip
    return remembered(entries, ScoreRecipe("a", SETTINGS, (), {}), Placement(device, "bf16"), n_cores)


def test_a_rate_is_reckoned_for_the_cores_that_there_are():
    source = "the last 2 partitions that this model has scored, reckoned for 8 cores"
    assert rates({}, {"cores": 16, "seconds": 2.5}) == Rates(200.0, 20.0, source)


def test_what_a_gpu_did_is_taken_as_it_is():
    found = rates({"device": "cuda", "cores": 64}, {}, device="cuda")
    assert found == Rates(100.0, 20.0, "the last 1 partition that this model has scored")


def test_entries_of_versions_without_cores_and_device_count_as_they_are():
    found = rates({"cores": 0, "device": ""})
    assert found == Rates(100.0, 20.0, "the last 1 partition that this model has scored")


def test_those_in_the_same_precision_count_if_there_are_any():
    slow = {"precision": "fp32", "seconds": 20.0}
    both, alone = rates(slow, {}), rates(slow)
    assert both is not None and alone is not None
    assert (both.documents_per_second, alone.documents_per_second) == (200.0, 100.0)


@pytest.mark.parametrize(
    "other",
    [
        {"model_id": "b"},
        {"device": "cuda"},
        {"settings": {"text.long_documents": "truncate"}},
        {"seconds": 0.0},
        {"documents": 0},
    ],
)
def test_partitions_that_were_scored_otherwise_tell_nothing(other):
    assert rates(other) is None


def test_only_the_last_partitions_count():
    found = rates(*[{"seconds": 1000.0}] * 300, *[{}] * 200)
    assert found is not None and found.documents_per_second == 200.0
