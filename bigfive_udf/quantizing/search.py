"""Which matrix products of a model can be in 8-bit integers: as many as the labels of a sample allow.

1. Half of the texts are run through the model in fp32, to see which inputs of each product are the largest ones, and
   how its inputs vary together.
2. Each product is put in int8 by itself; the products are ordered by how far that moves the logits of some texts.
3. The other half of the texts is scored with all products in int8, then without the 1, 2, 4, ... and finally half of
   them that move the logits most: the curve of speed against fidelity. The first variant within the limit is chosen.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from bigfive_udf.errors import ArtifactError, SettingsError
from bigfive_udf.model import bundle, hardware, int8
from bigfive_udf.model.artifact import Artifact
from bigfive_udf.model.encoder import Encoder, EncoderSpec
from bigfive_udf.model.fidelity import Fidelity, compare
from bigfive_udf.model.hardware import Placement
from bigfive_udf.model.scorer import Scorer
from bigfive_udf.model.scores import ScoringOptions
from bigfive_udf.model.tokenization import TextTokenizer
from bigfive_udf.quantizing.rounding import rounded
from bigfive_udf.settings.quantize import Int8Settings
from bigfive_udf.traits import TRAITS

_KINDS = ("qkv", "attention", "up", "down")
# Enough texts to order the products, each of which is tried by itself.
_TRIAL = 96
# Speed is measured on more: fewer texts than a task of the score job has make more padding and smaller batches.
_TIMED = 512
_TURNS = 3


@dataclass(frozen=True)
class Variant:
    """A model with some products in int8, and its results on the measured half of the sample."""

    precision: str
    products: tuple[str, ...]
    """names of the products in int8"""
    tokens_per_second: float
    """of the model by itself, on one core of this machine"""
    fidelity: Fidelity | None
    """None for fp32, which the others are compared with"""

    @property
    def most_flips(self) -> float:
        """The largest share of labels that may turn over, by the sample: Wilson's upper bound, 95 % one-sided."""
        if self.fidelity is None:
            return 0.0
        p, n, z = self.fidelity.label_flips, self.fidelity.labels, 1.645
        if n == 0:
            return 1.0
        return (p + z * z / (2 * n) + z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)


def product_names(spec: EncoderSpec) -> list[str]:
    """Products that can be in int8: those of every layer, except a last one that is computed for first tokens only."""
    n_layers = spec.n_layers - (spec.pooling == "cls")
    return [f"layers.{i}.{kind}" for i in range(n_layers) for kind in _KINDS]


def steps(n_products: int) -> list[int]:
    """How many products stay in fp32, one number for each variant: 0, 1, 2, 4, ... and half of them."""
    half = n_products // 2
    return [0, *(2**i for i in range(half.bit_length()) if 2**i < half), *([half] if half else [])]


def activation_bits(settings: Int8Settings) -> int:
    """Bits of the activations, 7 or 8.

    Raises:
        SettingsError: the settings ask for more than this processor has.
    """
    most = int8.most_bits()
    if settings.activation_bits == "auto":
        return most
    if settings.activation_bits > most:
        raise SettingsError(
            f"int8.activation_bits {settings.activation_bits}: this processor has no VNNI, and computes only 7 bits "
            "right; set 7 or auto, or quantize on a machine that has it"
        )
    return settings.activation_bits


