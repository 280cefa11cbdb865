"""Which model directories are trusted, what they are called, and why the others are refused."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from bigfive_udf import load_artifact
from bigfive_udf.errors import ArtifactError, OutputError, SettingsError
from bigfive_udf.model import checkpoint as model_checkpoint
from bigfive_udf.model.artifact import describe, new_artifact
from bigfive_udf.traits import TRAITS
from support.models import TRAINING_TEXT

PROBABILITIES = [f"prob_{t}" for t in TRAITS]
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
ABOUT: dict[str, Any] = {
    "head": "linear",
    "pooling": "cls",
    "thresholds": {
        "extraversion": 0.5,
        "neuroticism": 0.4,
        "agreeableness": 0.3,
        "conscientiousness": 0.6,
        "openness": 0.7,
    },
    "max_length": 128,
    "languages": ["en"],
    "base_model": "a test",
    "training_data": "sha256:0",
}


@pytest.fixture
def plain(checkpoint: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """A checkpoint of one's own, to damage; keyword arguments change its config.json, None takes a key away."""

    def make(architecture: str = "distilbert", head: str = "linear", **config: Any) -> Path:
        directory = tmp_path / f"{architecture}-{head}"
        shutil.copytree(checkpoint(architecture, head=head), directory)
        edit(directory / "config.json", **config)
        return directory

    return make


@pytest.fixture
def artifact(plain: Callable[..., Path]) -> Path:
    """A described artifact with a file in it that no score depends on."""
    directory = plain()
    (directory / "README.md").write_text("# A model\n")
    describe(directory, **ABOUT)
    return directory


def edit(file: Path, **changes: Any) -> None:
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def change_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    weights = change(load_file(directory / "model.safetensors"))
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def refusal(directory: Path | str, **options: Any) -> str:
    """Why the directory is refused, when it is opened or when it is made ready to travel."""
    with pytest.raises(ArtifactError) as refused:
        artifact = load_artifact(directory, **options)
        artifact.options()
        artifact.pack("fp32")
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


# --- model_id ---


