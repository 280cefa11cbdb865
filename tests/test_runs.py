"""A run's log is kept as it grows, and a long one not whole at every event."""

from __future__ import annotations

import json

from bigfive_udf.runs import Run


def test_a_log_is_kept_at_each_event_while_it_is_short_and_whole_at_the_end():
    kept: list[str] = []
    run = Run("score", keep_log=kept.append)
    for step in range(2000):
        run.log("committed", step=step)
    assert 100 <= len(kept) < 200
    run.flush_log()
    assert [json.loads(line)["step"] for line in kept[-1].splitlines()] == list(range(2000))
    assert {json.loads(line)["run_id"] for line in kept[-1].splitlines()} == {run.run_id}


def test_a_run_without_events_leaves_no_log():
    kept: list[str] = []
    Run("score", keep_log=kept.append).flush_log()
    assert kept == []
