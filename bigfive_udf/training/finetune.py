"""Fine-tune an encoder on texts with five yes/no labels, of which some or most may be missing.

The loop is transformers' Trainer; ours are the masked loss, the parameter groups and the line per epoch.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_model
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from bigfive_udf.errors import SettingsError
from bigfive_udf.model import hardware
from bigfive_udf.model.artifact import position_limit
from bigfive_udf.model.checkpoint import OWN_MODEL_TYPE
from bigfive_udf.model.quiet import quiet_transformers
from bigfive_udf.redaction import first_line, in_short
from bigfive_udf.training import base_models
from bigfive_udf.training.checkpoints import MarkComplete, latest_complete
from bigfive_udf.training.metrics import macro_roc_auc

_MASKED = -100
"""value that transformers skips when it counts the labels of a batch"""
_EVAL_BATCH_SIZE = 64


@dataclass(frozen=True)
class FinetuneOptions:
    """How to fine-tune. Head `linear` with pooling `cls` gives a stock checkpoint, all others our own model type."""

    head: str = "linear"
    pooling: str = "cls"
    epochs: int = 3
    learning_rate: float = 5e-5
    """peak rate of the encoder, reached after the warm-up; then it falls linearly to zero"""
    head_rate_factor: float = 10.0
    """the head starts from random weights, so its learning rate is this many times higher"""
    batch_size: int = 32
    gradient_accumulation: int = 1
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    """share of all updates"""
    positive_weights: str = "none"
    """none, or balanced: the positives of a trait weigh as much as its negatives"""
    frozen_layers: int | None = None
    """number of lowest layers that are frozen, together with the embeddings; 0: only the embeddings, so that words
    missing from the training data keep their place beside the others; None: nothing is frozen"""
    early_stopping: int | None = None
    """stop after this many epochs without a better validation ROC AUC, and keep the best epoch; None: all epochs"""
    max_length: int = 256
    """most tokens that are read of a text, special tokens included"""
    device: str = "auto"
    precision: str = "auto"
    """auto, fp32, bf16 or fp16, for matrix products only: weights and their updates stay in fp32"""
    seed: int = 0
    trainer: Mapping[str, Any] = field(default_factory=dict)
    """further arguments of transformers' TrainingArguments"""


@dataclass(frozen=True)
class Examples:
    """Texts and their labels, (n, 5) of 0, 1, or NaN for a missing label, which the loss masks."""

    texts: Sequence[str]
    labels: np.ndarray


@dataclass(frozen=True)
class Epoch:
    """The results of an epoch; the validation figures are None without a validation part."""

    loss: float
    validation_loss: float | None = None
    validation_roc_auc: float | None = None


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model, on the CPU in fp32, with its tokenizer and the history of its training."""

    model: PreTrainedModel
    tokenizer: Any
    max_length: int
    """most tokens that were read of a text: the option, or the number of the encoder's positions if that is lower"""
    epochs: list[Epoch]
    kept: int
    """the epoch, counted from 1, that the weights come from: the last one, or with early stopping the best one"""