def sha256sum(directory: Path, *names: str) -> str:
    pipeline = 'sha256sum "$@" | sha256sum | cut -c1-12'
    return subprocess.run(
        ["sh", "-c", pipeline, "sh", *names], cwd=directory, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_model_id_is_what_the_shell_says(plain, head):
    directory = plain(head=head)
    assert load_artifact(directory).model_id == sha256sum(directory, *MODEL_FILES)


def test_an_artifact_and_the_plain_checkpoint_it_was_made_of_have_one_model_id(artifact):
    described = load_artifact(artifact).model_id
    for name in ("bigfive.json", "README.md"):
        (artifact / name).unlink()
    assert load_artifact(artifact).model_id == described == sha256sum(artifact, *MODEL_FILES)


@pytest.mark.parametrize("name", [*MODEL_FILES, "special_tokens_map.json", "vocab.txt", "added_tokens.json"])
def test_every_file_that_a_score_can_depend_on_is_in_the_model_id(plain, name):
    directory = plain()
    before = load_artifact(directory).model_id
    file = directory / name
    file.write_bytes((file.read_bytes() if file.exists() else b"{}") + b"\n")
    assert load_artifact(directory).model_id == sha256sum(directory, *sorted({*MODEL_FILES, name})) != before


@pytest.mark.parametrize(
    "name", ["README.md", "evaluation.json", "training_args.bin", "optimizer.pt", ".gitattributes"]
)
def test_files_that_no_score_depends_on_are_not(plain, name):
    directory = plain()
    before = load_artifact(directory).model_id
    (directory / name).write_text("{}")
    assert load_artifact(directory).model_id == before


def test_thresholds_are_not_part_of_the_model_id_and_decide_the_labels(artifact):
    before = load_artifact(artifact)
    scores = before.predict(TRAINING_TEXT, precision="fp32")
    middle = sorted(scores.prob_openness)[len(scores) // 2]
    edit(artifact / "bigfive.json", thresholds=dict.fromkeys(TRAITS, 0.0) | {"openness": float(middle)})
    after = load_artifact(artifact)
    assert after.model_id == before.model_id
    frame = after.predict(TRAINING_TEXT, precision="fp32")
    assert frame.label_extraversion.tolist() == [True] * len(TRAINING_TEXT)
    assert frame.label_openness.tolist() == (scores.prob_openness >= middle).tolist()
    assert 0 < frame.label_openness.sum() < len(TRAINING_TEXT)


# --- an artifact is what was written ---


def test_the_description_says_what_the_contract_says(artifact):
    content = json.loads((artifact / "bigfive.json").read_text())
    digests = subprocess.run(
        ["sha256sum", *MODEL_FILES, "README.md"], cwd=artifact, capture_output=True, text=True, check=True
    )
    assert content.pop("files") == {line.split()[1]: line.split()[0] for line in digests.stdout.splitlines()}
    assert content.pop("format_version") == 1
    assert content.pop("traits") == list(TRAITS)
    assert content.pop("package_version")
    assert content == ABOUT


@pytest.mark.parametrize("name", [*MODEL_FILES, "README.md"])
def test_a_changed_byte_is_found_and_its_file_named(artifact, name):
    content = bytearray((artifact / name).read_bytes())
    at = content.index(b" ")  # a byte that leaves JSON what it was
    content[at] = ord("\t") if name.endswith("json") else content[at] ^ 1
    (artifact / name).write_bytes(content)
    message = refusal(artifact)
    assert message == (
        f"{artifact / name} is not the file that was written (its sha256 differs): "
        "copy the artifact again or train it anew"
    )


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"]
)
def test_a_missing_file_is_named(artifact, name):
    (artifact / name).unlink()
    message = refusal(artifact)
    assert str(artifact) in message
    assert name in message
    assert re.search("copy|save|must be", message), "and a cure"


@pytest.mark.parametrize(
    "name", ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "vocab.txt", "spm.model"]
)
def test_a_model_file_that_is_not_listed_is_named(artifact, name):
    (artifact / name).write_text("{}")
    assert refusal(artifact) == (
        f"{artifact / name} is not listed in bigfive.json: remove it or train the artifact anew"
    )


@pytest.mark.parametrize("version", [2, 0, "1", None])
def test_a_format_of_another_time_is_refused_with_both_versions(artifact, version):
    edit(artifact / "bigfive.json", format_version=version)
    assert refusal(artifact) == (f"{artifact} has format_version {version}, this program reads 1: upgrade bigfive-udf")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"traits": list(reversed(TRAITS))}, "traits"),
        ({"traits": None}, "traits"),
        ({"thresholds": None}, "threshold for extraversion, neuroticism"),
        ({"thresholds": dict.fromkeys(TRAITS[:4], 0.5)}, "threshold for openness"),
        ({"thresholds": dict.fromkeys(TRAITS, 0.5) | {"openness": "0.5"}}, "threshold for openness"),
        ({"thresholds": dict.fromkeys(TRAITS, 0.5) | {"openness": 1.5}}, "threshold for openness"),
        ({"thresholds": dict.fromkeys(TRAITS, 0.5) | {"openness": float("nan")}}, "threshold for openness"),
        ({"thresholds": [0.5] * 5}, "threshold"),
        ({"files": None}, "config.json is not listed"),
        ({"files": ["config.json"]}, "files"),
        ({"max_length": "many"}, "max_length"),
        ({"max_length": 100_000}, "max_length"),
    ],
)
def test_a_description_with_something_wrong_is_told_what(artifact, changes, words):
    edit(artifact / "bigfive.json", **changes)
    message = refusal(artifact)
    assert str(artifact) in message
    assert words in message


@pytest.mark.parametrize("name", ["bigfive.json", "evaluation.json", "config.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\x00"])
def test_json_that_is_none_is_named(artifact, name, content):
    (artifact / name).write_text(content)
    assert refusal(artifact).startswith(f"{artifact / name} ")


