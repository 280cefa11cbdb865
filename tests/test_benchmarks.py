"""What benchmarks compare must be the same thing: the texts that they say, and engines that agree."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import gpu, growth, picture
from benchmarks.loops import dealt, engine_process
from benchmarks.peak import executed
from benchmarks.support.engines import ENGINES, are_whole, available, prepare
from benchmarks.support.flags import parser
from benchmarks.support.rates import marginal_rate
from benchmarks.support.results import save
from benchmarks.support.served import REPOSITORY, Served
from benchmarks.support.workloads import LONG, MIXED, REPEATED, SHORT, WORKLOADS, Texts
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.model.batching import filled
from bigfive_udf.model.hardware import Placement
from support.models import TRAINING_TEXT

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
        atol = 0.05 if "bf16" in name else 1e-5
        np.testing.assert_allclose(ENGINES[name](path)(EXAMPLES), exact, atol=atol, err_msg=name)


def test_an_engine_in_a_process_of_its_own_answers_with_scores_and_memory(checkpoint, tmp_path):
    path = checkpoint("distilbert")
    (tmp_path / "texts.json").write_text(json.dumps(EXAMPLES))
    engine = engine_process("ours fp32", Path(path))
    engine.ask([str(tmp_path / "texts.json"), str(tmp_path / "scores.npy")])
    memory = engine.answer()
    engine.close()
    assert 50 < memory["private_mb"] <= memory["resident_mb"]
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), ENGINES["transformers"](path)(EXAMPLES), atol=1e-5)


def test_a_process_that_cannot_serve_is_told_with_what_it_said(tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)--serve none .* has ended with 1 .*KeyError: 'none'"):
        Served("benchmarks.loops", "--serve", "none", str(tmp_path), log=tmp_path / "log")


def test_answers_are_told_from_what_a_framework_prints(tmp_path):
    (tmp_path / "chatty.py").write_text(
        "import os\n"
        "from benchmarks.support.served import serve\n"
        "print('loading\\n' * 100_000)\n"
        "serve(lambda question: print('50 %', end='') or os.system('echo more') or question + 1)\n"
    )
    environment = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
    with Served("chatty", log=tmp_path / "log", environment=environment) as chatty:
        for question in (1, 5):
            chatty.ask(question)
        assert (chatty.answer(), chatty.answer()) == (2, 6)
    assert (tmp_path / "log").read_text().count("more") == 2


def test_a_flag_whose_default_is_a_list_takes_several_values():
    args = parser(None, "short", size=["minilm"], repeats=3).parse_args(["--size", "distilbert", "minilm"])
    assert vars(args) == {"short": None, "size": ["distilbert", "minilm"], "repeats": 3, "output": None}
    assert parser(None, size="minilm").parse_args([]).size == "minilm"


def test_a_marginal_rate_leaves_out_what_every_job_costs():
    """A job of n texts takes 5 s and then 0.1 s a text; each costs a tenth of a second more than the one before it."""
    delays = itertools.count()
    rate = marginal_rate(lambda texts: 5 + 0.1 * len(texts) + 0.1 * next(delays), ["a"] * 10, ["a"] * 110)
    assert rate == pytest.approx(10)


def test_texts_are_whole_if_no_engine_truncates_them(checkpoint):
    path = checkpoint("distilbert")
    assert are_whole(path, [" ".join(["a"] * n) for n in (1, 510, 511)]).tolist() == [True, True, False]


@given(st.lists(st.text("ab ", max_size=40), max_size=30), st.integers(1, 4))
def test_texts_are_dealt_evenly_and_the_same_ones_to_one_process(texts, hands):
    parts = dealt(texts, hands)
    assert len(parts) == hands
    assert sorted(itertools.chain(*parts)) == sorted(texts)
    assert sum(len(set(part)) for part in parts) == len(set(texts))
    heaviest = max((len(t) * n for t, n in Counter(texts).items()), default=0)
    sizes = [sum(map(len, part)) for part in parts]
    assert max(sizes) - min(sizes) <= heaviest


def test_the_long_texts_of_a_mixed_workload_are_shared_out():
    parts = dealt(Texts().of(MIXED, 400), 2)
    assert [(words(part) > 1500).sum() for part in parts] == [2, 2]


@pytest.mark.parametrize("share", [1, 4])
def test_both_jobs_of_a_marginal_rate_have_long_texts_and_repeats_in_the_same_share(share):
    small, large = (texts[: len(texts) // share] for texts in Texts().jobs(MIXED, 400, 2000, seed=1))
    assert [(words(texts) > 1500).mean() for texts in (small, large)] == [0.01, 0.01]
    assert small == large[: len(small)]
    small, large = Texts().jobs(REPEATED, 500, 4000, seed=1)
    assert [len(set(texts)) / len(texts) for texts in (small, large)] == [0.7, 0.7]


def test_results_say_what_they_were_measured_with(tmp_path):
    save(tmp_path / "x.json", {"seconds": [1.5]}, master="local[2]")
    found = json.loads((tmp_path / "x.json").read_text())
    assert (found["results"], found["master"]) == ({"seconds": [1.5]}, "local[2]")
    assert found["versions"]["torch"] == torch.__version__
    assert found["machine"]["cores"] == os.cpu_count() and found["machine"]["processor"]


def test_our_int8_is_close_to_fp32_and_not_the_same(checkpoint, tmp_path):
    path = Path(shutil.copytree(checkpoint("distilbert"), tmp_path / "model"))
    prepare(path, ["ours int8"], EXAMPLES)
    difference = np.abs(ENGINES["ours int8"](path)(EXAMPLES) - ENGINES["ours fp32"](path)(EXAMPLES))
    assert 1e-5 < difference.max() < 0.1


def test_the_operations_of_a_model_are_those_of_the_textbook(checkpoint):
    """Texts of one length, one batch: only products are filled up; the last layer is for the first token only."""
    artifact = load_artifact(checkpoint("distilbert"))
    scorer = artifact.scorer(Placement("cpu", "fp32"), artifact.options())
    effort = scorer.score(texts := ["we walked by the river", "my desk is tidy and"]).effort
    h, heads, inner, outputs = 32, 4, 64, 5
    tokens, length = effort.tokens, effort.tokens // len(texts)
    rows, first_ones = filled(tokens), filled(len(texts))
    assert (effort.batches, effort.padded_tokens) == (1, rows)
    layer = 2 * rows * (4 * h * h + 2 * h * inner) + 4 * tokens * length * h
    last = 2 * first_ones * (4 * h * h + 2 * h * inner) + 4 * tokens * heads * h  # without keys and values
    head = 2 * first_ones * (h * h + h * outputs)
    assert executed(scorer, texts) == layer + last + head


def test_the_gpu_benchmark_measures_each_stage_on_a_cpu_too(checkpoint, monkeypatch):
    monkeypatch.setattr(gpu, "PIPELINE_SHARE", 7)
    path = Path(checkpoint("distilbert"))
    found = gpu.measured(path, EXAMPLES, repeats=1, placement=Placement("cpu", "bf16"))
    artifact = load_artifact(path)
    effort = artifact.scorer(Placement("cpu", "fp32"), artifact.options()).score(EXAMPLES).effort
    assert (found["tokens"], found["documents"], found["packed"]) == (effort.tokens, 10, False)
    assert all(found[f"{stage}_tokens_per_second"] > 0 for stage in (*gpu.STAGES, "pipeline"))
    assert 0 < found["max_difference"] < 0.1
    row = {"size": "distilbert", "workload": "short", "texts": len(EXAMPLES), "share_of_peak": 0.5, **found}
    assert "padded; end to end" in gpu._lines(row)


def test_time_is_measured_for_texts_of_each_length(checkpoint):
    short, long = growth.by_length(Path(checkpoint("distilbert")), [4, 40], repeats=1)
    assert 4 <= short["tokens"] < long["tokens"]
    assert short["texts_per_second"] > long["texts_per_second"] > 0
    assert long["tokens_per_second"] == pytest.approx(long["texts_per_second"] * long["tokens"])


def test_the_line_through_the_documents_tells_the_start_from_the_rate():
    lines = growth._document_lines([{"documents": n, "seconds": 12.0 + n / 100} for n in (1000, 4000, 16000)])
    assert lines[-1] == "12.0 s, and then 100 documents a second"


def test_the_picture_has_a_bar_for_every_system(tmp_path):
    rates = {"recipe": {"texts_per_second": [9.0, 11.0, 10.0]}, "fp32": {"texts_per_second": [40.0, 30.0, 35.0]}}
    results = [
        {"size": "distilbert", "workload": "short", "systems": rates},
        {"size": "distilbert", "workload": "long", "engine": "ours fp32", "texts": 10, "seconds": [1.0, 2.0]},
        {"size": "distilbert", "workload": "long", "engine": "transformers", "texts": 10, "seconds": [5.0]},
    ]
    save(tmp_path / "bench.json", results, master="local[2]")
    assert picture.read(tmp_path / "bench.json") == results
    charts = picture.picture(picture.groups(results)).axes
    assert [chart.get_title(loc="left") for chart in charts] == [
        "distilbert, short texts: texts per second",
        "distilbert, long texts: texts per second",
    ]
    bars = [
        [(label.get_text(), bar.get_width()) for label, bar in zip(c.get_yticklabels(), c.patches, strict=True)]
        for c in charts
    ]
    assert bars == [[("recipe", 10.0), ("fp32", 35.0)], [("transformers", 2.0), ("ours fp32", 7.5)]]
    assert [text.get_text().split() for text in charts[0].texts] == [["10"], ["35", "3.5", "x"]]
