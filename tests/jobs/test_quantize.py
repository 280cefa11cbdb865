"""The quantize job, and the score job with what it made: as fast as the labels allow, measured and written down."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import binomtest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bigfive_udf.errors import ArtifactError, InputError, OutputError, SettingsError
from bigfive_udf.model import hardware
from bigfive_udf.model.artifact import describe, load_artifact
from bigfive_udf.model.fidelity import compare
from bigfive_udf.model.int8 import most_bits
from bigfive_udf.quantizing.search import Search, Variant, steps, tensors_of
from bigfive_udf.quantizing.writing import read_sample
from bigfive_udf.settings.quantize import SampleSettings
from bigfive_udf.traits import TRAITS
from support.corpora import write_corpus
from support.jobs_here import refused, run_alone, run_here
from support.models import TRAINING_TEXT

PROBABILITIES = [f"prob_{t}" for t in TRAITS]


def described(checkpoint: Path, directory: Path, thresholds: float = 0.5) -> Path:
    """A copy of a checkpoint that is an artifact."""
    shutil.copytree(checkpoint, directory)
    about: dict[str, Any] = {"head": "linear", "pooling": "cls", "max_length": 64, "languages": ["en"]}
    limits = dict.fromkeys(TRAITS, thresholds)
    describe(directory, thresholds=limits, base_model="random", training_data="none", **about)
    return directory


@pytest.fixture
def model(checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    return described(checkpoint(), tmp_path / "model")


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = " ".join(TRAINING_TEXT).split()
    texts = [" ".join(words[i % 40 : i % 40 + 1 + i % 17]) + f" {i}" for i in range(240)]
    file = tmp_path_factory.mktemp("sample") / "texts.csv"
    pd.DataFrame({"said": texts}).to_csv(file, index=False)
    return file


@pytest.fixture
def basics(model: Path, sample: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "model.path": str(model),
        "data.path": str(sample),
        "data.text_column": "said",
        "max_label_flips": 0.2,
        "output.path": str(tmp_path / "quantized"),
    }


def predicted(path: str | Path, texts: list[str], precision: str) -> np.ndarray:
    scores = load_artifact(path).predict(texts, device="cpu", precision=precision)
    assert scores["precision"].unique().tolist() == [precision]
    return scores[PROBABILITIES].to_numpy()


def test_a_model_is_quantized_and_what_that_does_is_written_down(basics, model, tmp_path):
    done = run_alone("quantize", basics, directory=tmp_path)
    assert (done.code, done.err) == (0, "")
    made = Path(basics["output.path"])
    about = json.loads((made / "bigfive.json").read_text())["int8"]
    assert done.result["int8"] == about
    assert about["activation_bits"] == most_bits()
    assert about["made_of"] == load_artifact(model).model_id != load_artifact(made).model_id
    assert f"done: {made}, model {load_artifact(made).model_id}: 4 of 4 products in int8" in done.out
    assert [row["products"] for row in about["curve"] if row["precision"] == "int8"] == [4, 3, 2]
    assert all(row["tokens_per_second"] > 0 for row in about["curve"])

    weights = load_file(made / "int8.safetensors")
    assert sum(t.numel() for n, t in weights.items() if n.endswith(".weight")) == 32 * (96 + 32 + 64 + 64)
    _, measured = read_sample(SampleSettings(path=basics["data.path"], text_column="said"))
    exact, reduced = (predicted(made, measured, precision) for precision in ("fp32", "int8"))
    np.testing.assert_array_equal(exact, predicted(model, measured, "fp32"))
    found = about["fidelity"]
    assert found["documents"] == len(measured) == 120
    assert found["label_flips"] == pytest.approx(((reduced >= 0.5) != (exact >= 0.5)).mean())
    assert 0 < found["max_difference"] == pytest.approx(np.abs(reduced - exact).max(), abs=1e-6)


def test_eight_bits_need_vnni_and_seven_run_without(basics, tmp_path):
    """oneDNN's own setting lets it compute as on an older processor."""
    old = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = run_alone("quantize", basics | {"int8.activation_bits": 8}, directory=tmp_path, **old)
    assert done.code == 2
    assert re.search(
        r"int8\.activation_bits 8: this processor has no VNNI, .*; set 7 or auto, or quantize on", done.err
    )
    assert not Path(basics["output.path"]).exists()
    done = run_alone("quantize", basics, directory=tmp_path, **old)
    assert (done.code, done.result["int8"]["activation_bits"]) == (0, 7)
    assert "activations of 7 bits, on any processor\n" in done.out
    texts = TRAINING_TEXT[:40]
    moved = np.abs(predicted(basics["output.path"], texts, "int8") - predicted(basics["output.path"], texts, "fp32"))
    assert 1e-6 < moved.mean() < 0.01