def test_the_verdict_for_all_traits_together_goes_before_that_of_a_trait_alone(artifact):
    flags = {"better_than_chance": True, "better_than_chance_corrected": False}
    (artifact / "evaluation.json").write_text(json.dumps({"traits": {"openness": flags}}))
    assert load_artifact(artifact).better_than_chance("openness") is False


def test_a_link_that_is_set_to_another_model_changes_nothing_for_what_has_begun(checkpoint, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(checkpoint())
    opened = load_artifact(link)
    before = opened.pack("fp32").digest
    link.unlink()
    link.symlink_to(checkpoint(seed=1))
    again = load_artifact(link)
    assert again.model_id != opened.model_id
    assert opened.pack("fp32").digest == before != again.pack("fp32").digest


def test_a_model_that_was_changed_since_it_was_opened_is_not_used(checkpoint, tmp_path):
    directory = tmp_path / "model"
    shutil.copytree(checkpoint(), directory)
    opened = load_artifact(directory)
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes())  # the same once more is the same model
    assert opened.pack("fp32").digest == load_artifact(checkpoint()).pack("fp32").digest
    other = load_artifact(checkpoint(seed=1))
    shutil.copyfile(other.path / weights.name, weights)
    with pytest.raises(ArtifactError, match=rf"was {opened.model_id} when this began and is \w+: a model must not be"):
        opened.pack("fp32")
    shutil.rmtree(directory)
    with pytest.raises(ArtifactError, match="can no longer be read"):
        opened.pack("fp32")


def test_a_model_that_is_changed_while_it_is_read_is_not_used(checkpoint, tmp_path, monkeypatch):
    directory = tmp_path / "model"
    shutil.copytree(checkpoint(), directory)
    opened, real = load_artifact(directory), model_checkpoint.read_tensors

    def read_too_late(files: Iterable[Path]) -> dict[str, Any]:
        shutil.copyfile(checkpoint(seed=1) / "model.safetensors", directory / "model.safetensors")
        return real(files)

    monkeypatch.setattr(model_checkpoint, "read_tensors", read_too_late)
    with pytest.raises(ArtifactError, match="a model must not be changed while it is in use"):
        opened.pack("fp32")


@pytest.mark.parametrize("lacking", ["roc_auc", "roc_auc_ci_corrected"])
def test_what_could_not_be_measured_is_not_called_no_better_than_chance(artifact, lacking):
    flags = {"better_than_chance": False, "better_than_chance_corrected": False}
    measured = {"roc_auc": 0.5, "roc_auc_ci_corrected": [0.4, 0.6]}
    for figures, verdict in ((measured, False), (measured | {lacking: None}, None)):
        (artifact / "evaluation.json").write_text(json.dumps({"traits": {"openness": flags | figures}}))
        assert load_artifact(artifact).better_than_chance("openness") is verdict
    assert load_artifact(artifact).label_thresholds({}, require_evidence=True)["openness"] is None


def test_a_trait_that_was_trained_without_labels_is_null_and_the_others_are_not(checkpoint):
    silent = load_artifact(checkpoint(traits_without_labels=["neuroticism", "openness"]))
    whole = load_artifact(checkpoint())
    texts = ["I like people", "", "We walked by the river"]
    found, expected = (one.predict(texts, device="cpu", precision="fp32") for one in (silent, whole))
    for trait in TRAITS:
        if trait in ("neuroticism", "openness"):
            assert found[f"prob_{trait}"].isna().all() and found[f"label_{trait}"].isna().all()
        else:
            pd.testing.assert_series_equal(found[f"prob_{trait}"], expected[f"prob_{trait}"])
    assert found["status"].tolist() == expected["status"].tolist() == ["scored", "empty", "scored"]


@pytest.mark.parametrize("silent", ["openness", ["openes"], {"openness": True}])
def test_a_wrong_list_of_traits_without_labels_is_refused(checkpoint, silent):
    with pytest.raises(ArtifactError, match=r"has traits_without_labels .*, expected a list of traits"):
        load_artifact(checkpoint(traits_without_labels=silent))


