"""A run in a reduced precision measures first what that does to the labels, and gives way where it is too much."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigfive_udf import load_artifact
from bigfive_udf.errors import PartitionsFailedError, RefusedError
from bigfive_udf.model import hardware
from bigfive_udf.model.fidelity import compare
from bigfive_udf.model.hardware import Hardware, Placement, more_exact
from bigfive_udf.traits import TRAITS
from support.corpora import corrupt

PROBABILITIES = [f"prob_{t}" for t in TRAITS]


@pytest.fixture
def bf16(monkeypatch, basics):
    """Settings of a run in bf16; where the processor has none, the products are only slower."""
    monkeypatch.setattr(hardware, "_cpu_has_bf16", lambda: True)
    return basics | {"model.precision": "auto", "model.device": "cpu"}


def probabilities(basics: dict, precision: str) -> np.ndarray:
    """Of the corpus's texts, by the model alone."""
    texts = pq.read_table(basics["input.path"])["text"].to_pylist()
    return (
        load_artifact(basics["model.path"]).predict(texts, device="cpu", precision=precision)[PROBABILITIES].to_numpy()
    )


def precisions(basics: dict) -> list[str]:
    return pq.read_table(Path(basics["output.path"]))["precision"].unique().to_pylist()


def in_the_middle(basics: dict) -> dict:
    """Settings in which rounding decides about many labels: thresholds in the middle of what is there."""
    middle = np.median(probabilities(basics, "fp32"), axis=0).tolist()
    return basics | {"labels.thresholds": dict(zip(TRAITS, middle, strict=True)), "max_label_flips": 0.0}


def test_a_faithful_precision_is_used_and_its_fidelity_recorded(score, bf16, capsys):
    run = score(bf16 | {"max_label_flips": 1.0})
    assert precisions(bf16) == ["bf16"]
    (found,) = run.result["fidelity"]
    reduced, exact = probabilities(bf16, "bf16"), probabilities(bf16, "fp32")
    assert found["precision"] == "bf16"
    assert found["documents"] == len(exact) == 120
    assert found["max_difference"] == pytest.approx(np.abs(reduced - exact).max(), abs=1e-3)
    assert 0 < found["p99_difference"] <= found["max_difference"] < 0.05
    assert found["label_flips"] == pytest.approx(((reduced >= 0.5) != (exact >= 0.5)).mean(), abs=0.01)
    assert run.result["documents_evaluated"] == 120, "the sample is not counted with the run"
    assert run.result["model_loads"] == run.result["workers"] > 0
    assert "max_label_flips" not in capsys.readouterr().out


def test_a_precision_that_flips_too_many_labels_gives_way_to_fp32(score, bf16, capsys):
    run = score(in_the_middle(bf16))
    assert run.result["precision"] == "fp32"
    assert precisions(bf16) == ["fp32"]
    (found,) = run.result["fidelity"]
    assert found["label_flips"] > 0
    share = f"{100 * found['label_flips']:.1f}"
    assert (
        f"warning: in bf16 {share} % of the labels of 120 documents come out otherwise than in fp32, "
        "more than max_label_flips 0 allows: this run computes in fp32"
    ) in capsys.readouterr().out
    table = pq.read_table(bf16["output.path"])
    np.testing.assert_allclose(
        np.sort(table["prob_openness"].to_numpy()), np.sort(probabilities(bf16, "fp32")[:, 4]), atol=1e-5
    )
    assert run.result["documents_evaluated"] == 120


def test_texts_are_compared_although_the_first_rows_have_none(score, bf16, corpus):
    settings = in_the_middle(bf16)
    for day in corpus.iterdir():
        file = day / "part-0.parquet"
        table = pq.read_table(file)
        blank = table.slice(0, 1).set_column(table.column_names.index("text"), "text", pa.array([None], pa.string()))
        white = table.slice(0, 1).set_column(table.column_names.index("text"), "text", pa.array([" \n"], pa.string()))
        pq.write_table(pa.concat_tables([blank] * 400 + [white] * 400 + [table]), file)
    run = score(settings)
    (found,) = run.result["fidelity"]
    assert found["documents"] == 120
    assert found["label_flips"] > 0
    assert precisions(bf16) == ["fp32"]


def test_a_large_partition_makes_up_for_small_ones(score, bf16, corpus):
    for day in sorted(corpus.iterdir())[1:]:
        file = day / "part-0.parquet"
        pq.write_table(pq.read_table(file).slice(0, 3), file)
    file = corpus / "dt=2026-01-05" / "part-0.parquet"
    pq.write_table(pa.concat_tables([pq.read_table(file)] * 10), file)
    (found,) = score(bf16 | {"max_label_flips": 1.0}).result["fidelity"]
    assert found["documents"] == 256


def test_where_no_text_can_be_compared_a_run_computes_in_fp32(score, bf16, corpus, capsys):
    for day in corpus.iterdir():
        file = day / "part-0.parquet"
        table = pq.read_table(file)
        nothing = pa.array([None] * len(table), pa.string())
        pq.write_table(table.set_column(table.column_names.index("text"), "text", nothing), file)
    score(bf16)
    assert precisions(bf16) == ["fp32"]
    assert "warning: no text was found to compare bf16 with fp32: this run computes in fp32" in capsys.readouterr().out


def test_labels_are_not_computed_again_from_probabilities_that_are_not_exact_enough(score, bf16):
    score(bf16 | {"labels.thresholds": dict.fromkeys(TRAITS, 0.999), "max_label_flips": 0.0})
    assert precisions(bf16) == ["bf16"]
    before = pq.read_table(bf16["output.path"])
    delicate = in_the_middle(bf16)
    refused = (
        r"the labels of 3 partitions would be computed again from probabilities in bf16, and in bf16 [\d.]+ % of the "
        r"labels of 120 documents come out otherwise than in fp32, more than max_label_flips 0 allows: score them "
        r"again with --rescore, or set max_label_flips to 1 if that is meant"
    )
    with pytest.raises(RefusedError, match=refused):
        score(delicate)
    assert pq.read_table(bf16["output.path"]).equals(before)
    score(delicate, "--rescore")
    assert precisions(bf16) == ["fp32"]