def finetune(
    training: Examples,
    base: str,
    options: FinetuneOptions,
    scratch: Path,
    *,
    validation: Examples | None = None,
) -> Finetuned:
    """Fine-tune `base`, a directory that `base_models.locate` returned.

    A checkpoint is written to `scratch` after each epoch. If an interrupted training is run again with the same
    arguments, it resumes there and gives the same weights. The same seed gives the same weights on the same machine.
    Seeds the process's random generators. `validation` is measured after each epoch, and stops the training early if
    the options say so.

    Raises:
        ArtifactError: the base can't be loaded.
        SettingsError: this machine lacks the precision, the encoder has fewer layers than should be frozen, or a
            `trainer` argument is wrong.
    """
    machine = hardware.look(use_gpu=options.device != "cpu")
    placement = hardware.decide(options.device, options.precision, [machine], section="train")
    early = options.early_stopping is not None and validation is not None
    with quiet_transformers():
        transformers.set_seed(options.seed)
        model, tokenizer = base_models.load(base, options.head, options.pooling)
        _freeze(model, options.frozen_layers)
        length = min(options.max_length, position_limit(model.config, tokenizer))
        scratch.mkdir(parents=True, exist_ok=True)
        callbacks: list[TrainerCallback] = [MarkComplete(), _LinePerEpoch(validation is not None)]
        if early:
            callbacks.append(transformers.EarlyStoppingCallback(options.early_stopping or 1))
        arguments = _arguments(options, placement, str(scratch), len(training.texts), validation is not None, early)
        arguments["ddp_find_unused_parameters"] = _has_idle_pooler(model)
        with _trainer_errors(options):
            trainer_arguments = TrainingArguments(**arguments)
        # Otherwise a step would take a batch for each GPU; to use several GPUs is the purpose of train.processes.
        trainer_arguments._n_gpu = min(1, trainer_arguments.n_gpu)
        trainer = Trainer(
            model=model,
            args=trainer_arguments,
            train_dataset=_dataset(tokenizer, training, length),
            eval_dataset=None if validation is None else _by_length(tokenizer, validation, length),
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
            compute_loss_func=masked_loss(_positive_weights(training.labels, options.positive_weights)),
            compute_metrics=_validation_metrics,
            optimizers=(_optimizer(model, options), None),
            callbacks=callbacks,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        first = trainer.is_world_process_zero()  # the first of the processes that train together
        resumed = latest_complete(scratch, remove=first)
        ended = _early_end(resumed, options) if early and resumed is not None else None
        if ended is not None:  # training had stopped early: the Trainer would continue it
            history = ended.log_history
            load_model(model, Path(str(ended.best_model_checkpoint)) / "model.safetensors")
        else:
            with _trainer_errors(options):
                trainer.train(resume_from_checkpoint=resumed)
            history = trainer.state.log_history
            model = trainer.accelerator.unwrap_model(trainer.model)
    epochs = _epochs(history)
    # Of several equally good epochs the first, as the Trainer chooses.
    kept = 1 + int(np.argmax([epoch.validation_roc_auc or 0.0 for epoch in epochs])) if early else len(epochs)
    model = model.requires_grad_(True).to("cpu", torch.float32).eval()
    return Finetuned(model, tokenizer, length, epochs, kept)


def _early_end(checkpoint: str, options: FinetuneOptions) -> transformers.TrainerState | None:
    """The state of a checkpoint if the training stopped early at its epoch, else None."""
    state = transformers.TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
    attributes = (state.stateful_callbacks.get("EarlyStoppingCallback") or {}).get("attributes") or {}
    waited = attributes.get("early_stopping_patience_counter", 0)
    return state if options.early_stopping is not None and waited >= options.early_stopping else None


@contextmanager
def _trainer_errors(options: FinetuneOptions) -> Iterator[None]:
    """Raise errors as SettingsError if the user gave `trainer` arguments: these are the most likely cause."""
    try:
        yield
    except (TypeError, ValueError, ImportError, AttributeError, AssertionError) as error:
        if not options.trainer:
            raise
        raise SettingsError(
            f"train.trainer {dict(options.trainer)}: transformers' Trainer says {in_short(error)}"
        ) from error


def masked_loss(positive_weights: Tensor | None = None) -> Callable[..., Tensor]:
    """Binary cross-entropy, averaged over the labels that are not missing.

    If an update has several batches, the average is over the labels of all of them. The loss takes outputs with logits
    (rows, 5) and labels (rows, 5), -100 where missing.
    """

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        logits, known = outputs["logits"].float(), labels != _MASKED
        weights = None if positive_weights is None else positive_weights.to(logits.device)
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits, labels.clamp(min=0).float(), pos_weight=weights, reduction="none"
        )
        count = known.sum() if num_items_in_batch is None else num_items_in_batch
        return (losses * known).sum() / torch.as_tensor(count, device=logits.device).clamp(min=1)

    return loss


