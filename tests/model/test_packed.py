"""Windows laid end to end: the same scores as padded ones, and batches of as many tokens as asked for."""

from __future__ import annotations

import json
import random
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from bigfive_udf import load_artifact
from bigfive_udf.model import attention, bundle, node_cache
from bigfive_udf.model.attention import Packed, Padded, packs
from bigfive_udf.model.batching import plan_packed_batches
from bigfive_udf.model.encoder import Encoder, EncoderSpec
from bigfive_udf.model.scorer import Scorer
from bigfive_udf.model.tokenization import TextTokenizer
from support.models import ARCHITECTURES, TRAINING_TEXT
from support.oracle import Oracle

CPU = torch.device("cpu")
TEXTS = [
    *(" ".join(TRAINING_TEXT[i % 5].split()[: 1 + i % 13]) for i in range(60)),
    " ".join(TRAINING_TEXT * 30),
    "a literal [PAD] and <pad> in the text, twice: <pad>",
    None,
    "",
    "x",
]


def opened(path: Path, packed: bool, **options: int) -> Scorer:
    """A scorer on the CPU, which packs only here, where it is the reference of the GPU's way."""
    artifact = load_artifact(path)
    files = artifact.pack("fp32")
    directory = node_cache.unpacked(files.digest, lambda: files.files)
    about = json.loads((directory / bundle.ABOUT).read_text())
    forward = bundle.load_forward(directory, about, CPU)
    assert isinstance(forward, Encoder)
    tokenizer = TextTokenizer((directory / bundle.TOKENIZER).read_text(encoding="utf-8"))
    return Scorer(
        forward.packed if packed else forward, tokenizer, about["pad_token_id"], CPU, artifact.options(**options),
        about["silent"], packed,
    )  # fmt: skip


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_packed_scores_are_those_of_padded_rows_and_of_transformers(checkpoint, architecture, pooling):
    path = checkpoint(architecture, pooling=pooling)
    packed = opened(path, packed=True, max_batch_tokens=300).score(TEXTS)
    padded = opened(path, packed=False, max_batch_tokens=300).score(TEXTS)
    np.testing.assert_allclose(packed.logits, padded.logits, atol=1e-5)
    assert packed.status.tolist() == padded.status.tolist()
    assert packed.n_windows.max() > 1
    assert packed.effort.padded_tokens == packed.effort.tokens == padded.effort.tokens < padded.effort.padded_tokens
    oracle = Oracle(path)
    for i in (0, 7, 12, 61, 64):
        np.testing.assert_allclose(packed.probabilities[i], oracle.probabilities(TEXTS[i]), atol=1e-5)


def test_a_batch_that_does_not_fit_is_halved_when_packed_too(checkpoint):
    scorer = opened(checkpoint(), packed=True, max_batch_tokens=400)
    forward, sizes = scorer._forward, []

    def scarce(ids, lengths):
        sizes.append(len(ids))
        if len(ids) > 60:
            torch.empty(1 << 60)  # torch's own out-of-memory error
        return forward(ids, lengths)

    scorer._forward = scarce
    texts = TEXTS[:60]
    scores = scorer.score(texts)
    assert max(sizes) > 60
    np.testing.assert_allclose(scores.logits, opened(checkpoint(), packed=False).score(texts).logits, atol=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_the_next_batch_is_tokenized_meanwhile_and_all_come_in_order(checkpoint, packed):
    scorer = opened(checkpoint(), packed=packed)
    rng = random.Random(0)
    batches = [rng.choices(TEXTS, k=rng.randrange(9)) for _ in range(12)]
    expected = [scorer.score(b) for b in batches]
    found = list(scorer.score_all(iter(batches), ahead=True))
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.probabilities, b.probabilities)
        assert a.status.tolist() == b.status.tolist()
    assert list(scorer.score_all(iter([]), ahead=True)) == []


def test_scores_are_read_when_the_gpu_has_written_them_and_not_before(checkpoint):
    """There is no GPU in the tests: this batch's logits are not there until somebody waits for them."""
    scorer = opened(checkpoint(), packed=False)
    begun = scorer._begin(scorer._prepare(["one", "two words"]))
    ((batch, logits),) = begun.batches
    later = torch.full_like(logits, torch.nan)
    begun.batches = [(batch, later)]
    begun.written = SimpleNamespace(synchronize=lambda: later.copy_(logits))
    np.testing.assert_array_equal(scorer._end(begun).logits, scorer.score(["one", "two words"]).logits)


def test_threads_take_turns_as_before_when_the_scores_are_taken_or_left(checkpoint):
    scorer, before = opened(checkpoint(), packed=False), sys.getswitchinterval()
    left = scorer.score_all(iter([["one"], ["two"], ["three"]]), ahead=True)
    next(left)
    assert sys.getswitchinterval() < before
    left.close()
    assert sys.getswitchinterval() == before


def test_a_batch_is_begun_before_the_scores_of_the_last_are_taken_away(checkpoint, monkeypatch):
    scorer = opened(checkpoint(), packed=False)
    begun = []
    real = scorer._begin
    monkeypatch.setattr(scorer, "_begin", lambda prepared: begun.append(len(prepared.status)) or real(prepared))
    batches = [["one"], ["two", "three"], ["four", "five", "six"]]
    seen = [len(begun) for _ in scorer.score_all(iter(batches), ahead=True)]
    assert (seen, begun) == ([2, 3, 3], [1, 2, 3])


def test_what_goes_wrong_ahead_is_raised_where_its_batch_is_due(checkpoint):
    scorer = opened(checkpoint(), packed=False)

    def batches():
        yield ["one"]
        yield ["two"]
        raise OSError("the input broke off")

    found = []
    with pytest.raises(OSError, match="broke off"):
        found.extend(scorer.score_all(batches(), ahead=True))


def test_a_cpu_does_not_pack():
    assert not packs(CPU, torch.bfloat16, 64)
    assert not packs(torch.device("cuda"), torch.float32, 64)


@pytest.mark.parametrize("head_size", [26, 264])
def test_heads_that_the_kernel_does_not_take_are_not_packed(head_size, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))  # there is no such GPU in the tests
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    gpu = torch.device("cuda")
    assert packs(gpu, torch.bfloat16, 64)
    assert not packs(gpu, torch.bfloat16, head_size)


@given(lengths=st.lists(st.integers(1, 60), max_size=80), most=st.integers(1, 200))
def test_packed_batches_hold_every_window_once_and_no_more_tokens_than_asked(lengths, most):
    sizes = np.array(lengths, int)
    batches = plan_packed_batches(sizes, most)
    assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(len(sizes)))
    for batch in batches:
        assert sizes[batch].sum() <= most or len(batch) == 1
        assert (np.diff(sizes[batch]) <= 0).all()
    for one, following in pairwise(batches):
        assert sizes[one].sum() + sizes[following[0]] > most, "a batch takes what fits"


@given(lengths=st.lists(st.sampled_from([1, 2, 3, 7, 40, 512]), min_size=1, max_size=40))
@settings(deadline=None, max_examples=40)
def test_what_first_tokens_see_takes_no_more_work_beside_a_long_window(lengths):
    """A long window among short ones must not pad all of them to its own length."""
    h, heads = 8, 2
    sorted_lengths = torch.tensor(sorted(lengths, reverse=True))
    x, query = torch.randn(int(sorted_lengths.sum()), h), torch.randn(len(lengths), heads, h)
    with FlopCounterMode(display=False) as counter:
        seen = Packed(sorted_lengths, CPU).seen(query, x)
    assert counter.get_total_flops() <= 2 * (2 * 2 * heads * h * len(x)), "two products, twice the tokens at most"
    alone = [
        torch.softmax(q @ part.T, dim=-1) @ part
        for q, part in zip(query, x.split(sorted_lengths.tolist()), strict=True)
    ]
    torch.testing.assert_close(seen, torch.stack(alone), atol=1e-5, rtol=0)


