"""Fine-tuning learns what is labelled, leaves alone what is not, and gives the same weights for the same seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from transformers.modeling_outputs import SequenceClassifierOutput

from bigfive_udf.errors import ArtifactError, InputError, SettingsError
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.training.finetune import FinetuneOptions, finetune, masked_loss
from bigfive_udf.traits import TRAITS, probability_column

OPTIONS = FinetuneOptions(
    pooling="mean", epochs=1, learning_rate=3e-3, head_rate_factor=3, batch_size=8, precision="fp32", max_length=64
)
Base = Callable[..., Path]


def words(n: int = 48) -> pd.DataFrame:
    """`happy` says high extraversion, `wet` low; of the other traits, openness has no label at all."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        filler = " ".join(rng.choice(["the", "river", "children", "talk", "plan", "is"], size=rng.integers(2, 9)))
        rows.append({"text": f"{filler} {'happy' if i % 2 else 'wet'}", "extraversion": float(i % 2)})
    table = pd.DataFrame(rows).reindex(columns=["text", *TRAITS])
    table.loc[: n // 2, "neuroticism"] = 1 - table["extraversion"]
    return table


def probabilities(model: Any, tokenizer: Any, texts: list[str]) -> np.ndarray:
    with torch.inference_mode():
        one = [model(**tokenizer(text, return_tensors="pt")).logits[0].sigmoid().numpy() for text in texts]
    return np.array(one)


def test_it_learns_what_is_labelled(checkpoint: Base) -> None:
    table = words()
    model, tokenizer = finetune(table, str(checkpoint("bert")), dataclasses.replace(OPTIONS, epochs=12))
    said = probabilities(model, tokenizer, table["text"].tolist())[:, 0]
    assert said[table["extraversion"] == 1].min() > said[table["extraversion"] == 0].max()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(checkpoint: Base) -> None:
    base = str(checkpoint("bert"))
    options = dataclasses.replace(OPTIONS, epochs=2)
    first, again, other = (
        finetune(words(), base, dataclasses.replace(options, seed=seed))[0].state_dict() for seed in (3, 3, 4)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.0.weight"], other["head.0.weight"])


def test_a_trait_without_labels_learns_nothing(checkpoint: Base) -> None:
    options = dataclasses.replace(OPTIONS, weight_decay=0)
    few, many = (finetune(words(), str(checkpoint("bert")), dataclasses.replace(options, epochs=e))[0] for e in (1, 3))
    labelled, unlabelled = TRAITS.index("extraversion"), TRAITS.index("openness")
    assert torch.equal(few.head[0].weight[unlabelled], many.head[0].weight[unlabelled])
    assert not torch.equal(few.head[0].weight[labelled], many.head[0].weight[labelled])


def test_the_loss_is_the_mean_over_the_labels_that_are_there() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.0, 9.0], [1.5, 0.2, 0.0, 0.0, -9.0]], requires_grad=True)
    nan = float("nan")
    labels = torch.tensor([[1.0, 0.0, nan, nan, nan], [nan, 1.0, nan, nan, nan]])
    loss = masked_loss(SequenceClassifierOutput(logits=logits), labels)
    p = logits.detach().sigmoid()
    assert loss.item() == pytest.approx(-(p[0, 0].log() + (1 - p[0, 1]).log() + p[1, 1].log()).item() / 3)
    loss.backward()
    assert (logits.grad[labels.isnan()] == 0).all()
    assert (logits.grad[~labels.isnan()] != 0).all()


def test_a_batch_without_any_label_costs_nothing() -> None:
    outputs = SequenceClassifierOutput(logits=torch.ones(2, 5))
    assert masked_loss(outputs, torch.full((2, 5), float("nan"))).item() == 0


@pytest.mark.parametrize("architecture", ["distilbert", "bert", "roberta"])
@pytest.mark.parametrize(("head", "pooling"), [("linear", "cls"), ("linear", "mean"), ("mlp", "cls")])
def test_what_is_saved_scores_as_what_was_trained(
    checkpoint: Base, tmp_path: Path, architecture: str, head: str, pooling: str
) -> None:
    table = words(16)
    options = dataclasses.replace(OPTIONS, head=head, pooling=pooling)
    model, tokenizer = finetune(table, str(checkpoint(architecture)), options)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    texts = table["text"].tolist()
    scored = load_artifact(tmp_path).predict(texts, device="cpu", precision="fp32")
    scored = scored[[probability_column(trait) for trait in TRAITS]]
    np.testing.assert_allclose(scored, probabilities(model, tokenizer, texts), atol=1e-5)


def test_linear_on_cls_is_a_checkpoint_of_stock_transformers(checkpoint: Base, tmp_path: Path) -> None:
    model, _ = finetune(words(16), str(checkpoint("bert")), dataclasses.replace(OPTIONS, pooling="cls"))
    model.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded).__name__ == "BertForSequenceClassification"
    assert torch.equal(loaded.classifier.weight, model.classifier.weight)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_embeddings_stay_as_they_were(checkpoint: Base, frozen: bool) -> None:
    base = str(checkpoint("bert"))
    before = transformers.AutoModel.from_pretrained(base).get_input_embeddings().weight
    model, _ = finetune(words(16), base, dataclasses.replace(OPTIONS, freeze_embeddings=frozen))
    assert torch.equal(model.base_model.get_input_embeddings().weight, before) == frozen


def test_long_texts_are_cut_to_the_models_length(checkpoint: Base) -> None:
    table = words(16)
    table["text"] = table["text"] + " the river" * 100  # the tiny encoder has 64 positions
    finetune(table, str(checkpoint("bert")), OPTIONS)


def test_it_says_how_far_it_is_and_nothing_else(checkpoint: Base, capfd: pytest.CaptureFixture[str]) -> None:
    verbosity = transformers.utils.logging.get_verbosity()
    finetune(words(16), str(checkpoint("bert")), dataclasses.replace(OPTIONS, epochs=2))
    out, err = capfd.readouterr()
    assert err == ""
    assert [line.split()[:2] for line in out.splitlines()] == [["epoch", "1/2"], ["epoch", "2/2"]]
    assert transformers.utils.logging.get_verbosity() == verbosity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="openness"), "has no column openness"),
        (lambda t: t.drop(columns="text"), "has no column text"),
        (lambda t: t.assign(extraversion=2.0), "has a label 2"),
        (lambda t: t.assign(extraversion=np.nan, neuroticism=np.nan), "not one label"),
        (lambda t: t.head(0), "0 rows and not one label"),
    ],
)
def test_a_table_that_teaches_nothing_is_refused(
    checkpoint: Base, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        finetune(change(words()), str(checkpoint("bert")), OPTIONS)


def test_a_base_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ArtifactError, match="can't be loaded as a model to start from"):
        finetune(words(), str(tmp_path), OPTIONS)


def test_an_unknown_head_is_refused(checkpoint: Base) -> None:
    with pytest.raises(SettingsError, match=r"model\.head deep"):
        finetune(words(), str(checkpoint("bert")), dataclasses.replace(OPTIONS, head="deep"))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_what_is_saved_does_not_tell_where_the_base_lay(checkpoint, tmp_path, pooling):
    base = checkpoint("bert")
    labelled = pd.DataFrame({"text": ["I like people", "I like rain"], **{trait: [0.0, 1.0] for trait in TRAITS}})
    model, tokenizer = finetune(labelled, str(base), FinetuneOptions(pooling=pooling, epochs=1, max_length=32))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for file in tmp_path.glob("*.json"):
        assert str(base) not in file.read_text(), file.name