def _positive_weights(labels: np.ndarray, how: str) -> Tensor | None:
    """(5,) negatives per positive; 1 where a trait has not both classes."""
    if how == "none":
        return None
    positives, negatives = (labels == 1).sum(0), (labels == 0).sum(0)
    usable = (positives > 0) & (negatives > 0)
    return torch.from_numpy(np.where(usable, negatives / np.maximum(positives, 1), 1.0)).float()


_OWN_ARGUMENTS = {
    "output_dir": "output.path",
    "num_train_epochs": "train.epochs",
    "max_steps": "train.epochs",
    "learning_rate": "train.learning_rate",
    "per_device_train_batch_size": "train.batch_size",
    "gradient_accumulation_steps": "train.gradient_accumulation",
    "warmup_steps": "train.warmup_share",
    "weight_decay": "train.weight_decay",
    "seed": "train.seed",
    "bf16": "train.precision",
    "fp16": "train.precision",
    "use_cpu": "train.device",
}
"""Arguments of transformers for which this project has its own setting."""
_OPTIMIZER_ARGUMENTS = {"optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon"}
_FIXED_ARGUMENTS = {
    *("eval_strategy", "save_strategy", "save_total_limit", "save_only_model", "load_best_model_at_end"),
    *("metric_for_best_model", "greater_is_better", "remove_unused_columns", "label_names", "logging_strategy"),
    *("resume_from_checkpoint", "restore_callback_states_from_checkpoint", "ignore_data_skip", "push_to_hub"),
    *("do_train", "do_eval", "do_predict", "logging_first_step", "logging_steps", "eval_on_start", "eval_steps"),
    *("save_steps", "label_smoothing_factor", "train_sampling_strategy", "include_for_metrics", "batch_eval_metrics"),
    *("hub_token", "hub_model_id"),  # an artifact publishes its settings
}
"""Arguments that resuming and evaluation rely on."""


