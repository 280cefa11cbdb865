"""The form in which a model travels: a few files, ready to be mapped into memory in the precision of the run.

Packing happens once, on the driver, where transformers is available: it renames, fuses and casts the weights, puts the
logits in trait order, and writes the tokenizer as transformers set it up. A worker then needs torch, tokenizers and
safetensors; it needs transformers only for an architecture that `Encoder` can't compute.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bigfive_udf.errors import ArtifactError
from bigfive_udf.model import families
from bigfive_udf.model.attention import on
from bigfive_udf.model.checkpoint import OWN_MODEL_TYPE
from bigfive_udf.model.encoder import Encoder, EncoderSpec, stays_fp32
from bigfive_udf.model.quiet import quiet_transformers
from bigfive_udf.model.scores import SHARED
from bigfive_udf.traits import TRAITS

ABOUT, WEIGHTS, TOKENIZER, CONFIG = "bundle.json", "model.safetensors", "tokenizer.json", "config.json"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32}
"""Dtype of the weights by precision, except those that stay in fp32; for int8, of those not in 8-bit integers."""


@dataclass(frozen=True)
class Bundle:
    """Files by name, and the digest of them all, which names the bundle wherever it is unpacked."""

    files: dict[str, bytes]
    digest: str


def pack(
    config: Any,
    tensors: dict[str, Tensor],
    tokenizer: Any,
    logit_of_trait: list[int],
    precision: str,
    silent_traits: Sequence[str] = (),
    int8_products: Mapping[str, Tensor] | None = None,
) -> Bundle:
    """Make the bundle of a checkpoint.

    `config` and `tokenizer` are transformers' own objects; `logit_of_trait[i]` is the index of trait i's output;
    `silent_traits` get no probability; `int8_products` replace the weights that they were made from.

    Raises:
        ArtifactError: weights are missing or not finite, or the tokenizer is not a fast one.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ArtifactError(
                f"weight {name} holds values that are not finite numbers: train or copy the model again"
            )
    _check_vocabulary(config, tokenizer)
    about: dict[str, Any] = {
        "precision": precision,
        "pad_token_id": config.pad_token_id or 0,
        "silent": [TRAITS.index(trait) for trait in silent_traits],
    }
    files = {TOKENIZER: _tokenizer_definition(tokenizer)}
    parts = _fast_parts(config, tensors)
    if parts is not None:
        spec, weights = parts
        last = f"head.{len(spec.head_activations) - 1}."
        for kind in ("weight", "bias"):
            weights[last + kind] = weights[last + kind][logit_of_trait]
        about |= {"kind": "fast", "spec": asdict(spec), "pad_token_id": spec.pad_token_id}
        weights = {n: t.to(torch.float32 if stays_fp32(n) else DTYPES[precision]) for n, t in weights.items()}
        weights = with_int8(weights, int8_products or {})
    else:
        if precision == "int8":
            raise ArtifactError("only DistilBERT, BERT and RoBERTa can be in int8")
        _check_whole(config, tensors)
        about |= {"kind": "stock", "logit_of_trait": logit_of_trait}
        weights = {n: t.to(DTYPES[precision]) if t.is_floating_point() else t for n, t in tensors.items()}
        files[CONFIG] = json.dumps(config.to_dict(), default=str).encode()
    files[ABOUT] = json.dumps(about, sort_keys=True).encode()
    files[WEIGHTS] = _serialized(weights)
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return Bundle(files, digest.hexdigest())


