"""Texts and checkpoints to measure with: real texts where a file is given, else made ones of the same lengths."""

from __future__ import annotations

import random
from pathlib import Path

import torch

from bigfive_udf.traits import TRAITS


def texts_of(file: str | None, count: int, seed: int = 0) -> list[str]:
    """`count` short texts: from the column `text` of a Parquet file, or made ones as short as SMS messages."""
    rng = random.Random(seed)
    if file is not None:
        import pyarrow.parquet as pq

        found = [t for t in pq.read_table(file, columns=["text"])["text"].to_pylist() if t and t.strip()]
        rng.shuffle(found)
        return [found[i % len(found)] for i in range(count)]
    words = ["I", "you", "will", "call", "home", "late", "tonight", "the", "bus", "was", "not", "there", "ok", "thanks"]
    # SMS: about 15 words on average with a long tail.
    return [" ".join(rng.choices(words, k=min(120, 1 + int(rng.lognormvariate(2.5, 0.7))))) for _ in range(count)]


def random_checkpoint(directory: Path, vocabulary: str | None = None, seed: int = 0) -> Path:
    """A DistilBERT-size multilabel classifier with random weights: 6 layers of 768, 66 million weights.

    Speed depends on shapes, not on what the weights know. `vocabulary` is a tokenizer.json of a BERT kind; without
    one the tokenizer knows single characters only, and texts have more tokens than they should.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import DistilBertConfig, DistilBertForSequenceClassification, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    labels = dict(enumerate(TRAITS))
    config = DistilBertConfig(
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
