"""Small models with seeded random weights: real architectures, real tokenizers, nothing downloaded."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from bigfive_udf.model.configuration import BigFiveConfig
from bigfive_udf.model.modeling import BigFiveForSequenceClassification
from bigfive_udf.traits import TRAITS

TRAINING_TEXT = [
    "I like to meet people and talk all night long, and I never get tired of it.",
    "We walked by the river in the rain; the children were loud, happy and wet.",
    "My desk is tidy, my bills are paid, and the plan for tomorrow is written down.",
    "Why worry? Things go wrong, then they go right again. 1234567890 times out of 10!",
    "Ünïcödé façade, naïve café, 東京 and Москва, emoji too: smile and cry",
]
MULTILABEL: dict[str, Any] = {
    "id2label": dict(enumerate(TRAITS)),
    "label2id": {t: i for i, t in enumerate(TRAITS)},
    "problem_type": "multi_label_classification",
}
ARCHITECTURES = ("distilbert", "bert", "roberta")


def wordpiece_tokenizer(max_length: int = 128, known: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    # Built, not trained: tokenizers' trainers break ties at random, and the same seed must give the same model.
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    normalizer = normalizers.BertNormalizer()
    words = sorted(
        {word for text in TRAINING_TEXT for word in re.findall(r"\w+|[^\w\s]", normalizer.normalize_str(text))}
    )
    characters = sorted({c for word in words for c in word} | set("abcdefghijklmnopqrstuvwxyz0123456789"))
    pieces = dict.fromkeys([*special, *characters, *("##" + c for c in characters), *words, *known])
    tokenizer = tokenizers.Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]", max_input_chars_per_word=100)
    )
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        **dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True)),
    )


def byte_level_tokenizer(max_length: int = 128) -> PreTrainedTokenizerFast:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    merges = [
        ("t", "h"),
        ("th", "e"),
        ("i", "n"),
        ("Ġ", "the"),
        ("e", "r"),
        ("a", "n"),
        ("an", "d"),
        ("Ġ", "and"),
        ("in", "g"),
    ]
    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges)]
    tokenizer = tokenizers.Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        **dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), special, strict=True)),
        cls_token="<s>",
        sep_token="</s>",
    )


def encoder_config(architecture: str, vocab_size: int, size: str = "tiny") -> Any:
    """tiny: 2 layers of 32; full: the size of distilbert-base, 66 million weights."""
    layers, hidden, heads, inner, positions = (2, 32, 4, 64, 128) if size == "tiny" else (6, 768, 12, 3072, 512)
    if size == "full":
        vocab_size = 30522
    # Random weights of the usual 0.02 give nearly the same score to every text; these do not.
    spread = {"initializer_range": 0.3 if size == "tiny" else 0.06}
    if architecture == "distilbert":
        return DistilBertConfig(
            vocab_size=vocab_size, n_layers=layers, dim=hidden, n_heads=heads, hidden_dim=inner,
            max_position_embeddings=positions, **spread,
        )  # fmt: skip
    common = dict(
        vocab_size=vocab_size, num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=heads,
        intermediate_size=inner, **spread,
    )  # fmt: skip
    if architecture == "bert":
        return BertConfig(max_position_embeddings=positions, **common)
    if architecture == "roberta":
        return RobertaConfig(
            max_position_embeddings=positions + 2,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=2,
            type_vocab_size=1,
            **common,
        )
    if architecture == "deberta-v2":
        return DebertaV2Config(max_position_embeddings=positions, pad_token_id=0, **common)
    raise ValueError(architecture)


_STOCK = {
    "distilbert": DistilBertForSequenceClassification,
    "bert": BertForSequenceClassification,
    "roberta": RobertaForSequenceClassification,
    "deberta-v2": DebertaV2ForSequenceClassification,
}


def save_checkpoint(
    directory: Path,
    architecture: str = "distilbert",
    *,
    head: str = "linear",
    pooling: str = "cls",
    size: str = "tiny",
    seed: int = 0,
    known: Sequence[str] = (),
    **config_changes: Any,
) -> Path:
    """Write a random classifier as save_pretrained does; `config_changes` override the multilabel configuration.

    `known` are further words of the tokenizer, where it is one of words.
    """
    torch.manual_seed(seed)
    tokenizer = byte_level_tokenizer() if architecture == "roberta" else wordpiece_tokenizer(known=known)
    config = encoder_config(architecture, len(tokenizer), size)
    if size == "full":
        tokenizer.model_max_length = 512
    labels = MULTILABEL | config_changes
    if (head, pooling) == ("linear", "cls"):
        for key, value in labels.items():
            setattr(config, key, value)
        model = _STOCK[architecture](config)
    else:
        own = BigFiveConfig(encoder=config.to_dict(), head=head, pooling=pooling, **labels)
        own.pad_token_id = config.pad_token_id
        model = BigFiveForSequenceClassification(own)
    if (head, pooling) != ("linear", "cls"):
        for name, parameter in model.named_parameters():  # nn.Linear's own start is too timid for three layers
            if name.startswith("head.") and name.endswith("weight"):
                torch.nn.init.normal_(parameter, std=0.1)
    # Biases start at zero and norms at one, and one that is forgotten or misplaced would then go unseen.
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name.lower():
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def overflowing(checkpoint: Path, directory: Path, word: str) -> Path:
    """A copy of a DistilBERT checkpoint in which a word's embedding is as large as a float can be: it has no score."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(checkpoint, directory)
    weights = load_file(directory / "model.safetensors")
    known = AutoTokenizer.from_pretrained(directory).convert_tokens_to_ids(word)
    weights["distilbert.embeddings.word_embeddings.weight"][known] = 3e38
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory
