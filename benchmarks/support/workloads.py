"""Texts and checkpoints to measure with: real texts if files are given, else made-up ones of similar lengths."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch

from bigfive_udf.traits import TRAITS

SHORT, LONG, MIXED, REPEATED = "short", "long", "mixed", "repeated"
WORKLOADS = {
    SHORT: "messages, about 15 words, no two alike",
    LONG: "diary entries, about 340 words, no two alike",
    MIXED: "messages, of which one in a hundred is ten diary entries long",
    REPEATED: "messages, of which three in ten repeat another",
}
SIZES = {"distilbert": (6, 768, 12, 3072), "minilm": (6, 384, 12, 1536)}
"""Layers, width, heads and inner width of encoders that people use."""
WORDS = ["I", "you", "will", "call", "home", "late", "tonight", "the", "bus", "was", "not", "there", "ok", "thanks"]


@dataclass(frozen=True)
class Texts:
    """Where texts are from: the column `text` of Parquet files; None: made up."""

    short: str | None = None
    long: str | None = None

    def of(self, workload: str, number: int, seed: int = 0) -> list[str]:
        """`number` texts of a workload, always the same ones for a seed."""
        rng = random.Random(seed)
        if workload == LONG:
            return _distinct(_pool(self.long, rng, 340, 0.6), number)
        short = _distinct(_pool(self.short, rng, 12, 0.7), number)
        if workload == MIXED:
            entries = _distinct(_pool(self.long, rng, 340, 0.6), 10 * max(1, number // 100))
            for i in range(max(1, number // 100)):
                short[(i * 100 + 50) % number] = " ".join(entries[10 * i : 10 * (i + 1)])
        if workload == REPEATED:
            own = round(0.7 * number)
            short[own:] = [short[rng.randrange(own)] for _ in range(number - own)]
            rng.shuffle(short)
        return short

    def jobs(self, workload: str, low: int, high: int, seed: int = 0) -> tuple[list[str], list[str]]:
        """The texts of a small and a large job, with the same share of long texts and of repeats in both."""
        large = self.of(workload, high, seed)
        # Part of the large job, so that both have the same mean length. But a part need not have its share of repeats.
        return (self.of(workload, low, 1000 + seed) if workload == REPEATED else large[:low]), large


def _pool(file: str | None, rng: random.Random, words: int, spread: float) -> list[str]:
    if file is None:
        sizes = [min(40 * words, 1 + int(rng.lognormvariate(0, spread) * words)) for _ in range(5000)]
        return [" ".join(rng.choices(WORDS, k=k)) for k in sizes]
    import pyarrow.parquet as pq

    found = [t for t in pq.read_table(file, columns=["text"])["text"].to_pylist() if t and t.strip()]
    rng.shuffle(found)
    return found


def _distinct(pool: Sequence[str], number: int) -> list[str]:
    """`number` different texts; if the pool has too few, its texts come again with a number at the end."""
    found = dict.fromkeys(pool)
    for turn in count(1):
        if len(found) >= number:
            break
        found |= dict.fromkeys(f"{text} {turn}" for text in pool)
    return list(found)[:number]


def random_checkpoint(directory: Path, vocabulary: str | None = None, size: str = "distilbert", seed: int = 0) -> Path:
    """A multilabel DistilBERT with random weights, as wide as `size` says.

    Speed depends on shapes, not on what the weights know. `vocabulary` is a tokenizer.json of a BERT kind; without
    one the tokenizer knows single characters only, and texts have more tokens than they should.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import DistilBertConfig, DistilBertForSequenceClassification, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    labels = dict(enumerate(TRAITS))
    layers, width, heads, inner = SIZES[size]
    config = DistilBertConfig(
        n_layers=layers,
        dim=width,
        n_heads=heads,
        hidden_dim=inner,
        id2label=labels,
        label2id={t: i for i, t in labels.items()},
        problem_type="multi_label_classification",
        initializer_range=0.06,  # at the usual 0.02 every text gets nearly the same score, and no label could flip
    )
    DistilBertForSequenceClassification(config).save_pretrained(directory)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if vocabulary is not None:
        tokenizer = Tokenizer.from_file(vocabulary)
    else:
        characters = [chr(c) for c in range(33, 127)]
        pieces = [*special, *characters, *("##" + c for c in characters)]
        tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=512, **dict(zip(names, special, strict=True))
    )
    wrapped.save_pretrained(directory)
    return directory


def vocabulary_of(file: str | None) -> str | None:
    """The file, or else the vocabulary of the demo's encoder, or None where that is not installed."""
    from bigfive_udf.errors import ArtifactError
    from bigfive_udf.training.base_models import minilm_directory

    if file is not None:
        return file
    try:
        return str(minilm_directory() / "tokenizer.json")
    except ArtifactError:
        return None
