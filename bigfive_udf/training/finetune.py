"""Fine-tune an encoder on texts with five yes/no labels, of which some or most may be missing.

The loop is transformers' Trainer; ours are the masked loss, the parameter groups and the line per epoch.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    Trainer,
)

from bigfive_udf.errors import ArtifactError, InputError, SettingsError
from bigfive_udf.model import hardware
from bigfive_udf.model.checkpoint import HEADS, POOLINGS
from bigfive_udf.model.modeling import BigFiveConfig, BigFiveForSequenceClassification
from bigfive_udf.model.quiet import quiet_transformers
from bigfive_udf.traits import TRAITS

TEXT = "text"


@dataclass(frozen=True)
class FinetuneOptions:
    """How to fine-tune. `linear` on `cls` gives a stock checkpoint, anything else one of our own model type."""

    head: str = "linear"
    pooling: str = "cls"
    epochs: int = 3
    learning_rate: float = 5e-5
    """of the encoder at its peak, after the warm-up; falls linearly to zero"""
    head_rate_factor: float = 10.0
    """the head starts from nothing, so it learns this many times faster"""
    batch_size: int = 32
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    """of all steps"""
    freeze_embeddings: bool = False
    """leave the token embeddings as they are: words that the training data lacks keep their place beside the others"""
    max_length: int = 256
    """tokens of a text that are read, special ones counted"""
    precision: str = "auto"
    """auto, fp32, bf16 or fp16, of the products alone: weights and their updates stay in fp32"""
    seed: int = 0


def finetune(labelled: pd.DataFrame, base: str, options: FinetuneOptions) -> tuple[PreTrainedModel, Any]:
    """Fine-tune `base`, as `base_models.locate` gives it, and return the model, on the CPU in fp32, and its tokenizer.

    `labelled` has the column `text` and a column for each trait: 0, 1, or NaN where the label is missing, which is
    then masked in the loss. The same seed gives the same weights on the same machine. Seeds the process's generators.

    Raises:
        InputError: a column is missing, a label is neither 0 nor 1 nor missing, or there is no label at all.
        ArtifactError: the base can't be loaded.
        SettingsError: there is no such head or pooling, or no such precision here.
    """
    labels = _labels(labelled)
    if options.head not in HEADS or options.pooling not in POOLINGS:
        raise SettingsError(
            f"model.head {options.head}, model.pooling {options.pooling}: "
            f"must be one of {', '.join(HEADS)}, and one of {', '.join(POOLINGS)}"
        )
    placement = hardware.decide("auto", options.precision, [hardware.look()])
    with quiet_transformers(), tempfile.TemporaryDirectory(prefix="bigfive-train-") as scratch:
        transformers.set_seed(options.seed)
        model, tokenizer = _load(base, options)
        if options.freeze_embeddings:
            model.base_model.get_input_embeddings().requires_grad_(False)
        ids = tokenizer(labelled[TEXT].tolist(), truncation=True, max_length=options.max_length)["input_ids"]
        steps = options.epochs * -(-len(ids) // options.batch_size)
        trainer = Trainer(
            model=model,
            args=transformers.TrainingArguments(
                output_dir=scratch,
                num_train_epochs=options.epochs,
                per_device_train_batch_size=options.batch_size,
                warmup_steps=round(options.warmup_share * steps),
                lr_scheduler_type="linear",
                seed=options.seed,
                bf16=placement.precision == "bf16",
                fp16=placement.precision == "fp16",
                use_cpu=placement.device == "cpu",
                # Texts of one length share a batch, so that little of it is padding.
                train_sampling_strategy="group_by_length",
                dataloader_pin_memory=placement.device != "cpu",
                remove_unused_columns=False,
                logging_strategy="epoch",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=[{"input_ids": i, "labels": y} for i, y in zip(ids, labels, strict=True)],
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
            compute_loss_func=masked_loss,
            optimizers=(_optimizer(model, options), None),
            callbacks=[_LinePerEpoch()],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return model.requires_grad_(True).to("cpu", torch.float32).eval(), tokenizer


def masked_loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    """Binary cross-entropy, averaged over the labels that are there; logits and labels (rows, 5), missing ones NaN."""
    known = ~labels.isnan()
    logits = outputs["logits"].float()
    losses = nn.functional.binary_cross_entropy_with_logits(logits, labels.nan_to_num().float(), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def _labels(labelled: pd.DataFrame) -> np.ndarray:
    """(rows, 5) float32."""
    if missing := [name for name in (TEXT, *TRAITS) if name not in labelled.columns]:
        raise InputError(f"the training table has no column {', '.join(missing)}; it has {', '.join(labelled.columns)}")
    labels = labelled[list(TRAITS)].to_numpy(np.float32, na_value=np.nan)
    known = ~np.isnan(labels)
    if not known.any():
        raise InputError(
            f"the training table has {len(labelled)} rows and not one label: nothing can be learned from it"
        )
    if wrong := sorted(set(np.unique(labels[known]).tolist()) - {0.0, 1.0}):
        raise InputError(f"the training table has a label {wrong[0]:g}: a label is 0, 1 or missing")
    return labels


def _load(base: str, options: FinetuneOptions) -> tuple[Any, Any]:
    about: dict[str, Any] = {
        "num_labels": len(TRAITS),
        "id2label": dict(enumerate(TRAITS)),
        "label2id": {trait: i for i, trait in enumerate(TRAITS)},
        "problem_type": "multi_label_classification",
    }
    how: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True}  # nothing is unpickled
    try:
        tokenizer = AutoTokenizer.from_pretrained(base)
        if (options.head, options.pooling) == ("linear", "cls"):
            return AutoModelForSequenceClassification.from_pretrained(base, **how, **about), tokenizer
        encoder = AutoModel.from_pretrained(base, **how)
        inner = AutoConfig.from_pretrained(base)
    # Whatever transformers raises (no network, no such name, a damaged file), to the user the base is the wrong one.
    except Exception as error:
        first_line = next(iter(str(error).splitlines()), "")[:160]
        raise ArtifactError(
            f"{base} can't be loaded as a model to start from ({type(error).__name__}: {first_line}): "
            "set model.base to a directory, to a name on the hub, or to minilm"
        ) from error
    # Where the encoder lay on this machine is nobody's business, and would make model_id depend on it.
    encoder_config = {key: value for key, value in inner.to_dict().items() if key != "_name_or_path"}
    config = BigFiveConfig(encoder=encoder_config, head=options.head, pooling=options.pooling, **about)
    config.pad_token_id = inner.pad_token_id
    model = BigFiveForSequenceClassification(config)
    # Not strict: our class has no pooler where the encoder's own class has one.
    model.encoder.load_state_dict(encoder.state_dict(), strict=False)
    return model, tokenizer


def _optimizer(model: Any, options: FinetuneOptions) -> torch.optim.Optimizer:
    """AdamW, its rate higher for what starts from nothing; vectors (biases, norms) don't decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    prefix = f"{model.base_model_prefix}."
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith(prefix), parameter.ndim > 1), []).append(parameter)
    rates = {True: options.learning_rate, False: options.learning_rate * options.head_rate_factor}
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rates[in_encoder], "weight_decay": options.weight_decay if decays else 0.0}
            for (in_encoder, decays), parameters in groups.items()
        ],
        fused=True,
    )


class _LinePerEpoch(transformers.TrainerCallback):
    """One line per epoch, which a terminal and a log file show alike."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._started = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            seconds = time.monotonic() - self._started
            print(
                f"  epoch {state.epoch:.0f}/{args.num_train_epochs}  loss {logs['loss']:.3f}  {seconds:.0f} s",
                flush=True,
            )
