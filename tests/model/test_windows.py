"""Windows in arrays: the ids of a batch are those of its texts, whatever windows it takes and in which order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bigfive_udf.model.batching import WindowRule, split_windows
from bigfive_udf.model.windows import Windows

PAD = 99
TEXTS = st.lists(st.lists(st.integers(0, 60), max_size=23), max_size=12)


@given(
    texts=TEXTS,
    capacity=st.integers(2, 9),
    max_windows=st.sampled_from([None, 1, 2]),
    dressed=st.booleans(),
    data=st.data(),
)
def test_a_batch_holds_the_windows_that_it_names(texts, capacity, max_windows, dressed, data):
    prefix, suffix = ([101], [102, 103]) if dressed else ([], [])
    rule = WindowRule(capacity, overlap=1, max_windows=max_windows)
    windows = Windows.cut([(7 * i, ids) for i, ids in enumerate(texts)], rule, prefix, suffix)
    cut = [split_windows(len(ids), rule) for ids in texts]
    expected = [(7 * i, ids[start:stop]) for i, ids in enumerate(texts) for start, stop in cut[i][0]]
    assert windows.document.tolist() == [i for i, _ in expected]
    assert windows.weight.tolist() == [len(ids) for _, ids in expected]
    assert windows.truncated == [7 * i for i, (_, too_long) in enumerate(cut) if too_long]
    rows = [prefix + ids + suffix for _, ids in expected]
    assert windows.lengths.tolist() == [len(row) for row in rows] and len(windows) == len(rows)
    if not rows:
        return
    batch = np.array(data.draw(st.lists(st.sampled_from(range(len(rows))), min_size=1, unique=True)))
    assert windows.end_to_end(batch).tolist() == [token for w in batch for token in rows[w]]
    longest = max(len(rows[w]) for w in batch)
    assert windows.padded(batch, PAD).tolist() == [rows[w] + [PAD] * (longest - len(rows[w])) for w in batch]
