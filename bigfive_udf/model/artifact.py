"""A model directory that can be trusted: written once, verified by digest before use, safetensors only.

An artifact is a Hugging Face checkpoint plus `bigfive.json` (format version, traits, head and pooling, thresholds,
max_length, languages, base model, training data, package version, and the sha256 of every other file except
`evaluation.json`). A plain checkpoint without `bigfive.json` is scored as it is, with thresholds of 0.5, if it is
multilabel over the five traits.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigfive_udf.errors import ArtifactError, OutputError, SettingsError
from bigfive_udf.model import checkpoint, hub
from bigfive_udf.model.verdict import better_than_chance
from bigfive_udf.redaction import in_short
from bigfive_udf.traits import TRAITS, label_column, probability_column

if TYPE_CHECKING:
    import pandas as pd

    from bigfive_udf.model.bundle import Bundle
    from bigfive_udf.model.hardware import Hardware, Placement
    from bigfive_udf.model.scorer import Scorer
    from bigfive_udf.model.scores import ScoringOptions

DESCRIPTION = "bigfive.json"
EVALUATION = "evaluation.json"
INT8 = "int8"
"""Entry of bigfive.json: which products are in 8-bit integers, and how that changed the labels of a sample."""
FORMAT_VERSION = 1
_LONGEST_DEFAULT = 512


@dataclass(frozen=True)
class Artifact:
    """A verified model on disk. Make one with `load_artifact`."""

    path: Path
    model_id: str
    config: Mapping[str, Any]
    logit_of_trait: list[int]
    thresholds: Mapping[str, float]
    description: Mapping[str, Any]
    """the content of bigfive.json; empty for a plain checkpoint"""
    evaluation: Mapping[str, Any]
    """the content of evaluation.json; empty where there is none"""
    verified: Mapping[str, tuple[int, ...]] = field(repr=False, compare=False)
    """the name of each model file, and its `checkpoint.states` entry when it was verified"""
    _scorers: dict[Any, Scorer] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def max_length(self) -> int:
        """Most tokens of a window, special ones counted: what the artifact says, else `position_limit`, at most 512."""
        length = self.description.get("max_length") or min(self.position_limit, _LONGEST_DEFAULT)
        if not isinstance(length, int) or length > self.position_limit:
            raise ArtifactError(
                f"{self.path}/{DESCRIPTION} has max_length {length}, its encoder takes at most {self.position_limit} "
                "tokens: train the artifact anew"
            )
        return length

    @cached_property
    def position_limit(self) -> int:
        """The most tokens, special ones counted, that the encoder and its tokenizer take."""
        return position_limit(self._transformers_config, self._tokenizer)

    @property
    def silent_traits(self) -> list[str]:
        """Traits that the model was trained on without any label: their scores are always null."""
        return list(self.config.get(checkpoint.SILENT) or [])

    @cached_property
    def _transformers_config(self) -> Any:
        from transformers import AutoConfig

        if self.config["model_type"] == checkpoint.OWN_MODEL_TYPE:
            from bigfive_udf.model.configuration import BigFiveConfig

            return BigFiveConfig.from_pretrained(self.path)
        return _or_artifact_error(
            self.path, lambda: AutoConfig.from_pretrained(self.path, local_files_only=True, trust_remote_code=False)
        )

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        config = self._transformers_config  # passed on, because transformers does not know our own configuration class
        return _or_artifact_error(
            self.path,
            lambda: AutoTokenizer.from_pretrained(
                self.path, config=config, local_files_only=True, trust_remote_code=False
            ),
        )

    def pack(self, precision: str) -> Bundle:
        """The bundle that workers load, its weights in `precision`.

        Raises:
            ArtifactError: the files have changed since they were verified, or are not valid.
            SettingsError: `precision` is int8 and the artifact has none.
        """
        from bigfive_udf.model import bundle

        files = self._files()
        tensors = checkpoint.read_tensors(f for f in files if f.name != checkpoint.INT8_FILE)
        int8_products = None
        if precision == "int8":
            self.check_int8(max_label_flips=1.0)
            int8_products = checkpoint.read_tensors([self.path / checkpoint.INT8_FILE])
        try:
            packed = bundle.pack(
                self._transformers_config,
                tensors,
                self._tokenizer,
                self.logit_of_trait,
                precision,
                self.silent_traits,
                int8_products,
            )
        except ArtifactError as error:
            raise ArtifactError(f"{self.path}: {error}") from None
        self._files()  # again: they may have been replaced while they were read
        return packed

    def _files(self) -> list[Path]:
        """The model's files, checked to be still those that `model_id` was computed from."""
        try:
            files = checkpoint.model_files(self.path)
            if checkpoint.states(files) == self.verified:
                return files
            now = checkpoint.model_id({p.name: checkpoint.sha256(p) for p in files})
        except OSError as error:
            raise ArtifactError(f"{self.path} can no longer be read ({error.strerror}): run again") from None
        if now != self.model_id:
            raise ArtifactError(
                f"{self.path} was {self.model_id} when this began and is {now}: a model must not be changed while it "
                "is in use; write another into a directory of its own, and run again"
            )
        return files

    def check_int8(self, max_label_flips: float) -> None:
        """Refuse int8 where the artifact was not quantized, or quantizing flipped more labels than `max_label_flips`.

        Raises:
            SettingsError: int8 is refused; the message says what to do instead.
        """
        about = self.description.get(INT8)
        fidelity = about.get("fidelity") if isinstance(about, dict) else None
        flips = fidelity.get("label_flips") if isinstance(fidelity, dict) else None
        if not isinstance(flips, float) or not 0 <= flips <= 1:
            raise SettingsError(
                f"model.precision int8: {self.path} was not made for it; make a model that is, with "
                f"python jobs/quantize.py --set model.path={self.path} --set output.path=... --set data.path=..."
            )
        if flips > max_label_flips:
            raise SettingsError(
                f"model.precision int8: {self.path} turned over a share of {flips:.4f} of the labels when it was "
                f"quantized, more than max_label_flips {max_label_flips:g} allows; allow that much, set another "
                "precision, or quantize the model again with that limit"
            )

    def check_int8_on(self, machines: Sequence[Hardware]) -> None:
        """Refuse int8 where the model's activations have 8 bits and one of the machines has no VNNI.

        Raises:
            SettingsError: it is refused; the message names the machine.
        """
        from bigfive_udf.model.int8 import without_vnni

        about = self.description.get(INT8)
        lacking = next((m.name for m in machines if not m.cpu_vnni), None)
        if lacking is not None and isinstance(about, dict) and about.get("activation_bits") == 8:
            raise SettingsError(without_vnni(lacking))

    def options(
        self,
        max_length: int | None = None,
        window_overlap: int = 0,
        max_windows: int | None = None,
        max_batch_tokens: int | None = None,
        weights: str = "auto",
    ) -> ScoringOptions:
        """Scoring options for this model; None means what suits it.

        Raises:
            SettingsError: the model has no positions for `max_length`, or the overlap leaves no step between windows.
        """
        from bigfive_udf.model.scores import ScoringOptions

        length = max_length or self.max_length
        special = self._tokenizer.num_special_tokens_to_add()
        if not special < length <= self.position_limit:
            raise SettingsError(
                f"text.max_length {length}: {self.path} takes {special + 1} to {self.position_limit} tokens, "
                "special ones counted"
            )
        if window_overlap >= length - special:
            raise SettingsError(
                f"text.window_overlap {window_overlap}: must be less than the {length - special} text tokens "
                "of a window"
            )
        return ScoringOptions(length, window_overlap, max_windows, max_batch_tokens, weights)

    def label_thresholds(self, overrides: Mapping[str, float], require_evidence: bool) -> dict[str, float | None]:
        """The probability from which each trait's label is true; None where the label must stay null.

        `require_evidence` keeps labels back for traits whose evaluation is not better than chance, or is missing.
        """
        return {
            trait: None
            if require_evidence and not self.better_than_chance(trait)
            else float(overrides.get(trait, self.thresholds[trait]))
            for trait in TRAITS
        }

    def better_than_chance(self, trait: str) -> bool | None:
        """Whether evaluation.json calls a trait better than chance; None if it gives no verdict."""
        return better_than_chance((self.evaluation.get("traits") or {}).get(trait) or {})

    def predict(
        self,
        texts: Sequence[str | None],
        *,
        device: str = "auto",
        precision: str = "auto",
        options: ScoringOptions | None = None,
    ) -> pd.DataFrame:
        """Score texts in this process, no Spark: one row per text, in order, with the columns of `PREDICTION_FIELDS`.

        `precision` auto is bf16 where the hardware has it, else fp32 on a CPU and fp16 on a GPU.
        """
        from bigfive_udf.model import hardware

        if isinstance(texts, str):
            raise TypeError("predict takes a list of texts; for one text pass [text]")
        placement = hardware.decide(device, precision, [hardware.look(use_gpu=device != "cpu")])
        frame = self.scorer(placement, options or self.options()).score(list(texts)).to_frame()
        for position, trait in enumerate(TRAITS, start=len(TRAITS)):
            probability = frame[probability_column(trait)]
            label = (probability.astype("float64") >= self.thresholds[trait]).astype("boolean")
            frame.insert(position, label_column(trait), label.mask(probability.isna()))
        return frame.assign(model_id=self.model_id, precision=placement.precision)

    def scorer(self, placement: Placement, options: ScoringOptions) -> Scorer:
        """The model ready to score in this process; loaded once for each placement and options."""
        from bigfive_udf.model import node_cache
        from bigfive_udf.model.scorer import Scorer

        key = (placement, options)
        if key not in self._scorers:
            bundle = self.pack(placement.precision)
            directory = node_cache.unpacked(bundle.digest, lambda: bundle.files)
            self._scorers[key] = Scorer.open(directory, options, placement.device)
        return self._scorers[key]


