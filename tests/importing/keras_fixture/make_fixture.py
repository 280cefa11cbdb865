r"""Makes the files beside it: small Keras models of the known kind, and what TensorFlow says of texts with them.

TensorFlow is never a requirement of this project, so it has an environment of its own, outside the repository:

    python3.11 -m venv /tmp/tensorflow
    /tmp/tensorflow/bin/pip install tensorflow-cpu==2.21.0 tf-keras==2.21.0 keras==3.15.1 transformers==4.54.1 \
        safetensors==0.6.2 h5py==3.14.0 numpy==2.4.6
    /tmp/tensorflow/bin/python tests/importing/keras_fixture/make_fixture.py

(transformers 4.54 is the last whose TensorFlow models load model.safetensors; from 5 on there are none.) Every weight
is random, biases and norms too, since with their usual zeros and ones a swap of two layers would go unseen. All are
multiples of 1/32, which packs well.

    base/, deep_base/       configuration and tokenizer of the encoders, as on the hub; base/ has weights as well
    keras2.weights.h5.xz    Keras 2 (tf-keras), save_weights after a compile and a fit: the optimizer is in it too
    keras2.h5.xz            the same model, save_weights in the older layout
    whole.h5.xz             the same model, all of it, model.save in the older layout
    keras2.keras.xz         the same model, all of it, model.save
    deep.weights.h5.xz      Keras 2, eleven layers (their names don't sort as their numbers do), as many positions as
                            words (shapes don't tell the two embeddings apart), other layer names, a subclassed model
    keras3.weights.h5.xz    Keras 3, which neither trains nor saves the encoder: the head alone
    keras3.keras.xz         the same model, all of it, model.save
    expected.json           texts, padded length, probabilities per model, versions
"""

from __future__ import annotations

import json
import lzma
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", TF_USE_LEGACY_KERAS="1")

import h5py
import keras
import numpy as np
import tensorflow
import tf_keras
import transformers
from safetensors.numpy import save_file
from transformers import DistilBertConfig, DistilBertTokenizerFast, TFDistilBertModel

HERE = Path(__file__).resolve().parent
LENGTH = 48
TEXTS = [
    "I like to meet people and talk all night long.",
    "We walked by the river in the rain; the children were loud, happy and wet.",
    "My desk is tidy, my bills are paid.",
    "Why worry? Things go wrong, then they go right again.",
    "zq",
    "the the the the the the the the the the the the",
    "Ein Satz, den das Vokabular nicht kennt: 1234!",
]
RNG = np.random.default_rng(20)


def random_like(shape: tuple[int, ...], spread: float, centre: float = 0.0) -> np.ndarray:
    """Normal, in multiples of 1/32."""
    return (np.round(RNG.normal(centre, spread, shape) * 32) / 32).astype(np.float32)


def vocabulary() -> list[str]:
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = sorted({w for text in TEXTS[:4] for w in re.findall(r"[a-z]+|[^\sa-z]", text.lower())} - set(letters))
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters), *words]