def test_a_run_without_vnni_refuses_a_model_of_eight_bits(basics, tmp_path):
    if most_bits() < 8:
        pytest.skip("this processor has no VNNI, so no model of 8 bits can be made here")
    run_here("quantize", basics)
    corpus = write_corpus(tmp_path / "corpus")
    settings = {"input.path": str(corpus), "output.path": str(tmp_path / "scores"), "max_label_flips": 0.2}
    settings |= {"model.path": basics["output.path"], "model.precision": "int8", "model.device": "cpu"}
    done = run_alone("score", settings, directory=tmp_path, ONEDNN_MAX_CPU_ISA="AVX2")
    assert done.code == 2, done.err
    line = done.err.strip().splitlines()[-1]
    assert "the model's activations have 8 bits" in line
    assert "set fp32 or auto, or make the model again" in line
    assert not list((tmp_path / "scores").rglob("*.parquet"))

    assert run_alone("score", settings, directory=tmp_path).code == 0
    relabelled = settings | {"labels.thresholds": dict.fromkeys(TRAITS, 0.4)}
    done = run_alone("score", relabelled, directory=tmp_path, ONEDNN_MAX_CPU_ISA="AVX2")
    assert done.code == 8, done.err
    assert re.search(r"can't be measured here \(.*have 8 bits.*: score them again with --rescore", done.err)


def test_a_machine_without_vnni_is_named_before_anything_is_scored(basics, score, tmp_path, monkeypatch):
    if most_bits() < 8:
        pytest.skip("this processor has no VNNI, so no model of 8 bits can be made here")
    run_here("quantize", basics)
    artifact = load_artifact(basics["output.path"])
    old, new = (hardware.Hardware(name, cpu_bf16=False, cpu_vnni=name == "new") for name in ("old", "new"))
    artifact.check_int8_on([new])
    with pytest.raises(SettingsError, match="have 8 bits, and old computes only those of 7 right"):
        artifact.check_int8_on([new, old])
    load_artifact(basics["model.path"]).check_int8_on([old])

    assert hardware.look(use_gpu=False).cpu_vnni
    monkeypatch.setattr(hardware, "_cpu_words", lambda: {"avx2"})
    settings = {"input.path": str(write_corpus(tmp_path / "corpus")), "output.path": str(tmp_path / "scores")}
    settings |= {"model.path": basics["output.path"], "model.precision": "int8", "max_label_flips": 0.2}
    refused(score, settings, SettingsError, "have 8 bits", "make the model again", flags=["--dry-run"])
    refused(score, settings, SettingsError, "have 8 bits", "make the model again")
    score(settings | {"model.precision": "fp32"})


def test_the_new_model_is_one_that_stock_transformers_knows(basics, model):
    run_here("quantize", basics)
    ids = AutoModelForSequenceClassification.from_pretrained(model).dummy_inputs["input_ids"]
    one, other = (
        AutoModelForSequenceClassification.from_pretrained(path).eval()(ids).logits
        for path in (model, basics["output.path"])
    )
    assert one.equal(other)


def test_the_score_job_computes_in_int8_and_says_so(basics, score, tmp_path):
    run_here("quantize", basics)
    corpus = write_corpus(tmp_path / "corpus")
    settings = {
        "input.path": str(corpus),
        "output.path": str(tmp_path / "scores"),
        "model.path": basics["output.path"],
        "model.precision": "int8",
        "max_label_flips": 0.2,
    }
    run = score(settings)
    table = pq.read_table(tmp_path / "scores").to_pandas().sort_values("doc_id")
    assert set(table["precision"]) == {"int8"}
    assert set(table["model_id"]) == {load_artifact(basics["output.path"]).model_id}
    assert [f["precision"] for f in run.result["fidelity"]] == ["int8"]
    texts = pq.read_table(corpus).to_pandas().sort_values("doc_id")["text"].tolist()
    scores = table[PROBABILITIES].to_numpy()
    # In other batches sums round otherwise, which may move an activation to the next whole number.
    moved = np.abs(scores - predicted(basics["output.path"], texts, "int8"))
    assert (moved < 1e-5).mean() > 0.95
    assert moved.max() < 2e-3
    assert np.abs(scores - predicted(basics["output.path"], texts, "fp32")).max() > 5e-3