def load_artifact(path: str | os.PathLike[str], *, activation: str | None = None) -> Artifact:
    """Open a model directory, or a repository of the Hugging Face hub, and verify it.

    `activation` sigmoid vouches for a plain checkpoint that does not say how it was trained.

    Raises:
        ArtifactError: it is missing, damaged, or not a multilabel classifier of the five traits.
    """
    directory = _local_directory(os.fspath(path))
    if not (directory / "config.json").is_file():
        raise ArtifactError(
            f"{directory} has no config.json: model.path must be a model directory as save_pretrained writes it"
        )
    config = checkpoint.read_json(directory / "config.json")
    checkpoint.check_safe(directory, config)
    checkpoint.check_architecture(directory, config)
    files = checkpoint.model_files(directory)
    verified = checkpoint.states(files)  # before they are read
    digests = {p.name: checkpoint.sha256(p) for p in files}
    description: dict[str, Any] = {}
    if (directory / DESCRIPTION).exists():
        description = checkpoint.read_json(directory / DESCRIPTION)
        _verify(directory, description, digests)
    checkpoint.check_activation(directory, config, activation)
    checkpoint.check_silent(directory, config)
    evaluation = checkpoint.read_json(directory / EVALUATION) if (directory / EVALUATION).exists() else {}
    return Artifact(
        path=directory,
        model_id=checkpoint.model_id(digests),
        config=config,
        logit_of_trait=checkpoint.trait_order(directory, config),
        thresholds=description.get("thresholds") or dict.fromkeys(TRAITS, 0.5),
        description=description,
        evaluation=evaluation,
        verified=verified,
    )