def with_int8(weights: Mapping[str, Tensor], int8_products: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights, where each product in 8-bit integers replaces the weights that it was made from."""
    replaced = {name.removesuffix("scale") for name in int8_products if name.endswith(".scale")}
    kept = {
        n: t for n, t in weights.items() if not n.startswith("layers.") or f"{n.rpartition('.')[0]}." not in replaced
    }
    return {**kept, **int8_products}


def fast_parts(packed: Bundle) -> tuple[EncoderSpec, dict[str, Tensor]]:
    """The spec and the weights of an `Encoder`, from a bundle of the kind `fast`."""
    from safetensors.torch import load

    return _spec(json.loads(packed.files[ABOUT])), load(packed.files[WEIGHTS])


def _spec(about: Mapping[str, Any]) -> EncoderSpec:
    return EncoderSpec(**about["spec"] | {"head_activations": tuple(about["spec"]["head_activations"])})


def load_forward(
    directory: Path, about: dict[str, Any], device: torch.device, weights: str = SHARED
) -> Callable[[Tensor, Tensor], Tensor]:
    """The forward pass of an unpacked bundle: ids on the device, lengths on the CPU -> fp32 logits in trait order.

    `weights` is the `where` of `Encoder`: where the weights lie.
    """
    if about["kind"] == "stock":
        return _stock_forward(directory, about, device)
    from safetensors.torch import load_file

    return Encoder(_spec(about), load_file(directory / WEIGHTS, device=str(device)), weights)


def _check_whole(config: Any, tensors: dict[str, Tensor]) -> None:
    """Refuse weights that are missing or of another shape: transformers would invent them with only a warning."""
    from transformers import AutoModelForSequenceClassification

    from bigfive_udf.model.modeling import BigFiveForSequenceClassification

    kind: Any = BigFiveForSequenceClassification
    if config.model_type != OWN_MODEL_TYPE:
        with torch.device("meta"):
            kind = type(AutoModelForSequenceClassification.from_config(config))
    with quiet_transformers():
        _, found = kind.from_pretrained(
            None, config=config, state_dict=dict(tensors), ignore_mismatched_sizes=True, output_loading_info=True
        )
    if missing := sorted(found["missing_keys"]):
        raise ArtifactError(f"the checkpoint has no weight {missing[0]}: copy or save the model again")
    if wrong := sorted(found["mismatched_keys"]):
        name, has, needs = wrong[0]
        raise ArtifactError(
            f"weight {name} has the shape {tuple(has)}, config.json asks for {tuple(needs)}: "
            "copy or save the model again"
        )


def _check_vocabulary(config: Any, tokenizer: Any) -> None:
    inner = config.encoder_config() if config.model_type == OWN_MODEL_TYPE else config
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= inner.vocab_size:
        raise ArtifactError(
            f"the tokenizer has ids up to {highest}, the model embeddings for {inner.vocab_size}: "
            "save the tokenizer that it was trained with beside it"
        )


def _fast_parts(config: Any, tensors: dict[str, Tensor]) -> tuple[EncoderSpec, dict[str, Tensor]] | None:
    if config.model_type == OWN_MODEL_TYPE:
        inner = config.encoder_config()
        if families.is_fast(inner):
            return families.translate(
                inner, tensors, prefix="encoder.", head=config.head_layers(), pooling=config.pooling
            )
    elif families.is_fast(config):
        return families.translate(config, tensors)
    return None


def _stock_forward(directory: Path, about: dict[str, Any], device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """The forward pass of transformers, for architectures that `Encoder` does not compute."""
    from transformers import AutoModelForSequenceClassification

    from bigfive_udf.model.modeling import BigFiveForSequenceClassification

    model_type = json.loads((directory / CONFIG).read_text())["model_type"]
    loader: Any = AutoModelForSequenceClassification
    if model_type == OWN_MODEL_TYPE:
        loader = BigFiveForSequenceClassification
    with quiet_transformers():
        model = loader.from_pretrained(
            directory, dtype=DTYPES[about["precision"]], local_files_only=True, use_safetensors=True
        )
    model = model.to(device).eval()
    order = torch.tensor(about["logit_of_trait"], device=device)

    @torch.inference_mode()
    def forward(ids: Tensor, lengths: Tensor) -> Tensor:
        mask = (torch.arange(ids.shape[1], device=device) < on(device, lengths)[:, None]).long()
        return model(input_ids=ids, attention_mask=mask).logits.float()[:, order]

    return forward


def _tokenizer_definition(tokenizer: Any) -> bytes:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ArtifactError(f"{type(tokenizer).__name__} is not a fast tokenizer: save the model with a tokenizer.json")
    return backend.to_str().encode()


def _serialized(weights: dict[str, Tensor]) -> bytes:
    from safetensors.torch import save

    alone: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in weights.items():
        whole, storage = tensor.contiguous(), tensor.untyped_storage()
        # Tied or sliced tensors share storage, which safetensors refuses to write. The others are not copied: a copy of
        # all of them would be a quarter of the memory that packing takes.
        shares = storage.data_ptr() in seen or storage.nbytes() != whole.nbytes
        seen.add(storage.data_ptr())
        alone[name] = whole.clone() if shares and whole is tensor else whole
    return save(alone, metadata={"format": "pt"})
