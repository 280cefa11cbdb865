"""Hugging Face checkpoints: stock transformers' sigmoid(logits) is the truth; what is of another kind is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

from bigfive_udf.errors import ArtifactError, OutputError, SettingsError
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.traits import TRAITS
from support.import_job import OUTPUTS, probabilities, run_import
from support.models import TRAINING_TEXT, encoder_config, save_checkpoint, wordpiece_tokenizer
from support.oracle import Oracle

UNNAMED = {f"LABEL_{i}": i for i in range(5)}
TEXTS = [*TRAINING_TEXT, "a", "I like people"]


def unnamed(directory: Path, architecture: str = "distilbert", **changes: Any) -> Path:
    """A checkpoint whose outputs have no names."""
    labels = {"id2label": {i: name for name, i in UNNAMED.items()}, "label2id": UNNAMED}
    return save_checkpoint(directory, architecture, **labels | changes)


def edit_config(directory: Path, **changes: Any) -> Path:
    """Change config.json; a key set to ... is taken out."""
    file = directory / "config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))
    return directory


@pytest.fixture
def message(import_model: Callable[..., Path]) -> Callable[..., str]:
    """The one line that an import is refused with, as a broken model unless said otherwise."""

    def run(source: Path | str, kind: type[Exception] = ArtifactError, **more: Any) -> str:
        with pytest.raises(kind) as refused:
            import_model({"source.path": str(source)} | {key.replace("__", "."): v for key, v in more.items()})
        text = str(refused.value)
        assert len(text.splitlines()) == 1
        return text

    return run


# --- the right numbers ---


@pytest.mark.parametrize("architecture", ["distilbert", "bert", "roberta", "deberta-v2"])
def test_an_imported_checkpoint_gives_the_probabilities_of_stock_transformers(import_model, tmp_path, architecture):
    source = unnamed(tmp_path / "source", architecture)
    artifact = import_model({"source.path": str(source), "source.labels": OUTPUTS})
    oracle = Oracle(source)
    truth = np.array([oracle.probabilities(text) for text in TEXTS])
    alone = np.concatenate([probabilities(artifact, [text], OUTPUTS) for text in TEXTS])
    np.testing.assert_allclose(alone, truth, rtol=0, atol=1e-6)
    # In one batch, with padding, the order of additions is another one.
    np.testing.assert_allclose(probabilities(artifact, TEXTS, OUTPUTS), truth, rtol=0, atol=1e-5)


def test_stock_transformers_loads_the_artifact_and_says_the_same_by_name(import_model, tmp_path):
    source = unnamed(tmp_path / "source")
    artifact = import_model({"source.path": str(source), "source.labels": OUTPUTS})
    one, other = (AutoModelForSequenceClassification.from_pretrained(path).eval() for path in (source, artifact))
    assert [other.config.id2label[i] for i in range(5)] == OUTPUTS
    assert other.config.problem_type == "multi_label_classification"
    inputs = wordpiece_tokenizer()(TEXTS, padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        assert torch.equal(one(**inputs).logits, other(**inputs).logits)


@pytest.mark.parametrize(
    "names",
    [
        [name.capitalize() for name in OUTPUTS],
        ["O", "C", "E", "A", "N"],
        [f" {name.upper()} " for name in OUTPUTS],
    ],
    ids=["capitals", "letters", "shouted"],
)
def test_the_checkpoints_own_names_of_the_traits_are_taken(import_model, tmp_path, names):
    source = save_checkpoint(
        tmp_path / "source", id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)}
    )
    artifact = import_model({"source.path": str(source)})
    assert json.loads((artifact / "config.json").read_text())["id2label"] == {
        str(i): trait for i, trait in enumerate(OUTPUTS)
    }
    oracle = Oracle(source)
    truth = np.array([oracle.probabilities(text) for text in TEXTS])
    np.testing.assert_allclose(probabilities(artifact, TEXTS, OUTPUTS), truth, rtol=0, atol=1e-6)


def test_names_that_mean_the_traits_in_another_language_are_vouched_for_by_the_flag(import_model, tmp_path, message):
    names = ["Offenheit", "Gewissenhaftigkeit", "Extraversion", "Verträglichkeit", "Neurotizismus"]
    source = save_checkpoint(tmp_path / "source", id2label=dict(enumerate(names)), label2id={})
    assert "which are not all traits: set source.labels to the traits that they stand for" in message(source)
    artifact = import_model({"source.path": str(source), "source.labels": ["O", "C", "E", "A", "N"]})
    assert list(json.loads((artifact / "config.json").read_text())["label2id"]) == OUTPUTS


def test_weights_and_tokenizer_come_as_they_are(import_model, checkpoint):
    source = checkpoint()
    artifact = import_model({"source.path": str(source)})
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        assert (artifact / name).read_bytes() == (source / name).read_bytes()
    own, imported = (json.loads((path / "config.json").read_text()) for path in (source, artifact))
    assert {key: value for key, value in own.items() if key != "_name_or_path"} == imported


def test_a_checkpoint_in_several_files_is_imported(import_model, tmp_path):
    source = save_checkpoint(tmp_path / "source")
    before = Oracle(source).probabilities(TEXTS[0])
    model = AutoModelForSequenceClassification.from_pretrained(source)
    (source / "model.safetensors").unlink()
    model.save_pretrained(source, max_shard_size="50kB")
    assert len(list(source.glob("model-*.safetensors"))) > 1
    artifact = import_model({"source.path": str(source)})
    np.testing.assert_allclose(probabilities(artifact, TEXTS[:1], list(TRAITS))[0], before, rtol=0, atol=1e-6)


def test_a_checkpoint_of_our_own_kind_keeps_its_head_and_pooling(import_model, tmp_path):
    source = save_checkpoint(tmp_path / "source", head="mlp", pooling="mean")
    artifact = import_model({"source.path": str(source)})
    about = json.loads((artifact / "bigfive.json").read_text())
    assert (about["head"], about["pooling"]) == ("mlp", "mean")


def test_the_artifact_has_what_the_settings_say_and_no_evaluation(tmp_path, checkpoint, capsys):
    output = tmp_path / "imported"
    run = run_import(
        {
            "source.path": str(checkpoint()),
            "output.path": str(output),
            "model.max_length": 40,
            "model.languages": ["en"],
            "labels.thresholds": {"N": 0.3},
        }
    )
    artifact = load_artifact(output)
    assert artifact.max_length == 40
    assert artifact.thresholds == dict.fromkeys(TRAITS, 0.5) | {"neuroticism": 0.3}
    assert artifact.description["languages"] == ["en"]
    assert artifact.description["base_model"] == checkpoint().name
    assert artifact.evaluation == {}
    assert (run.result["model_id"], run.result["outputs"]) == (artifact.model_id, list(TRAITS))


def test_a_tokenizer_can_come_from_the_base(import_model, tmp_path, message):
    source = save_checkpoint(tmp_path / "source")
    truth = Oracle(source).probabilities(TEXTS[0])
    base = save_checkpoint(tmp_path / "base", seed=1)
    assert "has a tokenizer of its own; leave source.base out" in message(source, SettingsError, source__base=str(base))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (source / name).unlink()
    assert message(source).startswith(f"{source} has no tokenizer: set source.base to the model that the training")
    artifact = import_model({"source.path": str(source), "source.base": str(base)})
    np.testing.assert_allclose(probabilities(artifact, TEXTS[:1], list(TRAITS))[0], truth, rtol=0, atol=1e-6)


def test_a_checkpoint_that_does_not_say_how_it_was_trained_is_vouched_for(import_model, tmp_path, message):
    source = edit_config(save_checkpoint(tmp_path / "source"), problem_type=...)
    text = message(source)
    assert text.startswith(f"{source} does not say how it was trained")
    assert text.endswith("set source.activation=sigmoid")
    artifact = import_model({"source.path": str(source), "source.activation": "sigmoid"})
    assert load_artifact(artifact).config["problem_type"] == "multi_label_classification"


# --- what is refused ---


def test_four_outputs_are_refused(message, tmp_path):
    source = save_checkpoint(tmp_path / "four", id2label=dict(enumerate(TRAITS[:4])), label2id={})
    for more in ({}, {"source__labels": ["E", "N", "A", "C", "O"]}):
        assert message(source, **more) == (
            f"{source} has 4 outputs, expected 5: import a model that was trained on all five traits"
        )


def test_five_names_on_four_outputs_are_refused(message, tmp_path):
    source = save_checkpoint(tmp_path / "four", id2label=dict(enumerate(TRAITS[:4])), label2id={})
    edit_config(source, id2label=dict(enumerate(TRAITS)))
    text = message(source)
    assert text.startswith(f"{source}: weight classifier.")
    assert "has the shape (4" in text


def test_a_configuration_without_names_stands_for_two_outputs(message, tmp_path):
    source = edit_config(save_checkpoint(tmp_path / "two"), id2label=..., label2id=...)
    assert "has 2 outputs, expected 5" in message(source)


def test_outputs_without_names_need_the_flag(message, tmp_path):
    source = unnamed(tmp_path / "source")
    text = message(source)
    assert text.startswith(
        f"{source} does not name its outputs (id2label: LABEL_0, LABEL_1, LABEL_2, LABEL_3, LABEL_4)"
    )
    assert "set source.labels to the traits in the order of the label columns" in text


def test_names_that_contradict_the_checkpoint_are_refused(message, import_model, checkpoint):
    text = message(checkpoint(), SettingsError, source__labels=OUTPUTS)
    assert text.startswith(f"source.labels {', '.join(OUTPUTS)}: {checkpoint()} itself says {', '.join(TRAITS)}; leave")
    import_model({"source.path": str(checkpoint()), "source.labels": list(TRAITS)})


@pytest.mark.parametrize("flag", [{}, {"source__labels": list(TRAITS)}], ids=["as it says", "whatever the flag says"])
def test_a_trait_turned_round_is_refused(message, tmp_path, flag):
    names = ["Extraversion", "Emotional_Stability", "Agreeableness", "Conscientiousness", "Openness"]
    source = save_checkpoint(tmp_path / "source", id2label=dict(enumerate(names)), label2id={})
    assert "has a label 'Emotional_Stability', a trait turned round" in message(source, **flag)


@pytest.mark.parametrize(
    ("problem", "said"), [("single_label_classification", "a softmax"), ("regression", "a regression")]
)
def test_a_softmax_and_a_regression_are_refused_whoever_vouches_for_them(message, tmp_path, problem, said):
    source = edit_config(save_checkpoint(tmp_path / "source"), problem_type=problem)
    assert f"was trained with {said} (problem_type {problem})" in message(source, source__activation="sigmoid")


def test_a_pickle_is_refused_with_the_cure(message, tmp_path):
    source = save_checkpoint(tmp_path / "source")
    torch.save(load_file(source / "model.safetensors"), source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    assert message(source) == (
        f"{source} has only pytorch_model.bin: save the model again with save_pretrained, "
        "which writes model.safetensors"
    )


def test_a_model_that_is_no_classifier_is_refused(message, tmp_path):
    tokenizer = wordpiece_tokenizer()
    AutoModelForMaskedLM.from_config(encoder_config("distilbert", len(tokenizer))).save_pretrained(tmp_path / "masked")
    tokenizer.save_pretrained(tmp_path / "masked")
    assert "is a DistilBertForMaskedLM, not a sequence classifier" in message(tmp_path / "masked")


def test_code_of_its_own_is_refused(message, tmp_path):
    source = edit_config(save_checkpoint(tmp_path / "source"), auto_map={"AutoConfig": "evil.Config"})
    assert "needs code of its own (auto_map in config.json), which is never run" in message(source)


def test_an_artifact_needs_no_import(message, import_model, checkpoint):
    artifact = import_model({"source.path": str(checkpoint())}, name="first")
    assert message(artifact) == (f"{artifact} is an artifact already: there is nothing to import, set model.path to it")


def test_damaged_weights_are_refused(message, tmp_path):
    source = save_checkpoint(tmp_path / "source")
    whole = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    text = message(source)
    assert text.startswith(f"{source}/model.safetensors is no whole safetensors file")
    (source / "model.safetensors").write_bytes(whole)
    weights = load_file(source / "model.safetensors")
    save_file({n: t for n, t in weights.items() if n != "classifier.bias"}, source / "model.safetensors")
    assert message(source) == f"{source}: the checkpoint has no weight classifier.bias: copy or save the model again"
    weights["classifier.bias"][0] = torch.inf
    save_file(weights, source / "model.safetensors")
    assert "weight classifier.bias holds values that are not finite" in message(source)
    (source / "model.safetensors").unlink()
    (source / "model.safetensors").symlink_to(tmp_path / "gone")
    assert f"{source}/model.safetensors can't be read (No such file or directory)" in message(source)


def test_a_configuration_that_is_no_json_is_refused(message, tmp_path):
    source = save_checkpoint(tmp_path / "source")
    (source / "config.json").write_text("{")
    assert message(source).startswith(f"{source}/config.json can't be read as JSON")
    (source / "config.json").unlink()
    assert message(source).startswith(f"source.path {source} has no config.json: save the model again")


def test_more_tokens_than_the_model_has_positions_for_are_refused(message, checkpoint):
    text = message(checkpoint(), SettingsError, model__max_length=129)
    assert text == f"model.max_length 129: {checkpoint()} takes at most 128 tokens"


def test_an_output_that_exists_is_refused_and_stays_as_it_is(checkpoint, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="there exists, and a model is never overwritten"):
        run_import({"source.path": str(checkpoint()), "output.path": str(tmp_path / "there")})
    assert [p.name for p in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there" / "mine.txt").read_text() == "mine"


def test_a_source_that_is_nowhere_is_refused(message, tmp_path, monkeypatch):
    import huggingface_hub

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    assert f"source.path {tmp_path}/a/b is not a directory: give a directory" in message(tmp_path / "a" / "b")
    shutil.copyfile(__file__, tmp_path / "file")
    assert "is a file, not a directory" in message(tmp_path / "file")
    assert "set source.path=DIR" in message("nobody/has-this-model")