def test_the_evaluation_may_be_written_anew_at_any_time(artifact):
    assert load_artifact(artifact).better_than_chance("openness") is None
    for better in (True, False):
        (artifact / "evaluation.json").write_text(json.dumps({"traits": {"openness": {"better_than_chance": better}}}))
        if better:
            describe(artifact, **ABOUT)  # one that is there already is no part of the description
        loaded = load_artifact(artifact)
        assert loaded.better_than_chance("openness") is better
        assert loaded.better_than_chance("neuroticism") is None
        thresholds = loaded.label_thresholds({}, require_evidence=True)
        assert thresholds == dict.fromkeys(TRAITS) | ({"openness": 0.7} if better else {})
    assert loaded.label_thresholds({"openness": 0.1}, require_evidence=False) == ABOUT["thresholds"] | {"openness": 0.1}


# --- plain checkpoints ---


@pytest.mark.parametrize(
    "labels",
    [
        ["extraversion", "neuroticism", "agreeableness", "conscientiousness", "openness"],
        ["openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism"],
        ["Openness", "CONSCIENTIOUSNESS", "ExtraVersion", "agreeableness ", "neuroticism"],
        list("OCEAN"),
        list("enaco"),
        ["O", "conscientiousness", "E", "a", "Neuroticism"],
    ],
)
def test_labels_may_come_in_any_order_case_and_as_letters(checkpoint, plain, labels):
    directory = plain("bert", id2label=dict(enumerate(labels)))
    by_output = load_artifact(checkpoint("bert")).predict(TRAINING_TEXT, precision="fp32")[PROBABILITIES].to_numpy()
    initials = [label.strip()[0].upper() for label in labels]
    scores = load_artifact(directory).predict(TRAINING_TEXT, precision="fp32")
    for trait in TRAITS:
        expected = by_output[:, initials.index(trait[0].upper())]
        np.testing.assert_allclose(scores[f"prob_{trait}"], expected, atol=1e-6)
    assert load_artifact(directory).thresholds == dict.fromkeys(TRAITS, 0.5)


def test_labels_count_by_their_number_not_by_their_place_in_the_file(checkpoint, plain):
    shuffled = {
        "3": "conscientiousness",
        "0": "extraversion",
        "4": "openness",
        "2": "agreeableness",
        "1": "neuroticism",
    }
    scores = load_artifact(plain("bert", id2label=shuffled)).predict(TRAINING_TEXT, precision="fp32")
    expected = load_artifact(checkpoint("bert")).predict(TRAINING_TEXT, precision="fp32")
    np.testing.assert_array_equal(scores[PROBABILITIES], expected[PROBABILITIES])


@pytest.mark.parametrize(
    "labels",
    [
        {},
        dict(enumerate(f"LABEL_{i}" for i in range(5))),
        dict(enumerate(TRAITS[:4])),
        dict(enumerate([*TRAITS, "honesty"])),
        dict(enumerate([*TRAITS[:4], "extraversion"])),
        dict(enumerate("ENACX")),
        {i + 1: trait for i, trait in enumerate(TRAITS)},
        {trait: trait for trait in TRAITS},
        list(TRAITS),
        dict.fromkeys(range(5)),
        "ENACO",
    ],
    ids=str,
)
def test_labels_that_are_not_the_five_traits_each_once_are_refused(plain, labels):
    message = refusal(plain(id2label=labels))
    assert (
        "id2label in config.json must name extraversion, neuroticism, agreeableness, conscientiousness, openness"
        in message
    )
    for name in labels.values() if isinstance(labels, dict) else ():
        assert str(name) in message


@pytest.mark.parametrize("label", ["emotional stability", "Emotional_Stability", "EMOTIONAL-STABILITY", "introversion"])
def test_a_trait_turned_round_is_refused_with_the_reason(plain, label):
    labels = [
        label if trait == ("extraversion" if label == "introversion" else "neuroticism") else trait for trait in TRAITS
    ]
    message = refusal(plain(id2label=dict(enumerate(labels))))
    assert f"has a label {label!r}, a trait turned round" in message


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize(
    ("problem", "words"),
    [("single_label_classification", "was trained with a softmax"), ("regression", "was trained with a regression")],
)
@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_a_softmax_or_a_regression_is_refused_whatever_the_settings_say(plain, head, problem, words, activation):
    message = refusal(plain(head=head, problem_type=problem), activation=activation)
    assert words in message
    assert problem in message


