"""What the workers did is added up without changing what a reader holds, nor copying what stays."""

from __future__ import annotations

import copy
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bigfive_udf.model.scores import Effort
from bigfive_udf.spark.workers.notes import MOST, Heard, Note
from bigfive_udf.spark.workers.tally import MOST_EXCERPTS, Tally

NOTES = st.builds(Note, st.just("WARNING"), st.just("x"), st.text("ab", max_size=1))
HEARD = st.dictionaries(NOTES, st.integers(1, 3), max_size=3).map(lambda d: Heard(d, dict.fromkeys(d, "host:1")))
TALLIES = st.builds(
    Tally,
    documents=st.integers(0, 9),
    effort=st.builds(Effort, tokens=st.integers(0, 9), windows=st.integers(0, 9)),
    loads=st.dictionaries(st.sampled_from("ab"), st.integers(1, 2)).map(Counter),
    excerpts=st.lists(st.text("xy", max_size=2), max_size=MOST_EXCERPTS),
    threads=st.integers(0, 4),
    heard=HEARD,
)


@given(st.lists(TALLIES, max_size=6))
def test_nothing_is_lost_and_no_reader_sees_a_change(tallies):
    seen, kept = [Tally()], [Tally()]
    for tally in tallies:
        seen.append(seen[-1] + tally)
        kept.append(copy.deepcopy(seen[-1]))
    assert seen == kept, "additions change nothing that was there before"
    total = seen[-1]
    assert total.documents == sum(t.documents for t in tallies)
    assert total.effort.tokens == sum(t.effort.tokens for t in tallies)
    assert total.loads == sum((t.loads for t in tallies), Counter())
    assert total.excerpts == [e for t in tallies for e in t.excerpts][:MOST_EXCERPTS]
    assert total.threads == max((t.threads for t in tallies), default=0)
    assert total.heard.times == dict(sum((Counter(t.heard.times) for t in tallies), Counter()))


def test_what_a_task_adds_nothing_to_is_not_copied():
    many = Tally(loads=Counter({f"host:{i}": 1 for i in range(8000)}), excerpts=["x"], heard=Heard({}, {}, 1))
    after = many + Tally(documents=1, effort=Effort(tokens=7))
    assert (after.loads is many.loads, after.excerpts is many.excerpts, after.heard is many.heard) == (True, True, True)
    assert (after.documents, after.effort.tokens, many.documents) == (1, 7, 0)


def test_no_more_messages_are_kept_than_allowed():
    first = Heard({Note("WARNING", "x", str(i)): 1 for i in range(MOST)}, {})
    more = Heard({Note("WARNING", "x", "other"): 2}, {Note("WARNING", "x", "other"): "host:1"}, 3)
    both = first + more
    assert (len(both.times), both.left_out, first.left_out) == (MOST, 5, 0)