def test_a_window_that_is_not_finite_spoils_no_other():
    """The places beyond a window's end are filled with something, which must not be another window's."""
    x = torch.randn(7, 8)
    x[:4] = torch.nan
    seen = Packed(torch.tensor([4, 2, 1]), torch.device("cpu")).seen(torch.randn(3, 2, 8), x)
    assert seen[0].isnan().all()
    assert seen[1:].isfinite().all()


@pytest.mark.parametrize(
    ("dtype", "amx", "atol"),
    [(torch.float32, False, 1e-5), (torch.bfloat16, False, 0.03), (torch.bfloat16, True, 0.03)],
)
@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.one_of(st.integers(1, 90), st.sampled_from([16, 32])), min_size=1, max_size=4),
    size=st.sampled_from([4, 32]),
)
def test_padded_windows_attend_as_each_does_alone(dtype, amx, atol, lengths, size):
    """Short rows, long ones and those between are computed in different ways, and with AMX in others than without."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_has_amx", lambda: amx)
        _attends_as_each_does_alone(dtype, atol, lengths, size)


def _attends_as_each_does_alone(dtype, atol, lengths, size):
    generator = torch.Generator().manual_seed(sum(lengths))
    heads, longest = 2, max(lengths)
    rows = torch.randn(len(lengths), longest, 3 * heads * size, generator=generator).to(dtype)
    behind = torch.full((3, 3 * heads * size), torch.nan, dtype=dtype)
    tokens = torch.cat([rows.flatten(0, 1), behind])
    attended = Padded(torch.tensor(lengths), longest, CPU, dtype).attend(*tokens.split(heads * size, dim=-1), heads)
    assert attended[-3:].isfinite().all(), "rows that mean nothing must not slow the products down"
    for row, found, length in zip(rows, attended[:-3].view(*rows.shape[:2], -1), lengths, strict=True):
        q, k, v = (
            t.double().view(length, heads, size).transpose(0, 1) for t in row[:length].split(heads * size, dim=-1)
        )
        expected = torch.softmax(q @ k.transpose(1, 2) / size**0.5, dim=-1) @ v
        expected = expected.transpose(0, 1).reshape(length, -1)
        torch.testing.assert_close(found[:length].double(), expected, atol=atol, rtol=0)


def test_the_first_token_sees_what_keys_and_values_would_give_it():
    """With biases that are not zero, as they are in a model that nobody has trained."""
    torch.manual_seed(0)
    h, heads, lengths = 8, 2, [4, 2]
    qkv = {"weight": torch.randn(3 * h, h), "bias": torch.randn(3 * h)}
    weights = {"embeddings.word": torch.randn(9, h), **{f"layers.0.qkv.{kind}": t for kind, t in qkv.items()}}
    encoder = Encoder(EncoderSpec(1, heads, "gelu", 1e-5, "cls", ()), weights)
    windows = [torch.randn(n, h) for n in lengths]
    expected = []
    for x in windows:
        q, k, v = (
            t.view(-1, heads, h // heads).transpose(0, 1) for t in (x @ qkv["weight"].T + qkv["bias"]).split(h, 1)
        )
        expected.append(torch.nn.functional.scaled_dot_product_attention(q[:, :1], k, v).reshape(h))
    first = torch.stack([x[0] for x in windows])
    packed = encoder._attended_by_first(first, torch.cat(windows), Packed(torch.tensor(lengths), CPU))
    padded = torch.nn.utils.rnn.pad_sequence(windows, batch_first=True, padding_value=3.0).flatten(0, 1)
    rows = encoder._attended_by_first(first, padded, Padded(torch.tensor(lengths), 4, CPU, torch.float32))
    torch.testing.assert_close(packed, torch.stack(expected), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows, torch.stack(expected), atol=1e-5, rtol=0)
