"""A model directory on disk: which files count, what its configuration says, and whether it can be used."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bigfive_udf.errors import ArtifactError
from bigfive_udf.redaction import in_short
from bigfive_udf.traits import LETTERS, TRAITS

OWN_MODEL_TYPE = "bigfive_udf"
"""The model_type of a checkpoint with a head of ours, see `modeling`."""
SILENT = "traits_without_labels"
"""The entry of config.json that lists the traits trained without any label: their outputs mean nothing."""
INT8_FILE = "int8.safetensors"
"""The file of an artifact's products in 8-bit integers, beside the fp32 weights that they were made from."""
HEADS = ("linear", "mlp")
POOLINGS = ("cls", "mean")

# Weights, tokenizer and configuration: scores can depend on these files, so model_id is computed from them.
_MODEL_FILES = re.compile(
    r"config\.json|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|tokenizer\.json|"
    r"tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json|vocab\.(txt|json)|merges\.txt|"
    r"(spiece|sentencepiece|sentencepiece\.bpe|spm|tokenizer)\.model|int8\.safetensors"
)
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "spm.model")
_REVERSED = ("emotional stability", "emotionally stable", "introversion", "antagonism", "closedness", "stability")


def model_files(directory: Path) -> list[Path]:
    """The files of a model directory that scores can depend on, sorted by name."""
    return sorted(p for p in directory.iterdir() if _MODEL_FILES.fullmatch(p.name))


def states(files: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """By file name, what changes when a file is written or replaced: inode, size, mtime and ctime."""
    found = {p.name: p.stat() for p in files}
    return {name: (s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in found.items()}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: Any) -> str:  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def model_id(digests: Mapping[str, str]) -> str:
    """First 12 hex digits of the sha256 over the sorted (name, sha256), written the way `sha256sum` writes them.

    `digests` are those of the model files. In the model's directory, with the files in C order:
    `sha256sum config.json model.safetensors ... | sha256sum`.
    """
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()[:12]


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} can't be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} holds {type(content).__name__}, not a JSON object")
    return content