def check_trainer_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that transformers does not know, or that are decided elsewhere.

    Raises:
        SettingsError: naming the argument and the cure.
    """
    for key in arguments:
        if key in _OWN_ARGUMENTS:
            raise SettingsError(f"train.trainer.{key}: set {_OWN_ARGUMENTS[key]} instead")
        if key in _OPTIMIZER_ARGUMENTS:
            raise SettingsError(
                f"train.trainer.{key}: the optimizer is AdamW with torch's betas; set train.learning_rate, "
                "train.head_rate_factor or train.weight_decay"
            )
        if key in _FIXED_ARGUMENTS:
            raise SettingsError(f"train.trainer.{key}: resuming and evaluation rely on it; leave it out")
    try:
        with quiet_transformers():
            known: dict[str, Any] = {"use_cpu": True, "report_to": "none", **arguments}
            TrainingArguments(output_dir="unused", **known)
    except (TypeError, ValueError, ImportError) as error:
        raise SettingsError(f"train.trainer: transformers' TrainingArguments says: {first_line(str(error))}") from None


def _arguments(
    options: FinetuneOptions, placement: hardware.Placement, scratch: str, n_texts: int, validated: bool, early: bool
) -> dict[str, Any]:
    """The arguments for transformers' TrainingArguments."""
    processes = int(os.environ.get("WORLD_SIZE", 1))  # set by torchrun
    updates = options.epochs * -(-n_texts // (options.batch_size * options.gradient_accumulation * processes))
    ours: dict[str, Any] = {
        "output_dir": scratch,
        "num_train_epochs": options.epochs,
        "per_device_train_batch_size": options.batch_size,
        "per_device_eval_batch_size": _EVAL_BATCH_SIZE,
        "gradient_accumulation_steps": options.gradient_accumulation,
        "warmup_steps": round(options.warmup_share * updates),
        "lr_scheduler_type": "linear",
        "seed": options.seed,
        "bf16": placement.precision == "bf16",
        "fp16": placement.precision == "fp16",
        "use_cpu": placement.device == "cpu",
        # Texts of similar length share a batch, so that little of it is padding.
        "train_sampling_strategy": "group_by_length",
        "dataloader_pin_memory": placement.device != "cpu",
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "logging_strategy": "epoch",
        "eval_strategy": "epoch" if validated else "no",
        # At the end of an epoch the state of the random generators determines the order of all later texts.
        "save_strategy": "epoch",
        "save_total_limit": 2,  # the previous one stays until the new one is known to be complete
        "load_best_model_at_end": early,
        "metric_for_best_model": "roc_auc" if early else None,
        "greater_is_better": True if early else None,
        "restore_callback_states_from_checkpoint": True,
        "report_to": "none",
        "disable_tqdm": not sys.stderr.isatty(),
    }
    return ours | dict(options.trainer)


def _dataset(tokenizer: Any, examples: Examples, max_length: int) -> list[dict[str, Any]]:
    ids = tokenizer(list(examples.texts), truncation=True, max_length=max_length)["input_ids"]
    labels = np.where(np.isnan(examples.labels), _MASKED, examples.labels).astype(np.float32)
    return [{"input_ids": i, "labels": y} for i, y in zip(ids, labels, strict=True)]


def _by_length(tokenizer: Any, examples: Examples, max_length: int) -> list[dict[str, Any]]:
    """The dataset, longest first: evaluation keeps this order, and neighbours of similar length need little padding."""
    return sorted(_dataset(tokenizer, examples, max_length), key=lambda row: -len(row["input_ids"]))


def _validation_metrics(prediction: Any) -> dict[str, float]:
    labels = np.where(prediction.label_ids == _MASKED, np.nan, prediction.label_ids)
    value = macro_roc_auc(labels, np.asarray(prediction.predictions, float))
    return {"roc_auc": 0.5 if np.isnan(value) else value}  # no epoch would ever be better than NaN


def _epochs(history: list[dict[str, Any]]) -> list[Epoch]:
    """Epochs from the Trainer's log: one entry with `loss` per epoch, and with a validation one with `eval_loss`."""
    losses = {round(entry["epoch"]): entry["loss"] for entry in history if "loss" in entry}
    measured = {round(entry["epoch"]): entry for entry in history if "eval_loss" in entry}
    return [
        Epoch(loss, measured.get(n, {}).get("eval_loss"), measured.get(n, {}).get("eval_roc_auc"))
        for n, loss in sorted(losses.items())
    ]


def _freeze(model: Any, frozen_layers: int | None) -> None:
    if frozen_layers is None:
        return
    # The first module called `embeddings` holds words, positions and their norm.
    embeddings = next(m for n, m in model.base_model.named_modules() if n.split(".")[-1] == "embeddings")
    embeddings.requires_grad_(False)
    stacks = [m for m in model.base_model.modules() if isinstance(m, nn.ModuleList)]
    layers = max(stacks, key=len, default=nn.ModuleList())
    if frozen_layers > len(layers):
        raise SettingsError(f"train.frozen_layers {frozen_layers}: the encoder has {len(layers)} layers")
    for layer in list(layers)[:frozen_layers]:
        layer.requires_grad_(False)


def _has_idle_pooler(model: Any) -> bool:
    """Whether the encoder has a pooler that our own head does not use: distributed training must know of it."""
    return model.config.model_type == OWN_MODEL_TYPE and getattr(model.base_model, "pooler", None) is not None


def _optimizer(model: Any, options: FinetuneOptions) -> torch.optim.Optimizer:
    """AdamW, with a higher rate for the new head and without weight decay of vectors (biases, norms)."""
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


class _LinePerEpoch(TrainerCallback):
    """One line per epoch, which a terminal and a log file show alike."""

    def __init__(self, validated: bool) -> None:
        self._validated = validated
        self._started = time.monotonic()
        self._loss = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._started = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        logs = logs if logs is not None and state.is_world_process_zero else {}
        if "loss" in logs:
            self._loss = f"loss {logs['loss']:.3f}"
        if "eval_loss" in logs:
            figures = f"{self._loss}  validation loss {logs['eval_loss']:.3f}, ROC AUC {logs['eval_roc_auc']:.3f}"
        elif "loss" in logs and not self._validated:
            figures = self._loss
        else:
            return
        seconds = time.monotonic() - self._started
        print(f"  epoch {state.epoch:.0f}/{args.num_train_epochs}  {figures}  {seconds:.0f} s", flush=True)
