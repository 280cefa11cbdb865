"""The new artifact: all that the old one has, the products in int8, and what they do to the labels."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from bigfive_udf.errors import ArtifactError, InputError, OutputError
from bigfive_udf.model.artifact import DESCRIPTION, INT8, Artifact, new_artifact, write_description
from bigfive_udf.model.checkpoint import INT8_FILE
from bigfive_udf.quantizing.search import Variant
from bigfive_udf.settings.quantize import SampleSettings
from bigfive_udf.training.data import read_texts

_LEAST = 100
# As the check at the beginning of a run does: long texts would take their time, and say nothing more.
_CHARACTERS = 2000


def read_sample(settings: SampleSettings) -> tuple[list[str], list[str]]:
    """Texts to calibrate on, and as many others to measure: all different, the beginning of each.

    Raises:
        InputError: they can't be read, or are too few.
    """
    texts = list(dict.fromkeys(text[:_CHARACTERS] for text in read_texts(settings) if text.strip()))
    if len(texts) < _LEAST:
        raise InputError(f"{settings.path} has {len(texts)} different texts; at least {_LEAST} are needed")
    # By digest: the choice is that of the seed, whatever the order of the file.
    texts.sort(key=lambda text: hashlib.sha256(f"{settings.seed} {text}".encode()).digest())
    texts = texts[: settings.documents]
    return texts[::2], texts[1::2]


def check_source(artifact: Artifact) -> None:
    """
    Raises:
        ArtifactError: it is a plain checkpoint, which has no place for what is found out.
    """
    if not artifact.description:
        raise ArtifactError(
            f"{artifact.path} has no {DESCRIPTION}: make an artifact of it first, with "
            f"python jobs/import_model.py --set source.path={artifact.path} --set output.path=..."
        )


def write_quantized(
    artifact: Artifact, output: str, tensors: Mapping[str, Tensor], chosen: Variant, curve: Sequence[Variant]
) -> None:
    """Write the new artifact whole, or not at all.

    Raises:
        OutputError: `output` exists, or can't be written.
    """
    assert chosen.fidelity is not None
    about: dict[str, Any] = dict(artifact.description)
    about[INT8] = {
        "made_of": artifact.model_id,
        "products": list(chosen.products),
        "fidelity": asdict(chosen.fidelity),
        "curve": [_about(variant) for variant in curve],
    }
    with new_artifact(output) as directory:
        try:
            for file in artifact.path.iterdir():
                if file.is_file() and file.name not in (DESCRIPTION, INT8_FILE):
                    shutil.copyfile(file, directory / file.name)
            save_file(dict(tensors), directory / INT8_FILE, metadata={"format": "pt"})
            write_description(directory, about)
        except OSError as error:
            raise OutputError(f"{output} can't be written ({error}): free space or choose another path") from error


def _about(variant: Variant) -> dict[str, Any]:
    about = {"precision": variant.precision, "products": len(variant.products)}
    about["tokens_per_second"] = round(variant.tokens_per_second)
    if variant.fidelity is not None:
        about |= {
            key: value for key, value in asdict(variant.fidelity).items() if key not in ("precision", "documents")
        }
    return about


def curve_lines(curve: Sequence[Variant], n_products: int) -> list[str]:
    """The table that a person reads, the exact model first."""
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
