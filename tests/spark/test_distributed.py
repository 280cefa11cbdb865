"""Two processes train one model: Spark starts them, and together they do what one does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pyspark import SparkConf

from bigfive_udf.errors import SettingsError
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.spark.distributed import check_gpus, finetune_together
from bigfive_udf.training.finetune import Examples, FinetuneOptions
from bigfive_udf.training.metrics import macro_roc_auc
from bigfive_udf.traits import TRAITS
from support.jobs_here import run_here
from support.labelled import WORDS, planted

OPTIONS = FinetuneOptions(
    pooling="mean", epochs=4, learning_rate=5e-3, head_rate_factor=2, batch_size=8, precision="fp32", device="cpu"
)


@pytest.fixture
def base(checkpoint: Callable[..., Path]) -> Path:
    return checkpoint("bert", known=tuple(WORDS))


def test_gpus_that_spark_does_not_know_of_are_told_of_before_anything_starts():
    conf = SparkConf(False)
    check_gpus(conf, use_gpu=False, local=True)
    with pytest.raises(SettingsError, match=r"set spark\.driver\.resource\.gpu\.amount and"):
        check_gpus(conf, use_gpu=True, local=True)
    with pytest.raises(SettingsError, match=r"set spark\.task\.resource\.gpu\.amount, train.processes 1"):
        check_gpus(conf, use_gpu=True, local=False)
    check_gpus(conf.set("spark.task.resource.gpu.amount", "1"), use_gpu=True, local=False)


@pytest.mark.slow
def test_two_processes_share_the_steps_learn_and_go_on_after_an_interruption(spark, base, tmp_path) -> None:
    frame = planted(authors=40, texts=8, words=3)
    examples = Examples(frame["text"].tolist(), frame[list(TRAITS)].to_numpy(float))
    train = finetune_together(2, "cpu")
    made = train(examples, str(base), OPTIONS, tmp_path / "a")
    steps = [json.loads((c / "trainer_state.json").read_text())["global_step"] for c in (tmp_path / "a").glob("che*")]
    assert max(steps) == 4 * len(frame) / (8 * 2), "each took half of the texts"
    assert [epoch.loss for epoch in made.epochs] == sorted((epoch.loss for epoch in made.epochs), reverse=True)
    with torch.inference_mode():
        logits = [made.model(**made.tokenizer(t, return_tensors="pt")).logits[0].numpy() for t in examples.texts]
    assert macro_roc_auc(examples.labels, np.array(logits)) > 0.75

    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for left in (tmp_path / "b").glob(f"checkpoint-{max(steps)}"):
        (left / "bigfive_complete.json").unlink()  # as if both had been killed while it was written
    (tmp_path / "b" / "together.safetensors").unlink()
    again = train(examples, str(base), OPTIONS, tmp_path / "b")
    for name, weight in made.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], weight, atol=1e-5, rtol=0)


def test_the_train_job_makes_an_artifact_with_two_processes(spark, base, tmp_path) -> None:
    planted(authors=30, texts=6, words=3).to_csv(tmp_path / "labelled.csv", index=False)
    settings = {
        "data.path": str(tmp_path / "labelled.csv"),
        "data.author_column": "author",
        "split.folds": 0,
        "split.fractions": {"train": 0.6, "validation": 0.2, "test": 0.2},
        "model.base": str(base),
        "model.pooling": "mean",
        "train.epochs": 2,
        "train.processes": 2,
        "train.device": "cpu",
        "train.precision": "fp32",
        "evaluation.resamples": 100,
        "output.path": str(tmp_path / "model"),
    }
    run = run_here("train", settings)
    artifact = load_artifact(tmp_path / "model")
    assert artifact.model_id == run.result["model_id"]
    curve = json.loads((artifact.path / "training.json").read_text())["epochs"][-1]
    assert len(curve) == 2 and all(0 < epoch["validation_roc_auc"] < 1 for epoch in curve)
    assert artifact.predict(["party and poetry"])["status"].tolist() == ["scored"]
