"""Writing the new artifact: all that the old one has, the products in int8, and their effect on the labels."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from bigfive_udf.errors import ArtifactError, InputError, OutputError
from bigfive_udf.model.artifact import (
    DESCRIPTION,
    EVALUATION,
    INT8,
    Artifact,
    load_artifact,
    new_artifact,
    write_description,
)
from bigfive_udf.model.checkpoint import INT8_FILE
from bigfive_udf.quantizing.search import Variant
from bigfive_udf.settings.quantize import SampleSettings
from bigfive_udf.training.data import read_texts

CARD = "README.md"
_SECTION = "\n\n## 8-bit integers\n\n"
RUNS_ON = {7: "on any processor", 8: "on processors with VNNI only"}
"""By the bits of the activations."""
_LEAST = 100
# As in the check at the beginning of a run: longer texts would take more time, and tell nothing more.
_CHARACTERS = 2000


def read_sample(settings: SampleSettings) -> tuple[list[str], list[str]]:
    """Texts to calibrate on, and as many others to measure; all are different, and only the beginning of each is used.

    Raises:
        InputError: they can't be read, or are too few.
    """
    texts = list(dict.fromkeys(cut for text in read_texts(settings) if (cut := text[:_CHARACTERS]).strip()))
    if len(texts) < _LEAST:
        raise InputError(f"{settings.path} has {len(texts)} different texts; at least {_LEAST} are needed")
    # Sorted by digest: only the seed decides the choice, not the order of the file.
    texts.sort(key=lambda text: hashlib.sha256(f"{settings.seed} {text}".encode()).digest())
    texts = texts[: settings.documents]
    return texts[::2], texts[1::2]


def check_source(artifact: Artifact, path: str) -> None:
    """
    Raises:
        ArtifactError: the artifact is a plain checkpoint (a directory, or from a hub) with no place for the results.
    """
    if not artifact.description:
        raise ArtifactError(
            f"{path} has no {DESCRIPTION}: make an artifact of it first, with "
            f"python jobs/import_model.py --set source.path={path} --set output.path=..."
        )


def write_quantized(
    artifact: Artifact,
    output: str,
    tensors: Mapping[str, Tensor],
    chosen: Variant,
    curve: Sequence[Variant],
    activation_bits: int,
) -> None:
    """Write the new artifact and try it out; if either fails, nothing is written.

    Raises:
        OutputError: `output` exists, or can't be written.
    """
    assert chosen.fidelity is not None
    about: dict[str, Any] = dict(artifact.description)
    about[INT8] = {
        "made_of": artifact.model_id,
        "products": list(chosen.products),
        "activation_bits": activation_bits,
        "fidelity": asdict(chosen.fidelity),
        "curve": [about_variant(variant) for variant in curve],
    }
    listed = [name for name in (*artifact.description["files"], EVALUATION) if name not in (INT8_FILE, CARD)]
    with new_artifact(output) as directory:
        try:
            for name in listed:
                if (artifact.path / name).exists():
                    (directory / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(artifact.path / name, directory / name)
            save_file(dict(tensors), directory / INT8_FILE, metadata={"format": "pt"})
            if (artifact.path / CARD).exists():
                card = (artifact.path / CARD).read_text(encoding="utf-8")
                card = card.partition(_SECTION)[0].rstrip() + _card(chosen, artifact.model_id, activation_bits)
                (directory / CARD).write_text(card, encoding="utf-8")
            write_description(directory, about)
        # safetensors has an error of its own for a full disk
        except (OSError, SafetensorError) as error:
            raise OutputError(f"{output} can't be written ({error}): free space or choose another path") from error
        load_artifact(directory).predict(["I like to meet people.", "My desk is tidy."], device="cpu", precision="int8")


def _card(chosen: Variant, made_of: str, activation_bits: int) -> str:
    assert chosen.fidelity is not None
    fidelity = chosen.fidelity
    return (
        f"{_SECTION}This model was made of model {made_of} by `jobs/quantize.py`: with `model.precision: int8` "
        f"{len(chosen.products)} of its products are computed in 8-bit integers, {RUNS_ON[activation_bits]}. On "
        f"{fidelity.documents:,} texts {100 * fidelity.label_flips:.2f} % of the labels then come out otherwise than "
        "in fp32. All figures above are those of fp32; `jobs/evaluate.py --set model.precision=int8` makes those of "
        "int8.\n"
    )


def about_variant(variant: Variant) -> dict[str, Any]:
    """For records: one point of the curve."""
    about: dict[str, Any] = {"precision": variant.precision, "products": len(variant.products)}
    about["tokens_per_second"] = round(variant.tokens_per_second)
    if variant.fidelity is not None:
        about |= {
            key: value
            for key, value in asdict(variant.fidelity).items()
            if key not in ("precision", "documents", "labels")
        }
    return about


def curve_lines(curve: Sequence[Variant], n_products: int) -> list[str]:
    """The curve as a table for people, the exact model first."""
    lines = [
        f"  {'precision':<10}{'in int8':>10}{'tokens/s':>12}{'of fp32':>10}{'labels turned over':>20}{'p99 |dp|':>12}"
    ]
    for v in curve:
        line = f"  {v.precision:<10}{f'{len(v.products)} of {n_products}' if v.products else '':>10}"
        line += f"{v.tokens_per_second:>12,.0f}{v.tokens_per_second / curve[0].tokens_per_second:>10.2f}"
        if v.fidelity is not None:
            line += f"{100 * v.fidelity.label_flips:>18.2f} %{v.fidelity.p99_difference:>12.4f}"
        lines.append(line)
    return lines