def test_where_the_corpus_is_harder_than_the_sample_was_the_run_gives_way(basics, score, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(hardware, "_cpu_has_bf16", lambda: False)
    run_here("quantize", basics)
    corpus = write_corpus(tmp_path / "corpus")
    middle = np.median(predicted(basics["output.path"], pq.read_table(corpus)["text"].to_pylist(), "fp32"), axis=0)
    about = Path(basics["output.path"]) / "bigfive.json"
    content = json.loads(about.read_text())
    content["int8"]["fidelity"]["label_flips"] = 0.0
    about.write_text(json.dumps(content))
    run = score(
        {
            "input.path": str(corpus),
            "output.path": str(tmp_path / "scores"),
            "model.path": basics["output.path"],
            "model.precision": "int8",
            "max_label_flips": 0.0,
            "labels.thresholds": dict(zip(TRAITS, middle.tolist(), strict=True)),
        }
    )
    assert run.result["precision"] == "fp32"
    assert "in int8" in (out := capsys.readouterr().out)
    assert "this run computes in fp32" in out
    assert pq.read_table(tmp_path / "scores")["precision"].unique().to_pylist() == ["fp32"]


@pytest.mark.parametrize("quantized_first", [True, False])
def test_the_score_job_refuses_what_was_not_measured_or_measured_badly(basics, score, tmp_path, quantized_first):
    if quantized_first:
        run_here("quantize", basics)
        about = Path(basics["output.path"]) / "bigfive.json"
        content = json.loads(about.read_text())
        content["int8"]["fidelity"]["label_flips"] = 0.031
        about.write_text(json.dumps(content))
        expected = "turned over a share of 0.0310 of the labels when it was quantized, more than max_label_flips 0.01"
    else:
        shutil.copytree(basics["model.path"], basics["output.path"])
        expected = "was not made for it; make a model that is, with python jobs/quantize.py"
    settings = {
        "input.path": str(write_corpus(tmp_path / "corpus")),
        "output.path": str(tmp_path / "scores"),
        "model.path": basics["output.path"],
        "model.precision": "int8",
    }
    with pytest.raises(SettingsError, match=expected):
        score(settings)
    assert not (tmp_path / "scores").exists()


def test_a_limit_that_cannot_be_kept_is_told_and_nothing_is_written(basics, checkpoint, sample, tmp_path):
    texts, _ = read_sample(SampleSettings(path=str(sample), text_column="said"))
    middle = float(np.median(predicted(checkpoint(), texts, "fp32")[:, 0]))
    model = described(checkpoint(), tmp_path / "delicate", thresholds=middle)
    with pytest.raises(ArtifactError, match="turn over, more than max_label_flips 0 allows; nothing was written"):
        run_here("quantize", basics | {"model.path": str(model), "max_label_flips": 0.0, "int8.exact_columns": 0})
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith((".", "quantized"))] == []


def test_the_first_variant_is_taken_that_is_surely_within_the_limit(basics):
    run = run_here("quantize", basics)
    documents = run.result["int8"]["fidelity"]["documents"]
    variants = [row for row in run.result["curve"] if row["precision"] == "int8"]
    n = documents * len(TRAITS)
    # One-sided 95 % is the upper end of a two-sided 90 %.
    highest = [
        binomtest(round(v["label_flips"] * n), n).proportion_ci(0.9, method="wilson").high + 1e-4 for v in variants
    ]
    limit = min(highest)
    again = run_here("quantize", basics | {"output.path": basics["output.path"] + "-2", "max_label_flips": limit})
    assert len(again.result["int8"]["products"]) == [4, 3, 2][[h <= limit for h in highest].index(True)]
    assert again.result["int8"]["fidelity"]["label_flips"] < limit - 0.003, "the sample does not show all"


