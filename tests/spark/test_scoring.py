"""How the rows of a step are spread over tasks."""

from __future__ import annotations

from decimal import Decimal
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigfive_udf.spark.job.scoring import same_together, task_count

SIZES = st.integers(0, 1 << 40)


@given(rows=st.integers(0, 10**9), size=SIZES, cores=st.integers(1, 2000), device=st.sampled_from(["cpu", "cuda"]))
def test_there_is_a_task_for_every_core_where_there_are_rows_for_it(rows, size, cores, device):
    tasks = task_count(rows, size, cores, device)
    assert 1 <= tasks <= max(1, rows)
    if rows >= 64 * cores:
        assert tasks % cores == 0 or tasks > rows - cores
        assert tasks >= min(cores, rows)
    if device == "cpu" and tasks <= 100_000 - cores:
        # No task is given much more than it should have, whatever the other measure says.
        assert rows <= tasks * 1024
        assert size <= tasks * (128 << 10) or tasks >= rows


def test_long_texts_make_more_tasks_than_short_ones():
    assert task_count(rows=10_000, size=500_000, cores=4, device="cpu") == 12
    assert task_count(rows=10_000, size=50_000_000, cores=4, device="cpu") == 384
    assert task_count(rows=10_000, size=50_000_000, cores=4, device="cuda") == 8


@given(rows=st.integers(0, 10**12), size=SIZES, cores=st.integers(1, 2000), device=st.sampled_from(["cpu", "cuda"]))
def test_there_are_not_more_tasks_than_a_driver_bears(rows, size, cores, device):
    assert task_count(rows, size, cores, device) <= 100_000
    assert task_count(4 * 10**8, 0, 512, "cpu") == 512 * 195


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_same_texts_meet_in_one_task_and_on_a_gpu_side_by_side(spark, device):
    texts = [f"text {i % 700}" for i in range(3000)] + [None, None]
    frame = spark.createDataFrame(list(enumerate(texts)), "id int, text string")
    found = same_together(frame, 3, "text", device).rdd.glom().collect()
    assert sorted((r.id, r.text) for part in found for r in part if r.text) == sorted(enumerate(texts[:-2]))
    assert len(found) == 3
    homes = [{r.text for r in part} for part in found]
    assert sum(len(home - {None}) for home in homes) == 700, "none in two tasks"
    runs = [len([text for text, _ in groupby(part, key=lambda r: r.text)]) for part in found]
    assert (runs == [len(h) for h in homes]) == (device == "cuda")
    orders = [[text for text, _ in groupby(part, key=lambda r: r.text or "")] for part in found]
    assert all(order != sorted(order) for order in orders)


def test_rows_without_a_text_are_spread_and_none_is_lost(spark):
    texts = [[None, " ", f"text {i % 7}"][i % 3] for i in range(6000)]
    columns = "id decimal(38,0), text string, about struct<a: int>, tags map<string, string>"
    rows = [(Decimal(i), text, (i,), {"a": "b"}) for i, text in enumerate(texts)]
    frame = spark.createDataFrame(rows, columns)
    found = same_together(frame, 4, "text", "cpu").rdd.glom().collect()
    assert sorted((r.id, r.text or "") for part in found for r in part) == [(i, t or "") for i, t in enumerate(texts)]
    for missing in (None, " "):
        share = [sum(r.text == missing for r in part) for part in found]
        assert min(share) > 300, f"{missing!r} is in few tasks: {share}"
    homes = [{r.text for r in part} - {None, " "} for part in found]
    assert sum(map(len, homes)) == 7, "none in two tasks"
    alone = spark.createDataFrame([(None,), ("a",)], "text string")
    assert same_together(alone, 2, "text", "cpu").count() == 2


def test_few_rows_are_not_spread_thin():
    assert task_count(rows=100, size=9_000, cores=64, device="cpu") == 2
    assert task_count(rows=3, size=1_000_000, cores=64, device="cpu") == 3
    assert task_count(rows=0, size=0, cores=64, device="cpu") == 1