def test_labels_that_hardly_depend_on_the_precision_are_computed_again_and_what_was_measured_recorded(score, bf16):
    score(bf16)
    run = score(bf16 | {"labels.thresholds": dict.fromkeys(TRAITS, 0.999), "max_label_flips": 0.0})
    (found,) = run.result["fidelity_of_labels"]
    assert (found["precision"], found["documents"], found["label_flips"]) == ("bf16", 120, 0.0)
    assert found["max_difference"] > 0
    assert len(run.result["relabelled_partitions"]) == 3
    assert not any(pq.read_table(bf16["output.path"])["label_openness"].to_pylist())


def test_texts_that_are_there_tell_of_those_that_are_gone_and_without_any_labels_stay(score, bf16, corpus, capsys):
    score(bf16, "--until", "dt=2026-01-06")
    shutil.rmtree(corpus / "dt=2026-01-05")
    run = score(bf16 | {"labels.thresholds": dict.fromkeys(TRAITS, 0.999), "max_label_flips": 0.0})
    assert run.result["fidelity_of_labels"][0]["documents"] == 40
    assert len(run.result["relabelled_partitions"]) == 2
    shutil.rmtree(corpus / "dt=2026-01-06")
    score(bf16 | {"labels.thresholds": dict.fromkeys(TRAITS, 0.999)}, "--rescore")
    capsys.readouterr()
    other = bf16 | {"labels.thresholds": dict.fromkeys(TRAITS, 0.001)}
    assert score(other, "--rescore").result["plan"]["relabel"] == []
    kept = "2 keep their scores: labels by other thresholds, for which nobody can tell any more whether bf16 will do"
    assert kept in capsys.readouterr().out
    labels = pq.read_table(bf16["output.path"]).group_by("dt").aggregate([("label_openness", "any")]).to_pylist()
    assert {str(row["dt"]): row["label_openness_any"] for row in labels} == {
        "2026-01-05": False, "2026-01-06": False, "2026-01-07": True
    }  # fmt: skip
    assert len(score(other | {"max_label_flips": 1.0}).result["relabelled_partitions"]) == 2


def test_labels_in_a_precision_that_can_not_be_computed_here_are_refused(score, bf16, monkeypatch):
    score(bf16)
    monkeypatch.setattr(hardware, "_cpu_has_bf16", lambda: False)
    other = bf16 | {"labels.thresholds": dict.fromkeys(TRAITS, 0.999)}
    with pytest.raises(RefusedError, match="in bf16, and how many come out otherwise than in fp32 can't be measured"):
        score(other)
    run = score(other | {"max_label_flips": 1.0})
    assert run.result["fidelity_of_labels"] == []
    assert precisions(bf16) == ["bf16"]


def test_in_fp32_nothing_is_measured(score, basics):
    assert score(basics).result["fidelity"] == []


def test_a_file_that_cannot_be_read_does_not_end_the_run_at_the_sample(score, bf16, corpus):
    corrupt(corpus / "dt=2026-01-05" / "part-0.parquet")
    with pytest.raises(PartitionsFailedError, match="1 of 3 partitions failed"):
        score(bf16 | {"max_label_flips": 1.0})
    assert precisions(bf16) == ["bf16"]


def test_the_next_better_precision():
    with_bf16, without = Hardware("new", True, True), Hardware("old", False, True)
    assert more_exact(Placement("cuda", "bf16"), [with_bf16]) == Placement("cuda", "fp16")
    assert more_exact(Placement("cuda", "fp16"), [with_bf16]) == Placement("cuda", "fp32")
    assert more_exact(Placement("cpu", "bf16"), [with_bf16]) == Placement("cpu", "fp32")
    assert more_exact(Placement("cpu", "int8"), [with_bf16]) == Placement("cpu", "bf16")
    assert more_exact(Placement("cpu", "int8"), [with_bf16, without]) == Placement("cpu", "fp32")


VALUES = st.lists(st.lists(st.floats(0, 1, width=32) | st.just(float("nan")), min_size=5, max_size=5), max_size=20)


@given(
    exact=VALUES, moved=st.floats(-0.1, 0.1), limits=st.lists(st.none() | st.floats(0.1, 0.9), min_size=5, max_size=5)
)
def test_flips_are_counted_over_all_labels_that_there_are(exact, moved, limits):
    right = np.array(exact, float).reshape(-1, 5)
    reduced = np.clip(right + moved, 0, 1)
    found = compare(reduced, right, dict(zip(TRAITS, limits, strict=True)), "bf16")
    labels = [
        (reduced[r, t] >= limit, right[r, t] >= limit)
        for r in range(len(right))
        for t, limit in enumerate(limits)
        if limit is not None and not np.isnan(right[r, t])
    ]
    assert found.label_flips == pytest.approx(sum(a != b for a, b in labels) / max(1, len(labels)))
    assert found.max_difference == pytest.approx(np.nanmax(np.abs(reduced - right), initial=0.0))


def test_a_row_that_only_the_exact_model_can_score_counts_as_flipped():
    exact = np.full((2, 5), 0.9)
    reduced = np.array([[0.9] * 5, [np.nan] * 5])
    found = compare(reduced, exact, dict.fromkeys(TRAITS, 0.5), "fp16")
    assert (found.documents, found.label_flips, found.max_difference) == (2, 0.5, 1.0)
