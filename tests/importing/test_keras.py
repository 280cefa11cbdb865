"""Keras files: what real TensorFlow computed with them is the truth, and what is not the known model is refused."""

from __future__ import annotations

import json
import shutil
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from bigfive_udf.errors import ArtifactError, SettingsError
from bigfive_udf.importing.keras_file import read_keras_file
from bigfive_udf.traits import TRAITS
from support.import_job import FIXTURE, OUTPUTS, Expected, probabilities, run_import
from support.models import save_checkpoint

BASE = str(FIXTURE / "base")
BLOCK = "layers/distil_bert_layer/distilbert/layers/tf_distil_bert_main_layer/transformer/layer/tf_transformer_block"
EMBEDDINGS = "layers/distil_bert_layer/distilbert/layers/tf_distil_bert_main_layer/embeddings"
FILES = [
    ("keras2.weights.h5", "base", "keras2"),
    ("keras2.h5", "base", "keras2"),
    ("whole.h5", "base", "keras2"),
    ("keras2.keras", "base", "keras2"),
    ("deep.weights.h5", "deep_base", "deep"),
    ("keras3.weights.h5", "base", "keras3"),
    ("keras3.keras", "base", "keras3"),
]


def settings(file: Path | str, base: Path | str = BASE, **more: Any) -> dict[str, Any]:
    return {"source.path": str(file), "source.base": str(base), "source.labels": OUTPUTS, **more}