def check_new(path: str | os.PathLike[str]) -> None:
    """Refuse a path that exists or is not on a local disk.

    Raises:
        OutputError: `path` exists (an artifact is immutable), or is a URL.
    """
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:", str(path)):
        raise OutputError(f"output.path {path}: a model is written to a local disk; copy it from there")
    if os.path.lexists(path):
        raise OutputError(f"{path} exists, and a model is never overwritten: choose another path or remove it")


@contextmanager
def new_artifact(path: str | os.PathLike[str], within: Path | None = None) -> Iterator[Path]:
    """Yield a directory to fill with a checkpoint; it becomes `path`, as a whole, only if the block succeeds.

    Until then it lies in `within`, which is on the same file system, or beside `path`.

    Raises:
        OutputError: `path` exists (an artifact is immutable), or can't be written.
    """
    target = Path(path)
    check_new(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=within or target.parent))
    except OSError as error:
        raise OutputError(f"{target} can't be written: {error.strerror}; choose a path that you may write") from error
    try:
        yield aside
        try:
            aside.chmod(0o755)
            for file in aside.iterdir():
                file.chmod(0o644)  # safetensors lets nobody else read what it writes
            aside.rename(target)
        except OSError as error:
            raise OutputError(f"{target} can't be written: {error.strerror}; choose another path") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def describe(
    directory: Path,
    *,
    head: str,
    pooling: str,
    thresholds: Mapping[str, float],
    max_length: int,
    languages: Sequence[str],
    base_model: str,
    training_data: str,
) -> None:
    """Write bigfive.json into a finished checkpoint: what the model is, and the digests of its files."""
    about = {
        "format_version": FORMAT_VERSION,
        "traits": list(TRAITS),
        "head": head,
        "pooling": pooling,
        "thresholds": {trait: float(thresholds[trait]) for trait in TRAITS},
        "max_length": max_length,
        "languages": list(languages),
        "base_model": base_model,
        "training_data": training_data,
    }
    write_description(directory, about)


