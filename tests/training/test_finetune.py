"""Fine-tuning learns what is labelled, leaves alone what is not, and gives the same weights for the same seed."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score
from transformers.modeling_outputs import SequenceClassifierOutput

from bigfive_udf.errors import ArtifactError, SettingsError
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.training.finetune import (
    Examples,
    Finetuned,
    FinetuneOptions,
    check_trainer_arguments,
    finetune,
    masked_loss,
)
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


def examples(table: pd.DataFrame) -> Examples:
    return Examples(table["text"].tolist(), table[list(TRAITS)].to_numpy(float))


def trained(
    table: pd.DataFrame, base: Path, validation: pd.DataFrame | None = None, scratch: Path | None = None, **changes: Any
) -> Finetuned:
    options = dataclasses.replace(OPTIONS, **changes)
    held = None if validation is None else examples(validation)
    with tempfile.TemporaryDirectory() as directory:
        return finetune(examples(table), str(base), options, scratch or Path(directory), validation=held)


def probabilities(model: Any, tokenizer: Any, texts: list[str]) -> np.ndarray:
    with torch.inference_mode():
        one = [model(**tokenizer(text, return_tensors="pt")).logits[0].sigmoid().numpy() for text in texts]
    return np.array(one)


def test_it_learns_what_is_labelled(checkpoint: Base) -> None:
    table = words()
    made = trained(table, checkpoint("bert"), epochs=12)
    said = probabilities(made.model, made.tokenizer, table["text"].tolist())[:, 0]
    assert said[table["extraversion"] == 1].min() > said[table["extraversion"] == 0].max()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(checkpoint: Base) -> None:
    first, again, other = (
        trained(words(), checkpoint("bert"), epochs=2, seed=seed).model.state_dict() for seed in (3, 3, 4)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.0.weight"], other["head.0.weight"])


def test_a_trait_without_labels_learns_nothing(checkpoint: Base) -> None:
    few, many = (trained(words(), checkpoint("bert"), weight_decay=0, epochs=e).model for e in (1, 3))
    labelled, unlabelled = TRAITS.index("extraversion"), TRAITS.index("openness")
    assert torch.equal(few.head[0].weight[unlabelled], many.head[0].weight[unlabelled])
    assert not torch.equal(few.head[0].weight[labelled], many.head[0].weight[labelled])


def test_the_loss_is_the_mean_over_the_labels_that_are_there() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.0, 9.0], [1.5, 0.2, 0.0, 0.0, -9.0]], requires_grad=True)
    labels = torch.tensor([[1.0, 0.0, -100, -100, -100], [-100, 1.0, -100, -100, -100]])
    loss = masked_loss()(SequenceClassifierOutput(logits=logits), labels)
    p = logits.detach().sigmoid()
    assert loss.item() == pytest.approx(-(p[0, 0].log() + (1 - p[0, 1]).log() + p[1, 1].log()).item() / 3)
    loss.backward()
    assert (logits.grad[labels == -100] == 0).all()
    assert (logits.grad[labels != -100] != 0).all()


def test_a_batch_without_any_label_costs_nothing() -> None:
    outputs = SequenceClassifierOutput(logits=torch.ones(2, 5))
    assert masked_loss()(outputs, torch.full((2, 5), -100.0)).item() == 0


def test_positive_weights_are_those_of_torch() -> None:
    logits, labels = torch.randn(6, 5), torch.randint(0, 2, (6, 5)).float()
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights)
    assert masked_loss(weights)({"logits": logits}, labels).item() == pytest.approx(expected.item())


def test_positive_weights_raise_what_a_rare_trait_gets(checkpoint: Base) -> None:
    table = words()
    table["openness"] = [1.0] + [0.0] * (len(table) - 1)
    plain, balanced = (
        trained(table, checkpoint("bert"), epochs=4, positive_weights=how) for how in ("none", "balanced")
    )
    low, high = (probabilities(m.model, m.tokenizer, table["text"].tolist())[:, 4].mean() for m in (plain, balanced))
    assert low < 0.1 < high


def test_accumulated_batches_weigh_each_label_alike(checkpoint: Base) -> None:
    """With labels missing unevenly: the mean is over the labels of the update, not of its parts."""
    logits, labels = torch.randn(8, 5), torch.randint(0, 2, (8, 5)).float()
    labels[:3, 1:] = -100
    count = (labels != -100).sum()
    halves = [masked_loss()({"logits": logits[part]}, labels[part], count) for part in (slice(4), slice(4, 8))]
    assert sum(halves).item() == pytest.approx(masked_loss()({"logits": logits}, labels).item())

    no_dropout = checkpoint("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    whole = trained(words(32), no_dropout, epochs=2, batch_size=16)
    parts = trained(words(32), no_dropout, epochs=2, batch_size=4, gradient_accumulation=4)
    assert [e.loss for e in parts.epochs] == pytest.approx([e.loss for e in whole.epochs], rel=5e-3)


@pytest.mark.parametrize("architecture", ["distilbert", "bert", "roberta"])
@pytest.mark.parametrize(("head", "pooling"), [("linear", "cls"), ("linear", "mean"), ("mlp", "cls")])
def test_what_is_saved_scores_as_what_was_trained(
    checkpoint: Base, tmp_path: Path, architecture: str, head: str, pooling: str
) -> None:
    table = words(16)
    made = trained(table, checkpoint(architecture), head=head, pooling=pooling)
    made.model.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    texts = table["text"].tolist()
    scored = load_artifact(tmp_path).predict(texts, device="cpu", precision="fp32")
    scored = scored[[probability_column(trait) for trait in TRAITS]]
    np.testing.assert_allclose(scored, probabilities(made.model, made.tokenizer, texts), atol=1e-5)


def test_linear_on_cls_is_a_checkpoint_of_stock_transformers(checkpoint: Base, tmp_path: Path) -> None:
    model = trained(words(16), checkpoint("bert"), pooling="cls").model
    model.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded).__name__ == "BertForSequenceClassification"
    assert torch.equal(loaded.classifier.weight, model.classifier.weight)


@pytest.mark.parametrize(("frozen", "same"), [(None, []), (0, ["embeddings"]), (1, ["embeddings", "layer.0"])])
def test_frozen_layers_stay_as_they_were(checkpoint: Base, frozen: int | None, same: list[str]) -> None:
    before = transformers.AutoModel.from_pretrained(checkpoint("bert"), add_pooling_layer=False).state_dict()
    after = trained(words(16), checkpoint("bert"), frozen_layers=frozen).model.encoder.state_dict()
    unchanged = {name for name, weight in before.items() if torch.equal(weight, after[name])}
    for part in ("embeddings", "layer.0", "layer.1"):
        names = {name for name in before if f"{part}." in name and "token_type" not in name}
        assert names
        assert (names <= unchanged) == (part in same)


def test_more_frozen_layers_than_there_are_are_refused(checkpoint: Base) -> None:
    with pytest.raises(SettingsError, match=r"train\.frozen_layers 3: the encoder has 2 layers"):
        trained(words(16), checkpoint("bert"), frozen_layers=3)


def test_long_texts_are_cut_to_the_models_length(checkpoint: Base) -> None:
    table = words(16)
    table["text"] = table["text"] + " the river" * 100  # the tiny encoder has 128 positions
    assert trained(table, checkpoint("bert"), max_length=400).max_length == 128


def test_it_says_how_far_it_is_and_nothing_else(checkpoint: Base, capfd: pytest.CaptureFixture[str]) -> None:
    verbosity = transformers.utils.logging.get_verbosity()
    trained(words(16), checkpoint("bert"), epochs=2)
    trained(words(16), checkpoint("bert"), epochs=1, validation=words(12))
    out, err = capfd.readouterr()
    assert err == ""
    assert [line.split()[:2] for line in out.splitlines()] == [["epoch", "1/2"], ["epoch", "2/2"], ["epoch", "1/1"]]
    assert "validation loss" in out.splitlines()[2] and "ROC AUC" in out.splitlines()[2]
    assert transformers.utils.logging.get_verbosity() == verbosity


def test_what_an_epoch_came_to_is_told(checkpoint: Base) -> None:
    made = trained(words(), checkpoint("bert"), epochs=3, validation=words(24))
    assert len(made.epochs) == made.kept == 3
    losses = [epoch.loss for epoch in made.epochs]
    assert losses == sorted(losses, reverse=True)
    last = made.epochs[-1]
    held = words(24)
    logits = torch.logit(torch.from_numpy(probabilities(made.model, made.tokenizer, held["text"].tolist())).double())
    known = held[["extraversion", "neuroticism"]].notna().to_numpy()
    aucs = [roc_auc_score(held.loc[known[:, i], t], logits[known[:, i], i]) for i, t in enumerate(TRAITS[:2])]
    assert last.validation_roc_auc == pytest.approx(np.mean(aucs), abs=1e-6)


def test_early_stopping_keeps_the_best_epoch(checkpoint: Base) -> None:
    turned = words(24)
    turned[list(TRAITS)] = 1 - turned[list(TRAITS)]  # the more is learned, the worse it gets
    made = trained(words(), checkpoint("bert"), epochs=8, early_stopping=2, validation=turned)
    aucs = [epoch.validation_roc_auc for epoch in made.epochs]
    assert len(made.epochs) < 8
    assert made.kept == 1 + int(np.argmax(aucs))
    held = turned["text"].tolist()
    said = probabilities(made.model, made.tokenizer, held)
    known = turned[["extraversion", "neuroticism"]].notna().to_numpy()
    kept = [roc_auc_score(turned.loc[known[:, i], t], said[known[:, i], i]) for i, t in enumerate(TRAITS[:2])]
    assert np.mean(kept) == pytest.approx(max(aucs), abs=1e-6)


def test_what_had_stopped_early_is_not_gone_on_with(checkpoint: Base, tmp_path: Path) -> None:
    """Run again before its predictions were kept, it gives the model that it had given, and no other."""
    turned = words(24)
    turned[list(TRAITS)] = 1 - turned[list(TRAITS)]
    changes: dict[str, Any] = {"epochs": 12, "early_stopping": 2, "validation": turned, "scratch": tmp_path}
    first = trained(words(), checkpoint("bert"), **changes)
    again = trained(words(), checkpoint("bert"), **changes)
    assert (again.epochs, again.kept) == (first.epochs, first.kept)
    assert len(first.epochs) < 12
    for name, weight in first.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], weight), name


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda w: {f"foreign.{name}": t for name, t in w.items()}, "lacks .* of its encoder's weights"),
        (lambda w: {name: t for name, t in w.items() if "layer.1" not in name}, r"lacks .* \(.*layer\.1"),
        (lambda w: {name: t * float("nan") for name, t in w.items()}, "holds values that are no finite numbers"),
    ],
)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_base_that_is_not_whole_is_refused(checkpoint: Base, tmp_path: Path, damage, message, pooling) -> None:
    base = Path(shutil.copytree(checkpoint("bert"), tmp_path / "base"))
    weights = load_file(base / "model.safetensors")
    save_file(damage(weights), base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=message):
        trained(words(8), base, pooling=pooling)


def test_a_base_without_its_words_is_refused(checkpoint: Base, tmp_path: Path) -> None:
    base = Path(shutil.copytree(checkpoint("bert"), tmp_path / "base"))
    (base / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match=r"model\.base .* has no tokenizer"):
        trained(words(8), base)


def test_a_base_that_is_a_classifier_lends_its_encoder_and_not_its_head(checkpoint: Base) -> None:
    encoder = load_file(checkpoint("bert") / "model.safetensors")
    still = {"learning_rate": 1e-12, "head_rate_factor": 1e-3, "seed": 5}
    model = trained(words(8), checkpoint("bert"), pooling="cls", **still).model
    assert torch.allclose(
        model.bert.embeddings.word_embeddings.weight, encoder["bert.embeddings.word_embeddings.weight"]
    )
    assert not torch.allclose(model.classifier.weight, encoder["classifier.weight"], atol=0.01)


def test_a_base_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ArtifactError, match="has no weights at all"):
        trained(words(), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="can't be loaded as a model to start from"):
        trained(words(), tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 1.0}, r"train\.trainer\.learning_rate: set train\.learning_rate instead"),
        ({"save_strategy": "no"}, r"train\.trainer\.save_strategy: resuming and evaluation rely on it"),
        ({"lerning_rate": 1.0}, "unexpected keyword argument 'lerning_rate'"),
        ({"lr_scheduler_type": "zigzag"}, "zigzag"),
    ],
)
def test_wrong_trainer_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_trainer_arguments(arguments)


def test_right_trainer_arguments_reach_the_trainer(checkpoint: Base) -> None:
    check_trainer_arguments({"lr_scheduler_type": "cosine"})
    linear, cosine = (
        trained(words(), checkpoint("bert"), epochs=2, trainer={"lr_scheduler_type": kind}).model.head[0].weight
        for kind in ("linear", "cosine")
    )
    assert not torch.equal(linear, cosine)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_what_is_saved_does_not_tell_where_the_base_lay(checkpoint: Base, tmp_path: Path, pooling: str) -> None:
    made = trained(words(8), checkpoint("bert"), pooling=pooling)
    made.model.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    for file in tmp_path.glob("*.json"):
        assert str(checkpoint("bert")) not in file.read_text(), file.name
