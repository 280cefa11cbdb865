"""What a checkpoint of a fast family must hold, against what transformers' own classes hold."""

from __future__ import annotations

import subprocess
import sys

import pytest
from safetensors.torch import load_file

from bigfive_udf.errors import ArtifactError
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.model.bundle import pack

CLASSIFIERS = [
    *((architecture, "linear", "cls") for architecture in ("distilbert", "bert", "roberta")),
    ("distilbert", "mlp", "cls"),
    ("bert", "linear", "mean"),
    ("roberta", "mlp", "mean"),
]


@pytest.fixture(params=CLASSIFIERS, ids=" ".join)
def parts(request, checkpoint):
    architecture, head, pooling = request.param
    directory = checkpoint(architecture, head=head, pooling=pooling)
    artifact = load_artifact(directory)
    return artifact._transformers_config, load_file(directory / "model.safetensors"), artifact._tokenizer


def packed(config, tensors, tokenizer):
    return pack(config, tensors, tokenizer, list(range(5)), "fp32")


def test_every_weight_that_transformers_saves_is_needed(parts):
    config, tensors, tokenizer = parts
    packed(config, tensors, tokenizer)
    for name in tensors:
        with pytest.raises(ArtifactError, match=f"the checkpoint has no weight {name}: copy or save the model again"):
            packed(config, {n: t for n, t in tensors.items() if n != name}, tokenizer)


def test_every_weight_has_the_shape_that_the_configuration_says(parts):
    config, tensors, tokenizer = parts
    for name, tensor in tensors.items():
        longer = tensor.new_zeros((tensor.shape[0] + 1, *tensor.shape[1:]))
        with pytest.raises(ArtifactError, match=rf"weight {name} has the shape .*, config.json asks for"):
            packed(config, {**tensors, name: longer}, tokenizer)


def test_a_checkpoint_is_packed_without_the_models_of_transformers(checkpoint, tmp_path):
    """Their imports take longer than the packing."""
    program = (
        "import sys; from bigfive_udf import load_artifact\n"
        "artifact = load_artifact(sys.argv[1]); artifact.options(); artifact.pack('fp32')\n"
        "print(*(name for name in ('transformers.modeling_utils', 'torch._dynamo') if name in sys.modules))"
    )
    for model in (checkpoint("distilbert"), checkpoint("bert", head="mlp", pooling="mean")):
        done = subprocess.run([sys.executable, "-c", program, model], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == ""