def make_base(directory: Path, **config_changes: Any) -> DistilBertConfig:
    """A directory as a hub's repository of a DistilBERT, its weights as PyTorch names them."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    words = vocabulary()
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
        tokenizer = DistilBertTokenizerFast(f"{scratch}/vocab.txt", model_max_length=64)
        tokenizer.save_pretrained(directory)
    config = DistilBertConfig(
        **{"n_layers": 2, "dim": 32, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64} | config_changes,
        vocab_size=len(words),
    )
    config.save_pretrained(directory)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocab_size, config.dim),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, config.dim),
        "embeddings.LayerNorm.weight": (config.dim,),
        "embeddings.LayerNorm.bias": (config.dim,),
    }
    for i in range(config.n_layers):
        layer = f"transformer.layer.{i}."
        for name, out, into in [
            *((f"attention.{n}_lin", config.dim, config.dim) for n in ("q", "k", "v", "out")),
            ("ffn.lin1", config.hidden_dim, config.dim),
            ("ffn.lin2", config.dim, config.hidden_dim),
        ]:
            shapes |= {f"{layer}{name}.weight": (out, into), f"{layer}{name}.bias": (out,)}
        for name in ("sa_layer_norm", "output_layer_norm"):
            shapes |= {f"{layer}{name}.weight": (config.dim,), f"{layer}{name}.bias": (config.dim,)}
    weights = {
        name: random_like(shape, 0.3, 1.0 if name.lower().endswith("norm.weight") else 0.0)
        for name, shape in shapes.items()
    }
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return config


def keras2_model(base: Path, config: DistilBertConfig) -> Any:
    """What the project's first users trained, in tf-keras."""

    class DistilBertLayer(tf_keras.layers.Layer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.distilbert = TFDistilBertModel.from_pretrained(base)

        def call(self, inputs: Any) -> Any:
            ids, mask = inputs
            return self.distilbert(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0, :]

    layers = tf_keras.layers
    ids = tf_keras.Input((LENGTH,), dtype="int32", name="input_ids")
    mask = tf_keras.Input((LENGTH,), dtype="int32", name="attention_mask")
    x = DistilBertLayer()([ids, mask])
    x = layers.Dropout(0.1)(layers.Dense(256, activation="relu")(x))
    x = layers.Dropout(0.1)(layers.Dense(128, activation="relu")(x))
    return tf_keras.Model([ids, mask], layers.Dense(5, activation="sigmoid")(x))


def deep_model(base: Path, config: DistilBertConfig) -> Any:
    """The same as a subclassed model whose author called everything something else."""

    class Reader(tf_keras.layers.Layer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.backbone = TFDistilBertModel.from_pretrained(base)

        def call(self, ids: Any, mask: Any) -> Any:
            return self.backbone(input_ids=ids, attention_mask=mask)[0][:, 0]

    class Personality(tf_keras.Model):
        def __init__(self) -> None:
            super().__init__()
            # Named against the order in which they run: only shapes can tell.
            self.reader = Reader(name="reader")
            self.a_last = tf_keras.layers.Dense(5, activation="sigmoid", name="zeta")
            self.b_middle = tf_keras.layers.Dense(128, activation="relu", name="ypsilon")
            self.c_first = tf_keras.layers.Dense(256, activation="relu", name="xi")
            self.drop = tf_keras.layers.Dropout(0.1)

        def call(self, inputs: Any, training: bool = False) -> Any:
            x = self.drop(self.c_first(self.reader(*inputs)), training=training)
            return self.a_last(self.drop(self.b_middle(x), training=training))

    return Personality()


def keras3_model(base: Path, config: DistilBertConfig) -> Any:
    """The same source text, where `keras` is Keras 3."""

    class DistilBertLayer(keras.layers.Layer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.distilbert = TFDistilBertModel.from_pretrained(base)

        def call(self, inputs: Any) -> Any:
            ids, mask = inputs
            return self.distilbert(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0, :]

        def compute_output_shape(self, input_shape: Any) -> Any:
            return (input_shape[0][0], config.dim)

    layers = keras.layers
    ids = keras.Input((LENGTH,), dtype="int32", name="input_ids")
    mask = keras.Input((LENGTH,), dtype="int32", name="attention_mask")
    x = DistilBertLayer()([ids, mask])
    x = layers.Dropout(0.1)(layers.Dense(256, activation="relu")(x))
    x = layers.Dropout(0.1)(layers.Dense(128, activation="relu")(x))
    return keras.Model([ids, mask], layers.Dense(5, activation="sigmoid")(x))


def encode(base: Path) -> list[np.ndarray]:
    encoded = DistilBertTokenizerFast.from_pretrained(base)(
        TEXTS, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="np"
    )
    assert encoded["attention_mask"].sum(axis=1).max() < LENGTH, "no text may be cut"
    return [encoded["input_ids"].astype(np.int32), encoded["attention_mask"].astype(np.int32)]


def train(model: Any, inputs: list[np.ndarray]) -> None:
    """A real compile and a real fit, so that the file holds what a user's file holds."""
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    model.fit(inputs, RNG.integers(0, 2, (len(TEXTS), 5)).astype(np.float32), epochs=1, verbose=0)


def randomise(model: Any, optimizer_variables: Any, spread: float = 0.3) -> None:
    """New weights everywhere; the optimizer's moments too, so that whoever mistakes them for weights is found out."""
    for weight in model.weights:
        # Keras 2 has the layer in the name, Keras 3 in the path.
        name = getattr(weight, "path", weight.name)
        shape = tuple(weight.shape)
        if "embeddings/" in name and len(shape) == 2:
            values = random_like(shape, 0.8)
        elif len(shape) == 2 and shape[1] in (256, 128, 5):
            values = random_like(shape, 1.2 / shape[0] ** 0.5)
        else:
            values = random_like(shape, spread, 1.0 if "gamma" in name else 0.0)
        weight.assign(values)
    for variable in optimizer_variables:
        if len(variable.shape):
            variable.assign(np.full(variable.shape, 0.5, np.float32))


def pack(file: Path) -> None:
    (HERE / f"{file.name}.xz").write_bytes(lzma.compress(file.read_bytes(), preset=9 | lzma.PRESET_EXTREME))


def main() -> None:
    for stale in HERE.glob("*.xz"):
        stale.unlink()
    expected: dict[str, list[list[float]]] = {}
    config = make_base(HERE / "base")
    inputs = encode(HERE / "base")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)

        model = keras2_model(HERE / "base", config)
        train(model, inputs)
        optimizer = model.optimizer
        randomise(model, optimizer.variables if isinstance(optimizer.variables, list) else optimizer.variables())
        expected["keras2"] = model.predict(inputs, verbose=0).tolist()
        for name in ("keras2.weights.h5", "keras2.h5"):
            model.save_weights(folder / name)
            pack(folder / name)
        for name in ("whole.h5", "keras2.keras"):
            model.save(folder / name)
            pack(folder / name)

        deep = make_base(
            HERE / "deep_base", n_layers=11, dim=8, n_heads=2, hidden_dim=16, max_position_embeddings=config.vocab_size
        )
        model = deep_model(HERE / "deep_base", deep)
        (HERE / "deep_base" / "model.safetensors").unlink()  # the file has all of it
        model(inputs)
        randomise(model, [], spread=0.15)  # with more, every text ends up the same after eleven layers
        expected["deep"] = model.predict(inputs, verbose=0).tolist()
        model.save_weights(folder / "deep.weights.h5")
        pack(folder / "deep.weights.h5")

        model = keras3_model(HERE / "base", config)
        (encoder,) = [layer.distilbert for layer in model.layers if hasattr(layer, "distilbert")]
        before = [weight.numpy() for weight in encoder.weights]
        train(model, inputs)
        unchanged = all(np.array_equal(a, b.numpy()) for a, b in zip(before, encoder.weights, strict=True))
        assert unchanged, "Keras 3 trained the encoder"
        randomise(model, model.optimizer.variables)
        expected["keras3"] = model.predict(inputs, verbose=0).tolist()
        model.save_weights(folder / "keras3.weights.h5")
        pack(folder / "keras3.weights.h5")
        model.save(folder / "keras3.keras")
        pack(folder / "keras3.keras")
    versions = {m.__name__: m.__version__ for m in (tensorflow, tf_keras, keras, transformers, h5py, np)}
    content = {"texts": TEXTS, "padded_length": LENGTH, "probabilities": expected, "versions": versions}
    (HERE / "expected.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for name, rows in expected.items():
        print(name, np.round(rows, 3).tolist())


if __name__ == "__main__":
    main()
