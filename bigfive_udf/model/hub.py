"""Models by name, from the Hugging Face hub or from this machine's copy of them."""

from __future__ import annotations

import re
from pathlib import Path

from bigfive_udf.errors import ArtifactError
from bigfive_udf.redaction import in_short

_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
_SECONDS = 10


def is_name(path: str) -> bool:
    """Whether `path` can be a name on the hub: `owner/name`, or the bare name of an old model."""
    return re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", path) is not None


def public_name(path: str) -> str:
    """The publishable origin of a model: its name on the hub, or its local name without the private path."""
    local = Path(path).expanduser()
    return path if not local.exists() and is_name(path) else local.resolve().name


def snapshot(name: str, setting: str) -> Path:
    """The directory of a model's files: safetensors, tokenizer and configuration; `setting` is named in errors.

    If the machine has its own copy, that is used, with or without a network. If not, it is checked first whether the
    hub can be reached, because the hub's client would retry for minutes.

    Raises:
        ArtifactError: no such model, no network, or no safetensors.
    """
    import huggingface_hub

    cached = huggingface_hub.try_to_load_from_cache(name, "config.json")
    if isinstance(cached, str) and any(Path(cached).parent.glob("*.safetensors")):
        return Path(cached).parent
    try:
        files = huggingface_hub.HfApi().model_info(name, timeout=_SECONDS).siblings or []
        if not any(file.rfilename.endswith(".safetensors") for file in files):
            raise ArtifactError(
                f"{name} has no safetensors on the hub, and nothing else is ever loaded: choose another {setting}"
            )
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=_FILES))
    except ArtifactError:
        raise
    except huggingface_hub.errors.RepositoryNotFoundError:
        raise ArtifactError(
            f"{name} is neither a directory here nor a model on the Hugging Face hub that you may read: "
            f"check {setting}, or log in with `hf auth login`"
        ) from None
    # Whatever else the client raises (no network, offline mode, a full disk), the user's cure is the same.
    except Exception as error:
        raise ArtifactError(
            f"{name} is no directory here, and the Hugging Face hub can't be reached "
            f"({in_short(error, 120)}): correct {setting}, or, of a model of the hub, on a machine "
            f"with a network run `hf download {name} --local-dir DIR`, copy DIR here and set {setting}=DIR"
        ) from None