@pytest.fixture
def changed(keras_files: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of a file, changed by a function that gets it open."""

    def change(edit: Callable[[h5py.File], None], name: str = "keras2.weights.h5") -> Path:
        copy = tmp_path / name
        shutil.copyfile(keras_files / name, copy)
        with h5py.File(copy, "r+") as file:
            edit(file)
        return copy

    return change


@pytest.fixture
def message(import_model: Callable[..., Path]) -> Callable[..., str]:
    """The one line that an import is refused with, as a broken model unless said otherwise."""

    def run(wanted: dict[str, Any], kind: type[Exception] = ArtifactError) -> str:
        with pytest.raises(kind) as refused:
            import_model(wanted)
        text = str(refused.value)
        assert len(text.splitlines()) == 1
        return text

    return run


def replace(file: h5py.File, name: str, value: np.ndarray) -> None:
    del file[name]
    file[name] = value.astype(np.float32)


# --- the right numbers ---


@pytest.mark.parametrize(("file", "base", "model"), FILES)
def test_an_imported_file_gives_the_probabilities_of_tensorflow(
    import_model, keras_files: Path, expected: Expected, file, base, model
):
    artifact = import_model(settings(keras_files / file, FIXTURE / base))
    found = probabilities(artifact, expected.texts, OUTPUTS)
    np.testing.assert_allclose(found, expected.probabilities[model], rtol=0, atol=1e-4)


SWAPS = [
    (f"{BLOCK}/attention/q_lin/vars/{i}", f"{BLOCK}/attention/{other}_lin/vars/{i}")
    for i in (0, 1)
    for other in ("k", "v", "out")
] + [
    (f"{BLOCK}/attention/k_lin/vars/0", f"{BLOCK}/attention/v_lin/vars/0"),
    (f"{BLOCK}/attention/v_lin/vars/1", f"{BLOCK}/attention/out_lin/vars/1"),
    (f"{BLOCK}/attention/q_lin/vars/0", f"{BLOCK}_1/attention/q_lin/vars/0"),
    (f"{BLOCK}/ffn/lin1/vars/0", f"{BLOCK}_1/ffn/lin1/vars/0"),
    (f"{BLOCK}/ffn/lin2/vars/0", f"{BLOCK}_1/ffn/lin2/vars/0"),
    (f"{BLOCK}/ffn/lin2/vars/1", f"{BLOCK}_1/ffn/lin2/vars/1"),
    (f"{BLOCK}/sa_layer_norm/vars/0", f"{BLOCK}/output_layer_norm/vars/0"),
    (f"{BLOCK}/sa_layer_norm/vars/1", f"{BLOCK}/output_layer_norm/vars/1"),
    (f"{BLOCK}_1/output_layer_norm/vars/0", f"{BLOCK}_1/output_layer_norm/vars/1"),
    (f"{EMBEDDINGS}/LayerNorm/vars/0", f"{EMBEDDINGS}/LayerNorm/vars/1"),
    (f"{EMBEDDINGS}/LayerNorm/vars/1", f"{BLOCK}/sa_layer_norm/vars/1"),
]


@pytest.mark.parametrize(("one", "other"), SWAPS, ids=lambda name: "/".join(name.split("/")[-4:]))
def test_any_two_weights_that_were_exchanged_would_be_seen(import_model, changed, expected: Expected, one, other):
    def swap(file: h5py.File) -> None:
        # A key's bias alone changes nothing: the softmax takes away what all keys have in common.
        first, second = file[one][...], file[other][...]
        file[one][...], file[other][...] = second, first

    found = probabilities(import_model(settings(changed(swap))), expected.texts, OUTPUTS)
    assert np.abs(found - expected.probabilities["keras2"]).max() > 1e-3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("embeddings/vars/0", "embeddings/vars/1"),
        ("transformer/layer/tf_transformer_block_2/ffn/lin1/vars/0",
         "transformer/layer/tf_transformer_block_10/ffn/lin1/vars/0"),
    ],
)  # fmt: skip
def test_embeddings_of_one_shape_and_the_order_of_ten_layers_would_be_seen(
    import_model, changed, expected: Expected, one, other
):
    root = "reader/backbone/layers/tf_distil_bert_main_layer"

    def swap(file: h5py.File) -> None:
        first, second = file[f"{root}/{one}"][...], file[f"{root}/{other}"][...]
        assert first.shape == second.shape
        file[f"{root}/{one}"][...], file[f"{root}/{other}"][...] = second, first

    artifact = import_model(settings(changed(swap, "deep.weights.h5"), FIXTURE / "deep_base"))
    found = probabilities(artifact, expected.texts, OUTPUTS)
    assert np.abs(found - expected.probabilities["deep"]).max() > 1e-3


def test_all_layouts_of_one_model_give_one_model_id(keras_files: Path, tmp_path: Path):
    names = ["keras2.weights.h5", "keras2.h5", "whole.h5", "keras2.keras"]
    runs = [run_import(settings(keras_files / n, **{"output.path": str(tmp_path / n)})) for n in names]
    assert len({run.result["model_id"] for run in runs}) == 1


def test_names_of_layers_do_not_matter(import_model, changed, expected: Expected):
    def rename(file: h5py.File) -> None:
        for old, new in [("distil_bert_layer", "mine"), ("dense", "z"), ("dense_1", "dense"), ("dense_2", "dense_1")]:
            file.move(f"layers/{old}", f"layers/{new}")

    found = probabilities(import_model(settings(changed(rename))), expected.texts, OUTPUTS)
    np.testing.assert_allclose(found, expected.probabilities["keras2"], rtol=0, atol=1e-4)


def test_the_state_of_the_training_is_left_out(keras_files: Path):
    with h5py.File(keras_files / "keras2.weights.h5") as file:
        assert len(file["optimizer/vars"]) > 80, "or the check sees nothing"
    layers = read_keras_file(str(keras_files / "keras2.weights.h5")).layers
    assert len(layers) == 3 + 2 + 2 * 8
    assert sum(map(len, layers.values())) == 42


def test_the_seeds_of_dropout_and_half_precision_are_read(import_model, changed, expected: Expected):
    def edit(file: h5py.File) -> None:
        file["layers/dropout/seed_generator/vars/0"] = np.array([1, 2], np.uint32)
        name = "layers/dense_1/vars/0"
        value = file[name][...].astype(np.float16)
        del file[name]
        file[name] = value

    found = probabilities(import_model(settings(changed(edit))), expected.texts, OUTPUTS)
    np.testing.assert_allclose(found, expected.probabilities["keras2"], rtol=0, atol=1e-4)


# --- Keras 3, whose files hold the head alone ---


def test_a_file_of_keras_3_has_no_weight_of_an_encoder(keras_files: Path):
    layers = read_keras_file(str(keras_files / "keras3.weights.h5")).layers
    assert sorted(layers) == ["layers/dense", "layers/dense_1", "layers/dense_2"]


def test_a_head_alone_goes_on_the_encoder_of_the_base_and_the_job_says_so(keras_files: Path, tmp_path: Path, capsys):
    file, output = keras_files / "keras3.weights.h5", tmp_path / "imported"
    run = run_import(settings(file, **{"output.path": str(output)}))
    printed = capsys.readouterr().out
    assert f"{file} holds the head alone" in printed
    assert "Keras 3 neither trains nor saves a transformers encoder" in printed
    assert any("holds the head alone" in note for note in run.result["notes"])
    imported, base = load_file(output / "model.safetensors"), load_file(Path(BASE) / "model.safetensors")
    assert {f"encoder.{name}" for name in base} == {name for name in imported if name.startswith("encoder.")}
    assert all(np.array_equal(imported[f"encoder.{name}"], base[name]) for name in base)


def test_a_whole_file_takes_nothing_of_the_weights_of_the_base(keras_files: Path, tmp_path: Path, capsys):
    bare = tmp_path / "bare"
    shutil.copytree(BASE, bare, ignore=lambda *_: ["model.safetensors"])
    run_import(settings(keras_files / "keras2.weights.h5", bare, **{"output.path": str(tmp_path / "imported")}))
    assert "the head alone" not in capsys.readouterr().out


def test_a_base_whose_file_is_a_masked_language_model_will_do(import_model, keras_files, tmp_path, expected: Expected):
    base = shutil.copytree(BASE, tmp_path / "masked")
    weights = {f"distilbert.{n}": t for n, t in load_file(base / "model.safetensors").items()}
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text()) | {"architectures": ["DistilBertForMaskedLM"]}
    (base / "config.json").write_text(json.dumps(config))
    artifact = import_model(settings(keras_files / "keras3.weights.h5", base))
    found = probabilities(artifact, expected.texts, OUTPUTS)
    np.testing.assert_allclose(found, expected.probabilities["keras3"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("files", "cure"),
    [
        ([], "no weights at all: save the model again with save_pretrained"),
        (["pytorch_model.bin"], "only pytorch_model.bin: save the model again with save_pretrained"),
    ],
)
def test_a_head_alone_needs_the_weights_of_its_base(message, keras_files, tmp_path, files, cure):
    bare = tmp_path / "bare"
    shutil.copytree(BASE, bare, ignore=lambda *_: ["model.safetensors"])
    for name in files:
        (bare / name).write_bytes(b"pickle")
    assert cure in message(settings(keras_files / "keras3.weights.h5", bare))


def test_a_base_that_lacks_a_weight_is_refused(message, keras_files, tmp_path):
    base = shutil.copytree(BASE, tmp_path / "damaged")
    weights = load_file(base / "model.safetensors")
    del weights["transformer.layer.1.ffn.lin2.bias"]
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    assert "has no weight" in message(settings(keras_files / "keras3.weights.h5", base))
    (base / "model.safetensors").write_bytes(b"not safetensors")
    assert "can't be loaded" in message(settings(keras_files / "keras3.weights.h5", base))


# --- what the artifact says of itself ---


def test_the_artifact_says_where_it_is_from_and_no_path_of_this_machine(import_model, keras_files: Path):
    more = {"labels.thresholds": {"O": 0.25}, "model.max_length": 32, "model.languages": ["en", "de"]}
    artifact = import_model(settings(keras_files / "keras2.weights.h5", **more))
    about = json.loads((artifact / "bigfive.json").read_text())
    assert (about["head"], about["pooling"], about["base_model"]) == ("mlp", "cls", "base")
    assert about["thresholds"] == dict.fromkeys(TRAITS, 0.5) | {"openness": 0.25}
    assert (about["max_length"], about["languages"]) == (32, ["en", "de"])
    config = json.loads((artifact / "config.json").read_text())
    assert config["id2label"] == {str(i): trait for i, trait in enumerate(OUTPUTS)}
    assert config["problem_type"] == "multi_label_classification"
    for file in artifact.glob("*.json"):
        assert str(FIXTURE.parent) not in file.read_text(), file
        assert str(keras_files) not in file.read_text(), file


def test_the_labels_decide_which_output_is_which_trait(import_model, keras_files: Path, expected: Expected):
    names = ["neuroticism", "extraversion", "openness", "agreeableness", "conscientiousness"]
    letters = import_model(settings(keras_files / "keras2.weights.h5", **{"source.labels": list("NEOAC")}))
    found = probabilities(letters, expected.texts, names)
    np.testing.assert_allclose(found, expected.probabilities["keras2"], rtol=0, atol=1e-4)


# --- what is refused ---


def test_a_file_does_not_say_what_its_outputs_or_its_encoder_are(message, keras_files):
    file = str(keras_files / "keras2.weights.h5")
    text = message({"source.path": file, "source.base": BASE}, SettingsError)
    assert text.startswith("source.labels is not set: a Keras file does not say which output is which trait; name them")
    text = message({"source.path": file, "source.labels": OUTPUTS}, SettingsError)
    assert text.startswith("source.base is not set: a Keras file has neither the encoder's configuration")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["E", "N", "A", "C"], "names extraversion, neuroticism, agreeableness, conscientiousness; it must name each"),
        (["E", "N", "A", "C", "C"], "it must name each of the five traits once"),
        (["E", "N", "A", "C", "X"], "'X' is no trait; the traits are extraversion"),
        (["E", "emotional stability", "A", "C", "O"], "'emotional stability' is no trait"),
        ([], "names nothing; it must name each"),
    ],
)
def test_labels_that_are_not_the_five_traits_are_refused(message, keras_files, labels, said):
    text = message(settings(keras_files / "keras2.weights.h5", **{"source.labels": labels}), SettingsError)
    assert text.startswith("source.labels: ")
    assert said in text


def four_outputs(file: h5py.File) -> None:
    replace(file, "layers/dense_2/vars/0", np.ones((128, 4)))
    replace(file, "layers/dense_2/vars/1", np.ones(4))


def one_more_dense(file: h5py.File) -> None:
    file["layers/dense_3/vars/0"] = np.ones((128, 5), np.float32)
    file["layers/dense_3/vars/1"] = np.ones(5, np.float32)


def no_middle(file: h5py.File) -> None:
    del file["layers/dense_1"]


def unchained(file: h5py.File) -> None:
    replace(file, "layers/dense_1/vars/0", np.ones((255, 128)))


def convolution(file: h5py.File) -> None:
    file["layers/conv2d/vars/0"] = np.ones((3, 3, 1, 8), np.float32)
    file["layers/conv2d/vars/1"] = np.ones(8, np.float32)


def no_bias(file: h5py.File) -> None:
    del file["layers/dense_2/vars/1"]


def second_encoder(file: h5py.File) -> None:
    file.copy("layers/distil_bert_layer", "layers/distil_bert_layer_1")


def no_query(file: h5py.File) -> None:
    del file[f"{BLOCK}/attention/q_lin"]


def no_key_bias(file: h5py.File) -> None:
    del file[f"{BLOCK}/attention/k_lin/vars/1"]


def no_first_layer(file: h5py.File) -> None:
    del file[BLOCK]


def no_last_layer(file: h5py.File) -> None:
    del file[f"{BLOCK}_1"]


def no_embeddings(file: h5py.File) -> None:
    del file[f"{EMBEDDINGS}/vars/0"]


def embeddings_twice(file: h5py.File) -> None:
    for i in (0, 1):
        file[f"{EMBEDDINGS}/vars/{i + 2}"] = file[f"{EMBEDDINGS}/vars/{i}"][...]


def no_norm(file: h5py.File) -> None:
    del file[f"{EMBEDDINGS}/LayerNorm"]


def more_words(file: h5py.File) -> None:
    replace(file, f"{EMBEDDINGS}/vars/0", np.ones((99, 32)))


def not_numbers(file: h5py.File) -> None:
    file["layers/dense_1/vars/0"][3, 4] = np.nan


def texts(file: h5py.File) -> None:
    file["layers/vocabulary/table"] = "words"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (four_outputs, "has the Dense layers 256 -> 128, 128 -> 4, 32 -> 256 outside a DistilBERT encoder, expected"),
        (one_more_dense, "128 -> 5, 128 -> 5, 32 -> 256 outside a DistilBERT encoder, expected"),
        (no_middle, "has the Dense layers 128 -> 5, 32 -> 256 outside"),
        (unchained, "has the Dense layers 255 -> 128, 128 -> 5, 32 -> 256 outside"),
        (convolution, "holds layers/conv2d (3, 3, 1, 8) (8,), which the known model does not have"),
        (no_bias, "holds layers/dense_2 (128, 5), which the known model does not have"),
        (second_encoder, "holds 2 DistilBERT encoders (layers/distil_bert_layer/"),
        (no_query, "has no attention/q_lin in encoder layer 0: save or copy"),
        (no_key_bias, "has the weights 0 in"),
        (no_first_layer, "has the encoder layers 1, which are not all from 0 on"),
        (no_last_layer, f"has an encoder of 1 layers, source.base {BASE} one of 2: set source.base to"),
        (no_embeddings, "has the weights 1 in"),
        (embeddings_twice, "has the weights 0, 1, 2, 3 in"),
        (no_norm, "embeddings/LayerNorm: save or copy"),
        (more_words, "has encoder.embeddings.word_embeddings.weight of the shape (99, 32), source.base"),
        (not_numbers, "weight head.3.weight holds values that are not finite numbers"),
        (texts, "has layers/vocabulary/table in object, expected floating point"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_not_the_known_model_is_refused(message, changed, edit, said):
    file = changed(edit)
    text = message(settings(file))
    assert text.startswith(str(file))
    assert said in text


def test_a_head_of_another_width_names_the_base_as_the_cure(message, keras_files):
    text = message(settings(keras_files / "keras3.weights.h5", FIXTURE / "deep_base"))
    assert "has head.0.weight of the shape (256, 32), source.base" in text
    assert "asks for (256, 8): set source.base to the model that its encoder was loaded from" in text


def test_h5_files_of_anything_else_are_refused(message, tmp_path):
    with h5py.File(tmp_path / "image.h5", "w") as file:
        file["layers/conv2d/vars/0"] = np.ones((3, 3, 1, 8), np.float32)
    assert "holds layers/conv2d (3, 3, 1, 8), which the known model does not have" in message(
        settings(tmp_path / "image.h5")
    )
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file.attrs["nothing"] = 1
    assert "has the Dense layers none outside" in message(settings(tmp_path / "empty.h5"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda whole: whole[: len(whole) // 2], "can't be read as a file of Keras (OSError: "),
        (lambda whole: b"", "can't be read as a file of Keras (OSError: "),
        (lambda whole: b"not an HDF5 file at all" * 100, "can't be read as a file of Keras (OSError: "),
    ],
    ids=["half", "empty", "text"],
)
def test_a_damaged_file_is_refused(message, keras_files, tmp_path, content, said):
    file = tmp_path / "damaged.weights.h5"
    file.write_bytes(content((keras_files / "keras2.weights.h5").read_bytes()))
    text = message(settings(file))
    assert text.startswith(f"{file} {said}")
    assert text.endswith("copy it again, or save the weights again")


def rezipped(source: Path, target: Path, edit: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(source) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    edit(content)
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return target


@pytest.mark.parametrize("name", ["keras2.keras", "keras3.keras"])
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            '"activation": "sigmoid"',
            '"activation": "softmax"',
            "a Dense 5 with the activation softmax, the known model",
        ),
        ('"activation": "relu"', '"activation": "tanh"', "a Dense 256 with the activation tanh, the known model"),
        ('"class_name": "Dropout"', '"class_name": "GlobalAveragePooling1D"', "has a layer GlobalAveragePooling1D"),
    ],
)
def test_a_keras_file_that_says_it_computes_otherwise_is_refused(message, keras_files, tmp_path, name, old, new, said):
    def edit(content: dict[str, bytes]) -> None:
        text = content["config.json"].decode()
        assert old in text
        content["config.json"] = text.replace(old, new).encode()

    assert said in message(settings(rezipped(keras_files / name, tmp_path / "other.keras", edit)))


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
def test_a_zip_that_is_no_keras_file_is_refused(message, keras_files, tmp_path, member):
    file = rezipped(
        keras_files / "keras2.keras", tmp_path / "other.keras", lambda content: content.pop(member) and None
    )
    assert f"(no {member} in it)" in message(settings(file))


def test_a_source_that_is_not_there_is_refused(message, tmp_path):
    cure = "give the file that save_weights wrote (.weights.h5), or model.save (.keras)"
    assert message(settings(tmp_path / "no.h5")) == f"source.path {tmp_path / 'no.h5'} is not there: {cure}"
    wanted = settings(tmp_path, **{"source.format": "keras"})
    assert message(wanted) == f"source.path {tmp_path} is a directory: {cure}"
    # Looks like a name on the hub, and is none.
    assert "weights/model.weights.h5 is not there" in message(settings("weights/model.weights.h5"))


def test_without_h5py_the_cure_is_to_install_it(message, keras_files, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    text = message(settings(keras_files / "keras2.weights.h5"), SettingsError)
    assert text.endswith("reading it takes h5py, which is not installed; pip install h5py")


# --- the base ---


def test_a_base_that_is_no_distilbert_or_no_model_is_refused(message, keras_files, tmp_path):
    file = keras_files / "keras2.weights.h5"
    assert "is a model of type bert, the known Keras model has a DistilBERT" in message(
        settings(file, save_checkpoint(tmp_path / "bert", "bert"))
    )
    (tmp_path / "empty").mkdir()
    assert f"source.base {tmp_path / 'empty'} has no config.json" in message(settings(file, tmp_path / "empty"))
    (tmp_path / "empty" / "saved_model.pb").write_bytes(b"")
    assert "it is a TensorFlow SavedModel; load it there" in message(settings(file, tmp_path / "empty"))
    assert "is a file, not a directory" in message(settings(file, file))
    missing = tmp_path / "no" / "such"
    text = message(settings(file, missing))
    assert text.startswith(f"source.base {missing} is not a directory: give a directory")
    assert "a name on the Hugging Face hub such as distilbert/distilbert-base-uncased" in text


def test_a_base_without_a_tokenizer_is_refused(message, keras_files, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    shutil.copyfile(f"{BASE}/config.json", base / "config.json")
    text = message(settings(keras_files / "keras2.weights.h5", base))
    assert text.startswith(f"source.base {base} has no tokenizer: copy the tokenizer's files there too")
    (base / "tokenizer.json").write_text("{}")
    assert "has a tokenizer that can't be loaded" in message(settings(keras_files / "keras2.weights.h5", base))


def test_a_tokenizer_with_more_words_than_the_model_is_refused(message, keras_files, tmp_path):
    base = shutil.copytree(BASE, tmp_path / "base")
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["supernumerary"] = 98
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    text = message(settings(keras_files / "keras2.weights.h5", base))
    assert "the tokenizer has ids up to 98, the model embeddings for 98" in text


@pytest.mark.parametrize("name", ["distilbert/distilbert-of-nobody", "distilbert-of-nobody"])
def test_a_base_that_can_not_be_reached_is_refused_at_once_with_the_cure(message, keras_files, monkeypatch, name):
    import huggingface_hub

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("[Errno -2] Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    started = time.monotonic()
    text = message(settings(keras_files / "keras2.weights.h5", name))
    assert time.monotonic() - started < 5
    assert text.startswith(f"{name} is no directory here")
    assert f"`hf download {name} --local-dir DIR`" in text
    assert "set source.base=DIR" in text