class Search:
    """A model taken apart, so that products can be exchanged."""

    def __init__(self, artifact: Artifact, options: ScoringOptions) -> None:
        """
        Raises:
            ArtifactError: `Encoder` does not compute the model's architecture, or it has no product to put in int8.
        """
        packed = artifact.pack("fp32")
        about = json.loads(packed.files[bundle.ABOUT])
        if about["kind"] != "fast":
            raise ArtifactError(f"{artifact.path} is no DistilBERT, BERT or RoBERTa, which alone can be put in int8")
        self._artifact, self._options = artifact, options
        self._spec, self._weights = bundle.fast_parts(packed)
        self._tokenizer = TextTokenizer(packed.files[bundle.TOKENIZER].decode())
        self._pad, self._silent = about["pad_token_id"], about["silent"]
        self.names = product_names(self._spec)
        if not self.names:
            raise ArtifactError(f"{artifact.path} has but one layer, of which nothing is worth putting in int8")

    def quantized(self, texts: Sequence[str], exact_columns: int, bits: int) -> dict[str, dict[str, Tensor]]:
        """Every product in int8, its activations of `bits` (7 or 8).

        The `exact_columns` inputs with the largest values in `texts` stay exact.
        """
        watching = _Watching(self._spec, self._weights, self.names)
        scorer = self._scorer(watching.packed, packed=True)  # padding has large inputs of its own
        watching.forget()  # what the scorer tried itself out with
        scorer.score(texts)
        found = {}
        for name in self.names:
            weight, bias = (self._weights[f"{name}.{kind}"] for kind in ("weight", "bias"))
            largest, moments = watching.largest[name], watching.moments.pop(name)
            exact = largest.topk(min(exact_columns, len(largest) - 1)).indices.sort().values
            others = torch.ones(len(largest), dtype=torch.bool)
            others[exact] = False
            found[name] = int8.quantized(
                weight, bias, exact, bits, partial(rounded, moments=moments[others][:, others])
            )
        return found

    def by_sensitivity(self, products: Mapping[str, Mapping[str, Tensor]], texts: Sequence[str]) -> list[str]:
        """The products' names; first the product that, alone in int8, moves the logits most."""
        some = texts[:_TRIAL]
        known = [i for i in range(len(TRAITS)) if i not in self._silent]
        exact = self.scorer().score(some).logits[:, known]
        moved = {}
        for name in self.names:
            found = self.scorer(tensors_of(products, [name])).score(some).logits[:, known]
            # A text that fails only in int8 counts as an infinite change.
            moved[name] = np.nan_to_num((found - exact)[np.isfinite(exact)] ** 2, nan=np.inf).mean()
        return sorted(moved, key=lambda name: -moved[name])

    def curve(
        self, products: Mapping[str, Mapping[str, Tensor]], by_sensitivity: Sequence[str], texts: Sequence[str]
    ) -> list[Variant]:
        """Measure fp32, bf16 where the processor has it, then variants in int8, beginning with all products."""
        tried: dict[tuple[str, tuple[str, ...]], Scorer] = {}
        tried["fp32", ()] = self.scorer()
        if hardware.look(use_gpu=False).cpu_bf16:
            tried["bf16", ()] = self._artifact.scorer(Placement("cpu", "bf16"), self._options)
        for left_out in steps(len(self.names)):
            names = tuple(name for name in self.names if name not in by_sensitivity[:left_out])
            tried["int8", names] = self.scorer(tensors_of(products, names))
        exact, *others = [scorer.score(texts).probabilities for scorer in tried.values()]
        rates = _tokens_per_second(list(tried.values()), texts[:_TIMED])
        fidelity: list[Fidelity | None] = [None]
        for (precision, _), found in zip(list(tried)[1:], others, strict=True):
            fidelity.append(compare(found, exact, self._artifact.thresholds, precision))
        return [Variant(*about, rate, how) for about, rate, how in zip(tried, rates, fidelity, strict=True)]

    def scorer(self, int8_products: Mapping[str, Tensor] | None = None) -> Scorer:
        """The model with `int8_products`, as `tensors_of` returns them, in int8 and all else in fp32."""
        weights = bundle.with_int8(self._weights, int8_products or {})
        return self._scorer(Encoder(self._spec, weights, self._options.weights))

    def _scorer(self, forward: Callable[[Tensor, Tensor], Tensor], packed: bool = False) -> Scorer:
        cpu = torch.device("cpu")
        return Scorer(forward, self._tokenizer, self._pad, cpu, self._options, self._silent, packed)


def tensors_of(products: Mapping[str, Mapping[str, Tensor]], names: Sequence[str]) -> dict[str, Tensor]:
    """The tensors of the named products as an artifact holds them: each by its full name."""
    return {f"{name}.{part}": products[name][part] for name in names for part in int8.PARTS}


class _Watching(Encoder):
    """Records the inputs of products: by name, `largest` (k,), the largest size of each, and `moments` (k, k), sums of
    the products of every two."""

    def __init__(self, spec: EncoderSpec, weights: Mapping[str, Tensor], names: Sequence[str]) -> None:
        super().__init__(spec, weights)
        sizes = {name: weights[f"{name}.weight"].shape[1] for name in names}
        self.largest = {name: torch.zeros(k) for name, k in sizes.items()}
        self.moments = {name: torch.zeros(k, k) for name, k in sizes.items()}

    def forget(self) -> None:
        for tensor in (*self.largest.values(), *self.moments.values()):
            tensor.zero_()

    def _linear(self, name: str, x: Tensor, activation: str = "linear") -> Tensor:
        if name in self.largest:
            rows = x.reshape(-1, x.shape[-1])
            rows = rows[torch.isfinite(rows).all(1)]  # else a text that fails would spoil all
            if len(rows):
                torch.maximum(self.largest[name], rows.abs().amax(0), out=self.largest[name])
            self.moments[name].addmm_(rows.T, rows)
        return super()._linear(name, x, activation)


def _tokens_per_second(scorers: Sequence[Scorer], texts: Sequence[str]) -> list[float]:
    """Speed of each model by itself, with one thread like a Spark task: medians over turns that the models take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        turns = [[scorer.score(texts).effort for scorer in scorers] for _ in range(_TURNS)]
    finally:
        torch.set_num_threads(threads)
    return [statistics.median(e.tokens / e.model_seconds for e in of) for of in zip(*turns, strict=True)]