def test_the_model_card_says_it_once_and_files_of_others_stay_where_they_are(basics, model):
    (model / "README.md").write_text("# A model\n")
    about = json.loads((model / "bigfive.json").read_text())
    about["files"]["README.md"] = hashlib.sha256(b"# A model\n").hexdigest()
    (model / "bigfive.json").write_text(json.dumps(about))
    (model / "notes.txt").write_text("mine")
    run_here("quantize", basics)
    again = basics | {"model.path": basics["output.path"], "output.path": basics["output.path"] + "-2"}
    run_here("quantize", again)
    for path in (basics["output.path"], again["output.path"]):
        card = Path(path, "README.md").read_text()
        assert card.startswith("# A model\n\n## 8-bit integers\n\nThis model was made of model")
        assert card.count("8-bit integers\n") == 1
        assert not Path(path, "notes.txt").exists()


@pytest.mark.parametrize("n", range(1, 50))
def test_more_and_more_products_are_left_out_up_to_half(n):
    found = steps(n)
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (0, n // 2)
    assert all(2 * one >= other for one, other in itertools.pairwise(found[1:]))


def search_of(model: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Search:
    """A search over a described copy of the model with other weights."""
    weights = load_file(model / "model.safetensors")
    change(weights)
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    (model / "bigfive.json").unlink()
    artifact = load_artifact(model)
    return Search(artifact, artifact.options())


def test_the_inputs_that_stay_exact_are_the_largest(model, sample):
    def change(weights: dict[str, torch.Tensor]) -> None:
        # What goes into query, key and value of the first layer is the norm's output.
        weights["distilbert.embeddings.LayerNorm.weight"][[3, 17]] = 50.0

    texts, _ = read_sample(SampleSettings(path=str(sample), text_column="said"))
    search = search_of(model, change)
    products = search.quantized(texts, exact_columns=2, bits=7)
    assert products["layers.0.qkv"]["columns"].tolist() == [3, 17]
    exact, kept, rounded = (
        search.scorer(tensors).score(texts).probabilities
        for tensors in (
            {},
            tensors_of(products, ["layers.0.qkv"]),
            tensors_of(search.quantized(texts, exact_columns=0, bits=7), ["layers.0.qkv"]),
        )
    )
    assert 0 < np.abs(kept - exact).mean() < np.abs(rounded - exact).mean() / 3


def test_padding_is_not_calibrated_on(model, sample):
    def change(weights: dict[str, torch.Tensor]) -> None:
        # A token that stands in no text has the largest values of all.
        weights["distilbert.embeddings.word_embeddings.weight"][0, 5] = 1000.0

    texts, _ = read_sample(SampleSettings(path=str(sample), text_column="said"))
    search = search_of(model, change)
    artifact = load_artifact(model)
    alone = Search(artifact, artifact.options(max_batch_tokens=1))  # every window a batch of its own: nothing is padded
    found, right = (
        s.quantized(texts, exact_columns=1, bits=7)["layers.0.qkv"]["columns"].tolist() for s in (search, alone)
    )
    assert found == right != [5]


def test_a_text_that_the_model_fails_on_spoils_nothing(model, sample):
    def change(weights: dict[str, torch.Tensor]) -> None:
        # So large that the first norm's sums are not finite.
        weights["distilbert.embeddings.word_embeddings.weight"][ids] = 3e38

    tokenizer = AutoTokenizer.from_pretrained(model)
    texts, _ = read_sample(SampleSettings(path=str(sample), text_column="said"))
    seen = {i for text in texts for i in tokenizer(text)["input_ids"]}
    ids = next(i for i in range(tokenizer.vocab_size) if i not in seen)
    word = tokenizer.convert_ids_to_tokens(ids)
    assert tokenizer(word, add_special_tokens=False)["input_ids"] == [ids]
    right = search_of(model, lambda weights: None).quantized(texts, exact_columns=2, bits=7)
    describe(model, thresholds=dict.fromkeys(TRAITS, 0.5), base_model="random", training_data="none", head="linear",
             pooling="cls", max_length=64, languages=["en"])  # fmt: skip
    found = search_of(model, change).quantized([*texts, word], exact_columns=2, bits=7)
    for name, parts in right.items():
        assert torch.equal(found[name]["columns"], parts["columns"])
        # A weight in the middle between two numbers may go either way.
        assert found[name]["weight"].eq(parts["weight"]).float().mean() > 0.95


def test_the_product_that_moves_the_scores_most_is_left_out_first(model, sample):
    def change(weights: dict[str, torch.Tensor]) -> None:
        # One weight of each output is so large that the steps leave nothing of the others.
        weights["distilbert.transformer.layer.0.ffn.lin2.weight"][:, 0] = 30.0

    texts, _ = read_sample(SampleSettings(path=str(sample), text_column="said"))
    search = search_of(model, change)
    order = search.by_sensitivity(search.quantized(texts, exact_columns=0, bits=7), texts)
    assert order[0] == "layers.0.down"
    assert sorted(order) == sorted(search.names)


def test_what_cannot_be_quantized_is_refused_with_the_cure(basics, checkpoint, tmp_path):
    with pytest.raises(ArtifactError, match=r"has no bigfive.json: make an artifact of it first, with python jobs/imp"):
        run_here("quantize", basics | {"model.path": str(checkpoint())})
    other = described(checkpoint("deberta-v2"), tmp_path / "deberta")
    with pytest.raises(ArtifactError, match=rf"{other} is no DistilBERT, BERT or RoBERTa"):
        run_here("quantize", basics | {"model.path": str(other)})
    one = described(checkpoint("distilbert", n_layers=1), tmp_path / "one")
    with pytest.raises(ArtifactError, match=rf"{one} has but one layer, of which nothing is worth putting in int8"):
        run_here("quantize", basics | {"model.path": str(one)})
    few = tmp_path / "few.csv"
    few.write_text("said\n" + "one\ntwo\n" * 100)
    with pytest.raises(InputError, match=rf"{few} has 2 different texts; at least 100 are needed"):
        run_here("quantize", basics | {"data.path": str(few)})
    with pytest.raises(InputError, match="has no column 'text'"):
        run_here("quantize", {k: v for k, v in basics.items() if k != "data.text_column"})
    Path(basics["output.path"]).mkdir()
    with pytest.raises(OutputError, match="exists, and a model is never overwritten"):
        run_here("quantize", basics)


def test_a_quantized_model_can_be_quantized_again_and_a_changed_byte_is_found(basics):
    run_here("quantize", basics)
    again = basics | {"model.path": basics["output.path"], "output.path": basics["output.path"] + "-2"}
    run_here("quantize", again | {"int8.exact_columns": 4})
    file = Path(again["output.path"]) / "int8.safetensors"
    assert load_file(file)["layers.0.up.columns"].numel() == 4
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"int8.safetensors is not the file that was written"):
        load_artifact(again["output.path"])


def test_the_sample_is_chosen_by_its_seed_and_not_by_the_order_of_the_file(sample, tmp_path):
    texts = pd.read_csv(sample)
    texts.iloc[::-1].to_csv(tmp_path / "turned.csv", index=False)
    options = {"text_column": "said", "documents": 100}
    one, turned, other = (
        read_sample(SampleSettings(path=str(path), seed=seed, **options))
        for path, seed in ((sample, 0), (tmp_path / "turned.csv", 0), (sample, 1))
    )
    assert one == turned != other
    assert [len(half) for half in one] == [50, 50]
    assert not set(one[0]) & set(one[1])


def test_traits_without_labels_make_no_sample_larger():
    """Five of 1,000 labels turned over: by Wilson's upper bound 1.02 % may, however many traits are silent."""
    exact = np.full((1000, 5), np.nan)
    exact[:, 2] = 0.6
    reduced = exact.copy()
    reduced[:5, 2] = 0.4
    found = compare(reduced, exact, dict.fromkeys(TRAITS, 0.5), "int8")
    assert (found.documents, found.labels, found.label_flips) == (1000, 1000, 0.005)
    assert Variant("int8", ("layers.0.up",), 1.0, found).most_flips == pytest.approx(0.0102, abs=5e-5)
    nothing = compare(exact[:0], exact[:0], dict.fromkeys(TRAITS, 0.5), "int8")
    assert Variant("int8", ("layers.0.up",), 1.0, nothing).most_flips == 1.0