def write_description(directory: Path, about: Mapping[str, Any]) -> None:
    """Write bigfive.json: `about`, the package's version, and the digest of every file but evaluation.json."""
    from bigfive_udf import __version__

    files = sorted(p for p in directory.iterdir() if p.name not in (DESCRIPTION, EVALUATION))
    digests = {p.name: checkpoint.sha256(p) for p in files}
    description = {**about, "package_version": __version__, "files": digests}
    (directory / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def _verify(directory: Path, description: Mapping[str, Any], digests: Mapping[str, str]) -> None:
    version = description.get("format_version")
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"{directory} has format_version {version}, this program reads {FORMAT_VERSION}: upgrade bigfive-udf"
        )
    if description.get("traits") != list(TRAITS):
        raise ArtifactError(
            f"{directory}/{DESCRIPTION} has the traits {description.get('traits')}, expected {list(TRAITS)}"
        )
    promised = description.get("files") or {}
    if not isinstance(promised, dict):
        raise ArtifactError(f"{directory}/{DESCRIPTION} has files {promised!r}, expected names and their sha256")
    for name, digest in promised.items():
        if os.path.basename(name) != name:
            raise ArtifactError(
                f"{directory}/{DESCRIPTION} lists {name!r}, which is no file of the artifact: copy it again"
            )
        found = digests.get(name) or (checkpoint.sha256(directory / name) if (directory / name).is_file() else None)
        if found != digest:
            what = "is missing" if found is None else "is not the file that was written (its sha256 differs)"
            raise ArtifactError(f"{directory / name} {what}: copy the artifact again or train it anew")
    if extra := sorted(set(digests) - set(promised)):
        raise ArtifactError(
            f"{directory / extra[0]} is not listed in {DESCRIPTION}: remove it or train the artifact anew"
        )
    thresholds = description.get("thresholds")
    thresholds = thresholds if isinstance(thresholds, dict) else {}
    missing = [t for t in TRAITS if not (isinstance(v := thresholds.get(t), (int, float)) and 0 <= v <= 1)]
    if missing:
        raise ArtifactError(
            f"{directory}/{DESCRIPTION} has no threshold for {', '.join(missing)}: give each a number from 0 to 1"
        )


def _local_directory(path: str) -> Path:
    directory = Path(path).expanduser()
    if directory.is_dir():
        # A symbolic link may be set to another model at any time: the target that it has now is used to the end.
        real = directory.resolve()
        return directory if real == Path(os.path.abspath(directory)) else real
    if directory.exists():
        raise ArtifactError(f"{path} is a file: model.path must be a model directory")
    if "/" in path and hub.is_name(path):
        return hub.snapshot(path, "model.path")
    raise ArtifactError(
        f"{path} is not a directory: set model.path to a model directory or to a name on the Hugging Face hub"
    )


def position_limit(config: Any, tokenizer: Any) -> int:
    """The most tokens, special ones counted, that a model takes; both arguments are transformers' own objects."""
    inner = config.encoder_config() if config.model_type == checkpoint.OWN_MODEL_TYPE else config
    limit = getattr(inner, "max_position_embeddings", None) or _LONGEST_DEFAULT
    # RoBERTa and its relatives number tokens from pad_token_id + 1.
    offset = (inner.pad_token_id or 0) + 1 if "roberta" in inner.model_type else 0
    return int(min(limit - offset, tokenizer.model_max_length))


def _or_artifact_error(path: Path, load: Any) -> Any:
    try:
        return load()
    # transformers raises whatever its parsers raise; to the user all of it means that the directory is wrong.
    except Exception as error:
        raise ArtifactError(
            f"{path} can't be loaded by transformers ({in_short(error)}): "
            "save the model and its tokenizer there again with save_pretrained"
        ) from error