def test_a_checkpoint_that_does_not_say_how_it_was_trained_needs_the_users_word(plain):
    directory = plain(problem_type=None)
    message = refusal(directory)
    assert message.startswith(f"{directory} does not say how it was trained")
    assert message.endswith("set model.activation=sigmoid")
    scores = load_artifact(directory, activation="sigmoid").predict(TRAINING_TEXT)
    assert set(scores.status) == {"scored"}


@pytest.mark.parametrize("model_type", [None, "no_such_model", 7])
def test_an_architecture_that_nobody_knows_is_refused(plain, model_type):
    message = refusal(plain(model_type=model_type))
    assert "model_type" in message or str(model_type) in message


@pytest.mark.parametrize(
    ("key", "value"), [("encoder", None), ("encoder", {}), ("head", "attention"), ("pooling", "max")]
)
def test_a_head_of_ours_that_this_program_does_not_know_is_refused(plain, key, value):
    directory = plain(head="mlp")
    edit(directory / "config.json", **{key: value})
    message = refusal(directory)
    assert str(directory) in message
    assert key in message


# --- nothing is unpickled, no code of the model is run ---


@pytest.mark.parametrize("name", ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"])
def test_weights_that_would_have_to_be_unpickled_are_refused(plain, name):
    directory = plain()
    (directory / "model.safetensors").rename(directory / name)
    assert refusal(directory) == (
        f"{directory} has only {name}: save the model again with save_pretrained, which writes model.safetensors"
    )


def test_pickled_weights_beside_safetensors_are_not_even_opened(plain, tmp_path):
    directory = plain("deberta-v2")
    before = load_artifact(directory).predict(["I like people"], precision="fp32")
    (directory / "pytorch_model.bin").write_bytes(_bomb(tmp_path / "exploded"))
    after = load_artifact(directory).predict(["I like people"], precision="fp32")
    assert after.equals(before)
    assert not (tmp_path / "exploded").exists()


def _bomb(touched: Path) -> bytes:
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (touched,)

    return pickle.dumps(Bomb())


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_never_run_even_where_the_user_would_say_yes(
    plain, file, head, tmp_path, monkeypatch
):
    directory = plain(head=head)
    (directory / "custom.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
        "from transformers import DistilBertConfig as Config, PreTrainedTokenizerFast as Tokenizer\n"
    )
    edit(
        directory / file,
        auto_map={"AutoConfig": "custom.Config", "AutoTokenizer": ["custom.Tokenizer", "custom.Tokenizer"]},
        **({"tokenizer_class": "Tokenizer"} if file == "tokenizer_config.json" else {}),
    )
    asked: list[object] = []
    monkeypatch.setattr("builtins.input", lambda *prompt: asked.append(prompt) or "y")
    if file == "config.json":
        assert "auto_map in config.json" in refusal(directory)
    else:
        with contextlib.suppress(ArtifactError):  # a stock tokenizer may do without; the code must not run
            load_artifact(directory).pack("fp32")
    assert not (tmp_path / "ran").exists()
    assert asked == []


# --- weights that are not whole ---


def test_a_truncated_file_of_weights_is_named(plain):
    directory = plain()
    file = directory / "model.safetensors"
    for size in (file.stat().st_size - 100, 200, 5, 0):
        os.truncate(file, size)
        assert refusal(directory).startswith(f"{file} is no whole safetensors file (")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("architecture", ["distilbert", "deberta-v2"])
def test_a_weight_that_is_no_finite_number_is_named(plain, architecture, value):
    directory = plain(architecture)

    def spoil(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        weights["classifier.weight"][3, 5] = value
        return weights

    change_weights(directory, spoil)
    assert "classifier.weight" in refusal(directory)


CLASSIFIERS = [
    ("distilbert", "linear", "pre_classifier.weight"),
    ("bert", "linear", "classifier.bias"),
    ("roberta", "linear", "classifier.out_proj.weight"),
    ("distilbert", "mlp", "head.6.weight"),
    ("distilbert", "mlp", "head.0.bias"),
    ("deberta-v2", "linear", "classifier.weight"),
    ("deberta-v2", "mlp", "head.6.weight"),
]


@pytest.mark.parametrize(("architecture", "head", "name"), CLASSIFIERS)
def test_a_missing_weight_is_named_and_never_made_up(plain, architecture, head, name):
    directory = plain(architecture, head=head)
    change_weights(directory, lambda weights: {n: t for n, t in weights.items() if n != name})
    message = refusal(directory)
    assert name in message
    assert str(directory) in message


@pytest.mark.parametrize(("architecture", "head", "name"), CLASSIFIERS)
@pytest.mark.parametrize("rows", [3, 7])
def test_a_weight_of_another_shape_is_named(plain, architecture, head, name, rows):
    directory = plain(architecture, head=head)
    change_weights(directory, lambda w: w | {name: torch.cat([w[name], w[name]])[:rows].contiguous()})
    assert name in refusal(directory)


@pytest.mark.parametrize("architecture", ["distilbert", "deberta-v2"])
def test_an_index_without_its_weights_is_refused(plain, architecture):
    directory = plain(architecture)
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(
        '{"weight_map": {"classifier.weight": "model-00001-of-00001.safetensors"}}'
    )
    assert "weight" in refusal(directory)


def test_weights_in_several_files_are_the_weights_in_one(plain, checkpoint):
    directory = plain("bert")
    weights = load_file(directory / "model.safetensors")
    names = sorted(weights)
    (directory / "model.safetensors").unlink()
    files = {}
    for i, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{i}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, directory / file, metadata={"format": "pt"})
        files |= dict.fromkeys(part, file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    whole = load_artifact(checkpoint("bert")).predict(TRAINING_TEXT, precision="fp32")
    parts = load_artifact(directory).predict(TRAINING_TEXT, precision="fp32")
    np.testing.assert_array_equal(parts[PROBABILITIES], whole[PROBABILITIES])


def test_a_tokenizer_of_another_model_with_more_words_than_the_embeddings_is_refused(plain):
    directory = plain()

    def halve(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        name = "distilbert.embeddings.word_embeddings.weight"
        return weights | {name: weights[name][:100].contiguous()}

    change_weights(directory, halve)
    edit(directory / "config.json", vocab_size=100)
    message = refusal(directory)
    assert "tokenizer" in message
    assert "100" in message


@pytest.mark.parametrize("content", [None, "", "{", "{}"])
def test_a_tokenizer_that_is_missing_or_damaged_is_refused_with_a_cure(plain, content):
    directory = plain()
    (directory / "tokenizer.json").unlink()
    if content is not None:
        (directory / "tokenizer.json").write_text(content)
    message = refusal(directory)
    assert str(directory) in message
    assert "tokenizer" in message
    assert "save" in message


# --- where a model may lie ---


def test_a_path_that_is_no_model_directory_is_told_apart(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "missing" / "deep").endswith(
        "is not a directory: set model.path to a model directory or to a name on the Hugging Face hub"
    )
    assert refusal(tmp_path / "file") == f"{tmp_path}/file is a file: model.path must be a model directory"
    assert refusal(tmp_path / "empty").startswith(f"{tmp_path}/empty has no config.json: ")


def test_a_path_may_be_relative_a_string_or_begin_with_a_tilde(plain, monkeypatch, tmp_path):
    directory = plain()
    expected = load_artifact(directory).model_id
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (str(directory), directory.name, f"./{directory.name}/", f"~/{directory.name}"):
        assert load_artifact(path).model_id == expected


@pytest.fixture(scope="module")
def offline(checkpoint, tmp_path_factory) -> dict[str, Any]:
    """What load_artifact says to two names of the hub where there is no network, one of them in the hub's cache."""
    home = tmp_path_factory.mktemp("hub")
    cached = home / "hub" / "models--org--cached"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    shutil.copytree(checkpoint(), cached / "snapshots" / ("0" * 40))
    program = """
import json, time
from bigfive_udf import load_artifact
from bigfive_udf.errors import ArtifactError
import huggingface_hub.errors  # the import is not what is timed
told = {"cached": load_artifact("org/cached").model_id}
started = time.monotonic()
try:
    load_artifact("no-such-org/no-such-model")
except ArtifactError as error:
    told["message"] = str(error)
told["seconds"] = time.monotonic() - started
print(json.dumps(told))
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=home)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_name_on_the_hub_that_is_not_to_be_had_is_refused_quickly_and_with_the_cure(offline):
    message = offline["message"]
    assert len(message.splitlines()) == 1
    assert message.startswith(
        "no-such-org/no-such-model is no directory here, and the Hugging Face hub can't be reached ("
    )
    assert "`hf download no-such-org/no-such-model --local-dir DIR`" in message
    assert message.endswith("copy DIR here and set model.path=DIR")
    assert offline["seconds"] < 5


def test_a_name_on_the_hub_is_the_model_of_that_name(offline, checkpoint):
    assert offline["cached"] == load_artifact(checkpoint()).model_id


# --- stock transformers ---


def test_stock_transformers_loads_a_linear_head_and_computes_the_same(plain):
    directory = plain()
    describe(directory, **ABOUT)
    model, found = AutoModelForSequenceClassification.from_pretrained(directory, output_loading_info=True)
    assert not any(found.values()), "no weight missing, none too many"
    assert model.config.id2label == dict(enumerate(TRAITS))
    loaded = load_artifact(directory)
    inputs = loaded._tokenizer(TRAINING_TEXT[:1], return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        expected = torch.sigmoid(model.eval()(**inputs).logits).numpy()
    scores = loaded.predict(TRAINING_TEXT[:1], precision="fp32")
    np.testing.assert_allclose(scores[PROBABILITIES], expected, atol=1e-5)


@pytest.mark.parametrize("architecture", ["distilbert", "bert", "deberta-v2"])
def test_stock_transformers_refuses_our_mlp_head_and_invents_no_other(plain, architecture):
    with pytest.raises(ValueError, match="bigfive_udf"):
        AutoModelForSequenceClassification.from_pretrained(plain(architecture, head="mlp"))


# --- lengths ---


@pytest.mark.parametrize("architecture", ["distilbert", "bert", "roberta"])
def test_the_longest_window_is_the_longest_that_the_encoder_itself_can_compute(plain, architecture):
    directory = plain(architecture)
    edit(directory / "tokenizer_config.json", model_max_length=10**30)  # what tokenizers say that know no limit
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()

    def computes(length: int) -> bool:
        try:
            with torch.no_grad():
                model(input_ids=torch.full((1, length), 10), attention_mask=torch.ones(1, length))
        except (IndexError, RuntimeError):
            return False
        return True

    loaded = load_artifact(directory)
    assert computes(loaded.position_limit)
    assert not computes(loaded.position_limit + 1)
    long = loaded.predict([" ".join(TRAINING_TEXT * 3)], options=loaded.options(), precision="fp32")
    assert long.status.tolist() == ["scored"]
    assert long.n_windows[0] > 1


def test_a_window_is_no_longer_than_the_tokenizer_says(plain):
    directory = plain()
    edit(directory / "tokenizer_config.json", model_max_length=40)
    loaded = load_artifact(directory)
    assert loaded.position_limit == loaded.max_length == loaded.options().max_length == 40


def test_the_artifacts_max_length_is_the_default_and_settings_go_over_it(plain):
    directory = plain()
    describe(directory, **ABOUT | {"max_length": 64})
    loaded = load_artifact(directory)
    assert loaded.options().max_length == 64
    assert loaded.options(max_length=100).max_length == 100


@pytest.mark.parametrize("length", [129, 512, 2])
def test_a_window_that_the_model_cannot_take_is_refused_with_what_it_takes(plain, length):
    directory = plain()
    with pytest.raises(SettingsError) as refused:
        load_artifact(directory).options(max_length=length)
    assert str(refused.value) == (f"text.max_length {length}: {directory} takes 3 to 128 tokens, special ones counted")


@pytest.mark.parametrize(("length", "overlap", "room"), [(None, 126, 126), (64, 62, 62), (64, 500, 62)])
def test_an_overlap_that_leaves_no_step_is_refused_with_the_room_there_is(plain, length, overlap, room):
    loaded = load_artifact(plain())
    with pytest.raises(SettingsError) as refused:
        loaded.options(max_length=length, window_overlap=overlap)
    assert str(refused.value) == (
        f"text.window_overlap {overlap}: must be less than the {room} text tokens of a window"
    )
    assert loaded.options(max_length=length, window_overlap=room - 1).window_overlap == room - 1


def test_predict_takes_a_list_and_says_so(plain):
    with pytest.raises(TypeError, match=r"for one text pass \[text\]"):
        load_artifact(plain()).predict("one text")


# --- making one ---


def test_a_new_artifact_appears_whole_and_can_be_read_by_others(checkpoint, tmp_path):
    target = tmp_path / "models" / "new"
    with new_artifact(target) as directory:
        for file in checkpoint().iterdir():
            shutil.copy(file, directory)
        describe(directory, **ABOUT)
        assert not target.exists()
    assert load_artifact(target).thresholds == ABOUT["thresholds"]
    assert os.listdir(target.parent) == ["new"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


@pytest.mark.parametrize("error", [RuntimeError("lost"), OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_new_artifact_that_fails_leaves_nothing(tmp_path, error):
    with pytest.raises(type(error)), new_artifact(tmp_path / "new") as directory:
        (directory / "model.safetensors").write_bytes(b"half of it")
        raise error
    assert os.listdir(tmp_path) == []


def test_a_new_artifact_whose_process_is_killed_is_not_there(tmp_path):
    program = """
import os, signal, sys
from bigfive_udf.model.artifact import new_artifact
with new_artifact(sys.argv[1]) as directory:
    (directory / "config.json").write_text("{}")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "new")])
    assert done.returncode == -9
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("what", ["artifact", "empty directory", "file"])
def test_a_path_that_exists_is_never_overwritten(tmp_path, what):
    target = tmp_path / "there"
    if what == "file":
        target.write_text("precious")
    else:
        target.mkdir()
    if what == "artifact":
        (target / "config.json").write_text("precious")
    with pytest.raises(OutputError) as refused, new_artifact(target):
        pytest.fail("the work must not begin")
    assert str(refused.value) == (
        f"{target} exists, and a model is never overwritten: choose another path or remove it"
    )
    assert os.listdir(tmp_path) == ["there"]
    assert [p.read_text() for p in (target, *target.glob("*")) if p.is_file()] == ["precious"] * (what[0] != "e")


def test_a_path_that_came_to_exist_meanwhile_is_not_overwritten_either(tmp_path):
    target = tmp_path / "new"
    with pytest.raises(OutputError, match=re.escape(str(target))), new_artifact(target) as directory:
        (directory / "config.json").write_text("mine")
        target.mkdir()
        (target / "config.json").write_text("another process's")
    assert (target / "config.json").read_text() == "another process's"
    assert os.listdir(tmp_path) == ["new"]


def test_a_path_that_cannot_be_written_is_told_before_the_work_begins(tmp_path):
    (tmp_path / "file").write_text("")
    started = time.monotonic()
    with pytest.raises(OutputError) as refused, new_artifact(tmp_path / "file" / "new"):
        pytest.fail("the work must not begin")
    assert str(refused.value).startswith(f"{tmp_path}/file/new can't be written: ")
    assert str(refused.value).endswith("choose a path that you may write")
    assert time.monotonic() - started < 1