def check_safe(directory: Path, config: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that would need unpickling or code of its own.

    Raises:
        ArtifactError: no safetensors, or `auto_map` in the configuration.
    """
    names = {p.name for p in directory.iterdir()}
    if not {"model.safetensors", "model.safetensors.index.json"} & names:
        pickled = sorted(n for n in names if n.endswith((".bin", ".h5", ".pt", ".pth", ".ckpt", ".msgpack")))
        found = f"only {', '.join(pickled)}" if pickled else "no weights at all"
        raise ArtifactError(
            f"{directory} has {found}: save the model again with save_pretrained, which writes model.safetensors"
        )
    if "auto_map" in config:
        raise ArtifactError(
            f"{directory} needs code of its own (auto_map in config.json), which is never run: use a stock architecture"
        )


def check_architecture(directory: Path, config: Mapping[str, Any]) -> None:
    """Refuse a configuration that names no architecture, or a head of ours that this program does not know.

    Raises:
        ArtifactError: there is no model_type, or the head or the pooling is unknown.
    """
    encoder = config.get("encoder") if config.get("model_type") == OWN_MODEL_TYPE else config
    if not isinstance(encoder, dict) or not isinstance(encoder.get("model_type"), str):
        where = "config.json" if encoder is config else "encoder in config.json"
        raise ArtifactError(f"{directory} has no model_type in its {where}: save the model again with save_pretrained")
    if encoder is not config:
        for key, known in (("head", HEADS), ("pooling", POOLINGS)):
            if config.get(key) not in known:
                raise ArtifactError(
                    f"{directory} has {key} {config.get(key)!r}, this program knows {', '.join(known)}: "
                    "upgrade bigfive-udf"
                )


def trait_order(directory: Path, config: Mapping[str, Any]) -> list[int]:
    """For each trait in our order, the index of its logit.

    Raises:
        ArtifactError: the labels are not the five traits, each once; order and case do not matter.
    """
    found = config.get("id2label")
    labels = {str(i): str(name) for i, name in found.items()} if isinstance(found, dict) else {}
    named = {i: as_trait(directory, name) for i, name in labels.items()}
    if set(named) != {str(i) for i in range(len(TRAITS))} or set(named.values()) != set(TRAITS):
        raise ArtifactError(
            f"{directory} has the labels {', '.join(labels.values()) or 'none'}: id2label in config.json must name "
            f"{', '.join(TRAITS)}, or E, N, A, C, O, each once"
        )
    return [next(int(i) for i, trait in named.items() if trait == wanted) for wanted in TRAITS]


def as_trait(directory: Path, label: str) -> str | None:
    """The trait that a label of id2label names, None where it names none.

    Raises:
        ArtifactError: the label names the opposite of a trait, such as introversion.
    """
    name = re.sub(r"[\s_-]+", " ", label).strip().lower()
    if any(word in name for word in _REVERSED):
        raise ArtifactError(
            f"{directory} has a label {label!r}, a trait turned round: its scores would be read the wrong way; "
            "train with the five traits, neuroticism among them"
        )
    return LETTERS.get(name.upper(), name if name in TRAITS else None)


def check_silent(directory: Path, config: Mapping[str, Any]) -> None:
    """Refuse an entry `traits_without_labels` that is not a list of traits.

    Raises:
        ArtifactError: it is something else.
    """
    silent = config.get(SILENT) or []
    if not isinstance(silent, list) or not set(map(str, silent)) <= set(TRAITS):
        raise ArtifactError(f"{directory} has {SILENT} {silent!r} in its config.json, expected a list of traits")


def check_activation(directory: Path, config: Mapping[str, Any], activation: str | None) -> None:
    """Refuse a checkpoint whose logits are not five independent ones.

    Raises:
        ArtifactError: it was trained with a softmax or as a regression, or neither it nor `activation` says how.
    """
    problem = config.get("problem_type")
    if problem == "multi_label_classification":
        return
    kind = {"single_label_classification": "a softmax", "regression": "a regression"}.get(str(problem))
    if kind is not None:
        raise ArtifactError(
            f"{directory} was trained with {kind} (problem_type {problem}): its outputs are not five independent "
            "probabilities; train it with problem_type multi_label_classification"
        )
    if activation != "sigmoid":
        raise ArtifactError(
            f"{directory} does not say how it was trained (problem_type is {problem}): if with five sigmoids, "
            "set model.activation=sigmoid"
        )


def read_tensors(files: Iterable[Path]) -> dict[str, Any]:
    """All tensors of the safetensors files among `files`, memory-mapped."""
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, Any] = {}
    for path in files:
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="pt") as weights:
                    tensors |= {_modern(name): weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118
            except (SafetensorError, OSError) as error:
                raise ArtifactError(
                    f"{path} is no whole safetensors file ({error}): copy or save the model again"
                ) from None
    return tensors


def _modern(name: str) -> str:
    """Today's name of a weight: checkpoints converted from the first BERTs name those of norms gamma and beta."""
    return re.sub(r"LayerNorm\.(gamma|beta)$", lambda m: f"LayerNorm.{'weight' if m[1] == 'gamma' else 'bias'}", name)


def tokenizer_of(directory: Path, path: str, setting: str) -> Any:
    """The tokenizer in a directory; errors name it by `setting` and `path`, the value of that setting.

    Raises:
        ArtifactError: there is none, or it can't be loaded.
    """
    from transformers import AutoTokenizer

    # Checked first: where the files are missing, transformers makes an empty tokenizer and says nothing.
    if not any((directory / name).is_file() for name in TOKENIZER_FILES):
        raise ArtifactError(
            f"{setting} {path} has no tokenizer: copy the tokenizer's files there too (tokenizer.json, or vocab.txt)"
        )
    try:
        return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    # transformers raises whatever its parsers raise; to the user all of it means that the files are wrong.
    except Exception as error:
        raise ArtifactError(
            f"{setting} {path} has a tokenizer that can't be loaded ({in_short(error)}): copy its files again"
        ) from error
