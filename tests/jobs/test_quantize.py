"""The quantize job, and the score job with what it made: as fast as the labels allow, measured and written down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from bigfive_udf.errors import ArtifactError, InputError, OutputError, SettingsError
from bigfive_udf.model import hardware
from bigfive_udf.model.artifact import describe, load_artifact
from bigfive_udf.quantizing.writing import read_sample
from bigfive_udf.settings.quantize import SampleSettings
from bigfive_udf.traits import TRAITS
from corpora import write_corpus
from jobs_here import run_alone, run_here
from models import TRAINING_TEXT

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
    np.testing.assert_allclose(
        table[PROBABILITIES].to_numpy(), predicted(basics["output.path"], texts, "int8"), atol=1e-5
    )
    assert np.abs(table[PROBABILITIES].to_numpy() - predicted(basics["output.path"], texts, "fp32")).max() > 1e-4


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
        expected = "turned over 3.1 % of the labels when it was quantized, more than max_label_flips 0.01 allows"
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
    with pytest.raises(ArtifactError, match="more labels turn over than max_label_flips 0 allows; nothing was written"):
        run_here("quantize", basics | {"model.path": str(model), "max_label_flips": 0.0, "int8.exact_columns": 0})
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith((".", "quantized"))] == []


def test_as_many_products_stay_in_fp32_as_the_limit_takes(basics):
    run_here("quantize", basics)
    flips = json.loads((Path(basics["output.path"]) / "bigfive.json").read_text())["int8"]["curve"]
    shares = [row["label_flips"] for row in flips if row["precision"] == "int8"]
    limit = min(shares)
    run = run_here("quantize", basics | {"output.path": basics["output.path"] + "-2", "max_label_flips": limit})
    assert run.result["int8"]["fidelity"]["label_flips"] <= limit
    assert len(run.result["int8"]["products"]) == [4, 3, 2][[s <= limit for s in shares].index(True)]


def test_what_cannot_be_quantized_is_refused_with_the_cure(basics, checkpoint, tmp_path):
    with pytest.raises(ArtifactError, match=r"has no bigfive.json: make an artifact of it first, with python jobs/imp"):
        run_here("quantize", basics | {"model.path": str(checkpoint())})
    other = described(checkpoint("deberta-v2"), tmp_path / "deberta")
    with pytest.raises(ArtifactError, match=rf"{other} is no DistilBERT, BERT or RoBERTa"):
        run_here("quantize", basics | {"model.path": str(other)})
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
