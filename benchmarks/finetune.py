"""Texts per second of fine-tuning: the train job against the same Trainer with padding to 128 tokens in fp32.

    python -m benchmarks.finetune [--short FILE] [--vocabulary tokenizer.json] [--repeats 3] [--output x.json]

The rate is marginal, as in benchmarks.score: the extra texts of a large training over a small one, by the extra
seconds. So it leaves out loading and saving the model. Both sides use the same model (DistilBERT size, random weights),
texts, batch size, optimizer settings and threads, interleaved in one run. The other side follows guides to fine-tuning:
tokenize with padding="max_length" and pass the result to the Trainer.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.support.flags import parser
from benchmarks.support.rates import marginal_rate
from benchmarks.support.results import save
from benchmarks.support.workloads import SHORT, Texts, random_checkpoint, vocabulary_of
from bigfive_udf.model import hardware
from bigfive_udf.model.quiet import quiet_transformers
from bigfive_udf.training.finetune import Examples, FinetuneOptions, finetune

CORES = 2
MAX_LENGTH, BATCH_SIZE = 128, 32
SMALL, LARGE = {"padded": 32, "ours": 64}, {"padded": 96, "ours": 384}
"""Texts of the two trainings whose difference is measured; the padded one gets fewer, or it would take an hour."""


def main() -> None:
    args = parser(__doc__, "short", "vocabulary", repeats=3).parse_args()

    torch.set_num_threads(CORES)
    with tempfile.TemporaryDirectory() as scratch, quiet_transformers():
        base = str(random_checkpoint(Path(scratch) / "model", vocabulary_of(args.vocabulary)))
        texts = Texts(args.short).of(SHORT, LARGE["ours"])
        labels = np.random.default_rng(0).integers(0, 2, (len(texts), 5)).astype(float)
        systems: dict[str, Callable[[Examples], None]] = {
            "padded": lambda examples: _padded(examples, base, scratch),
            "ours": lambda examples: _ours(examples, base),
        }
        rates: dict[str, list[float]] = {name: [] for name in systems}
        for repeat in range(args.repeats):
            for name, train in systems.items():
                rates[name].append(_rate(train, texts, labels, name))
                print(f"{repeat + 1}/{args.repeats} {name:>7} {rates[name][-1]:8.1f} texts/s", file=sys.stderr)
    precision = hardware.decide("cpu", "auto", [hardware.look(use_gpu=False)]).precision
    medians = {name: statistics.median(values) for name, values in rates.items()}
    result: dict[str, Any] = {
        "precision": {"padded": "fp32", "ours": precision},
        "texts_per_second": rates,
        "median": medians,
        "times_padded": round(medians["ours"] / medians["padded"], 2),
    }
    print(_table(result))
    if args.output:
        save(args.output, result)


def _rate(train: Callable[[Examples], None], texts: Sequence[str], labels: np.ndarray, name: str) -> float:
    def seconds(some: Sequence[str]) -> float:
        started = time.perf_counter()
        train(Examples(list(some), labels[: len(some)]))
        return time.perf_counter() - started

    # The small training gets the last texts of the large one, so that both have about the same mean length.
    large = texts[: LARGE[name]]
    return marginal_rate(seconds, large[-SMALL[name] :], large)


def _ours(examples: Examples, base: str) -> None:
    options = FinetuneOptions(epochs=1, batch_size=BATCH_SIZE, max_length=MAX_LENGTH, device="cpu")
    with tempfile.TemporaryDirectory() as scratch:
        finetune(examples, base, options, Path(scratch))


def _padded(examples: Examples, base: str, scratch: str) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base)
    encoded = tokenizer(list(examples.texts), padding="max_length", truncation=True, max_length=MAX_LENGTH)
    rows = [
        {"input_ids": ids, "attention_mask": mask, "labels": y}
        for ids, mask, y in zip(
            encoded["input_ids"], encoded["attention_mask"], examples.labels.astype(np.float32), strict=True
        )
    ]
    arguments = transformers.TrainingArguments(
        output_dir=scratch, num_train_epochs=1, per_device_train_batch_size=BATCH_SIZE, save_strategy="no",
        report_to="none", use_cpu=True, disable_tqdm=True, logging_strategy="no", dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows)
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()


def _table(result: dict[str, Any]) -> str:
    lines = [f"{'fine-tuning':>11} {'precision':>10} {'texts/s':>9} {'min':>8} {'max':>8} {'x padded':>9}"]
    for name, values in result["texts_per_second"].items():
        median = result["median"][name]
        lines.append(
            f"{name:>11} {result['precision'][name]:>10} {median:9.1f} {min(values):8.1f} {max(values):8.1f} "
            f"{median / result['median']['padded']:9.2f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
