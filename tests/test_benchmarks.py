"""What benchmarks compare must be the same thing: the texts that they say, and engines that agree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.engines import ENGINES, available, prepare
from benchmarks.loops import Process
from benchmarks.workloads import LONG, MIXED, REPEATED, SHORT, WORKLOADS, Texts
from models import TRAINING_TEXT

EXAMPLES = [" ".join(TRAINING_TEXT[i % 5].split()[: 1 + i % 11]) for i in range(70)]


def words(texts: list[str]) -> np.ndarray:
    return np.array([len(t.split()) for t in texts])


@pytest.mark.parametrize("given", [False, True])
def test_workloads_are_what_they_are_called(given, tmp_path):
    source = Texts()
    if given:
        for name, texts in (("short", Texts().of(SHORT, 300)), ("long", Texts().of(LONG, 30))):
            pq.write_table(pa.table({"text": [*texts, None, " "]}), tmp_path / name)
        source = Texts(str(tmp_path / "short"), str(tmp_path / "long"))
    found = {name: source.of(name, 1000) for name in WORKLOADS}
    assert {name: len(texts) for name, texts in found.items()} == dict.fromkeys(WORKLOADS, 1000)
    for name in (SHORT, LONG, MIXED):
        assert len(set(found[name])) == 1000, name
    assert len(set(found[REPEATED])) == 700
    assert 10 < words(found[SHORT]).mean() < 20
    assert words(found[LONG]).mean() > 250
    assert (words(found[MIXED]) > 1500).sum() == 10
    assert found == {name: source.of(name, 1000) for name in WORKLOADS}, "the same texts whenever they are asked for"


def test_all_engines_that_are_here_agree(checkpoint, tmp_path):
    path = checkpoint("distilbert")
    exact = ENGINES["transformers"](path)(EXAMPLES)
    names = [n for n in available() if "int8" not in n]
    prepare(path, names, EXAMPLES)
    assert {"ours fp32", "transformers"} <= set(names)
    for name in names:
        atol = 0.02 if "bf16" in name else 1e-5
        np.testing.assert_allclose(ENGINES[name](path)(EXAMPLES), exact, atol=atol, err_msg=name)


def test_an_engine_in_a_process_of_its_own_answers_with_scores_and_memory(checkpoint, tmp_path):
    path = checkpoint("distilbert")
    (tmp_path / "texts.json").write_text(json.dumps(EXAMPLES))
    process = Process("ours fp32", Path(path))
    process.ask(tmp_path / "texts.json", tmp_path / "scores.npy")
    memory = process.answer()
    process.close()
    assert 50 < memory["private_mb"] <= memory["resident_mb"]
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), ENGINES["transformers"](path)(EXAMPLES), atol=1e-5)
