"""The forward pass, the windows and the order of rows, against transformers itself."""

from __future__ import annotations

import json
import random
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigfive_udf import load_artifact
from bigfive_udf.model import bundle, node_cache, tokenization
from bigfive_udf.model.batching import filled
from bigfive_udf.model.scorer import Scorer, is_the_gpus
from bigfive_udf.model.scores import Scores, ScoringOptions
from bigfive_udf.model.tokenization import TextTokenizer
from bigfive_udf.traits import TRAITS
from support.models import ARCHITECTURES, TRAINING_TEXT
from support.oracle import Oracle

PROBABILITIES = [f"prob_{t}" for t in TRAITS]
TEXTS = [
    *TRAINING_TEXT,
    *(f"{a} {b}" for a in ("yes", "no, never", "meet me") for b in ("people", "tired?", "1999", "naïve café")),
    "hi",
    "a literal [SEP] and <pad> in the text",
    "x" * 55,
]


def fp32(path: Path, texts: list[str | None], **options: int) -> np.ndarray:
    artifact = load_artifact(path)
    frame = artifact.predict(texts, precision="fp32", device="cpu", options=artifact.options(**options))
    return frame[PROBABILITIES].to_numpy()


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "deberta-v2"])
@pytest.mark.parametrize(("head", "pooling"), [("linear", "cls"), ("mlp", "cls"), ("linear", "mean")])
def test_probabilities_equal_a_plain_forward_pass_of_each_text_alone(checkpoint, architecture, head, pooling):
    path = checkpoint(architecture, head=head, pooling=pooling)
    oracle = Oracle(path)
    expected = np.array([oracle.probabilities(text) for text in TEXTS])
    assert expected.std(axis=0).min() > 0.005, "the oracle must tell texts apart, or the comparison proves nothing"
    np.testing.assert_allclose(fp32(path, TEXTS), expected, atol=1e-5)


def test_the_order_of_labels_in_the_checkpoint_does_not_matter(checkpoint):
    plain = checkpoint("bert")
    letters = checkpoint("bert", id2label=dict(enumerate("OCEAN")), label2id={c: i for i, c in enumerate("OCEAN")})
    by_position = fp32(plain, TEXTS)  # same weights, so output i is the same number under another name
    np.testing.assert_allclose(fp32(letters, TEXTS), by_position[:, [2, 4, 3, 1, 0]], atol=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_n_tokens_is_the_tokenizers_own_count(checkpoint, architecture):
    path = checkpoint(architecture)
    oracle = Oracle(path)
    texts = [*TEXTS, " ".join(TEXTS)]
    assert load_artifact(path).predict(texts).n_tokens.tolist() == [oracle.n_tokens(t) for t in texts]


def test_shuffling_and_splitting_change_no_score(checkpoint):
    path = checkpoint("distilbert")
    texts = [*TEXTS, *(" ".join(TEXTS[:n]) for n in range(2, 12))]
    whole = fp32(path, texts)
    order = list(range(len(texts)))
    random.Random(0).shuffle(order)
    shuffled = fp32(path, [texts[i] for i in order])
    np.testing.assert_allclose(shuffled, whole[order], atol=1e-5)
    alone = np.concatenate([fp32(path, [text]) for text in texts])
    np.testing.assert_allclose(alone, whole, atol=1e-5)


def test_a_long_document_is_the_token_weighted_mean_of_its_windows(checkpoint):
    path = checkpoint("distilbert")
    oracle = Oracle(path)
    text = " ".join(TRAINING_TEXT * 2)
    ids = oracle.tokenizer(text, add_special_tokens=False)["input_ids"]
    logits, weights = [], []
    n_windows = -(-len(ids) // 126)
    bounds = [i * len(ids) // n_windows for i in range(n_windows + 1)]
    for start, stop in pairwise(bounds):
        window = torch.tensor([[oracle.tokenizer.cls_token_id, *ids[start:stop], oracle.tokenizer.sep_token_id]])
        with torch.no_grad():
            logits.append(oracle._model(window).logits[0])
        weights.append(stop - start)
    mean = (torch.stack(logits) * torch.tensor(weights)[:, None]).sum(0) / sum(weights)
    frame = load_artifact(path).predict([text], precision="fp32")
    assert frame.n_windows[0] == n_windows > 1
    assert not frame.truncated[0]
    np.testing.assert_allclose(frame[PROBABILITIES].to_numpy()[0], torch.sigmoid(mean).numpy(), atol=1e-5)


def test_truncation_scores_the_first_window_and_says_so(checkpoint):
    path = checkpoint("bert")
    text = " ".join(TRAINING_TEXT * 2)
    artifact = load_artifact(path)
    frame = artifact.predict([text, "short"], precision="fp32", options=artifact.options(max_windows=1))
    np.testing.assert_allclose(frame[PROBABILITIES].to_numpy()[0], Oracle(path).probabilities(text), atol=1e-5)
    assert frame.truncated.tolist() == [True, False]
    assert frame.n_tokens[0] == Oracle(path).n_tokens(text), "the count is of the whole text"


def test_rows_without_text_keep_their_place(checkpoint):
    texts = [None, "", " \t\n\u2003", "\u200b\x00", "real text", None]
    frame = load_artifact(checkpoint("bert")).predict(texts)
    assert frame.status.tolist() == ["empty", "empty", "empty", "empty", "scored", "empty"]
    assert frame.status_reason.tolist()[:4] == ["text is null", *["only white space"] * 2, "no token in the text"]
    assert frame[PROBABILITIES].isna().all(axis=1).tolist() == [True, True, True, True, False, True]
    assert frame.label_openness.isna().tolist() == [True, True, True, True, False, True]


def test_a_text_that_breaks_the_tokenizer_fails_alone(checkpoint):
    path = checkpoint("distilbert")
    frame = load_artifact(path).predict(["before", "a lone surrogate \ud800", "after"], precision="fp32")
    assert frame.status.tolist() == ["scored", "failed", "scored"]
    assert frame.status_reason[1].startswith("tokenizer: ")
    assert frame.n_tokens.isna().tolist() == [False, True, False]
    np.testing.assert_allclose(frame[PROBABILITIES].to_numpy()[[0, 2]], fp32(path, ["before", "after"]), atol=1e-5)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("no word of it", "tokenizer: ValueError: no word of it"),
        ("in 'my own private words' there is", "tokenizer: ValueError"),
        ("begins with my own private wo…", "tokenizer: ValueError"),
    ],
)
def test_the_reason_of_a_failure_never_quotes_the_text(checkpoint, monkeypatch, said, reason):
    def refuse(self: TextTokenizer, texts: list[str]) -> list[Exception]:
        return [ValueError(said) for _ in texts]

    monkeypatch.setattr(TextTokenizer, "encode", refuse)
    frame = load_artifact(checkpoint("distilbert")).predict(["my own private words", None], precision="fp32")
    assert frame.status_reason.tolist() == [reason, "text is null"]


def test_texts_that_are_the_same_are_scored_once_and_all_get_the_scores(checkpoint):
    path = checkpoint("bert")
    texts = [None, "twice", "once", "a lone \ud800", "twice", "", "a lone \ud800", None, "twice"]
    scorer = _opened(path)
    rows = []
    forward = scorer._forward
    scorer._forward = lambda ids, lengths: rows.append(len(ids)) or forward(ids, lengths)
    scores = scorer.score(texts)
    assert sum(rows) == scores.effort.windows == 2
    assert scores.effort.repeats == 2
    assert scores.status.tolist() == [
        {"t": "scored", "o": "scored", "a": "failed"}.get((t or "")[:1], "empty") for t in texts
    ]
    expected = [Oracle(path).probabilities(t) for t in ("twice", "once", "twice", "twice")]
    np.testing.assert_allclose(scores.probabilities[[1, 2, 4, 8]], expected, atol=1e-5)
    assert np.isnan(scores.probabilities[[0, 3, 5, 6, 7]]).all()
    assert scores.status_reason[3] == scores.status_reason[6] is not None


def _opened(path: Path, **changes: object) -> Scorer:
    artifact = load_artifact(path)
    packed = artifact.pack("fp32")
    directory = node_cache.unpacked(packed.digest, lambda: packed.files)
    return Scorer.open(directory, ScoringOptions(**{"max_length": 128, **changes}))  # type: ignore[arg-type]


class _Scarce:
    """A forward pass with memory for so many padded tokens: the real one behind a real allocation limit."""

    def __init__(self, forward, tokens):
        self.forward, self.tokens, self.refused = forward, tokens, 0

    def __call__(self, ids, lengths):
        if ids.numel() > self.tokens:
            self.refused += 1
            torch.empty(1 << 60)  # torch's own out-of-memory error
        return self.forward(ids, lengths)


def test_out_of_memory_halves_the_batch_and_goes_on(checkpoint):
    path = checkpoint("distilbert")
    scorer = _opened(path)
    scorer._forward = scarce = _Scarce(scorer._forward, tokens=70)
    scores = scorer.score(TEXTS)
    assert scarce.refused > 0
    assert set(scores.status) == {"scored"}
    np.testing.assert_allclose(scores.probabilities, fp32(path, TEXTS), atol=1e-5)


def test_a_text_too_large_for_the_memory_fails_alone(checkpoint, caplog):
    scorer = _opened(checkpoint("distilbert"))
    scorer._forward = _Scarce(scorer._forward, tokens=40)
    long = " ".join(["people"] * 60)
    scores = scorer.score(["short", long, "also short", f"{long} people"])
    assert scores.status.tolist() == ["scored", "failed", "scored", "failed"]
    assert scores.status_reason[1] == "model: out of memory for this text alone"
    assert caplog.messages[-1] == "a text can't be scored: model: out of memory for this text alone"
    assert "a batch is halved, for the model can't take it: out of memory" in caplog.messages


@pytest.mark.parametrize("kind", [RuntimeError, IndexError, ValueError])
def test_a_text_that_the_model_refuses_fails_alone(checkpoint, kind):
    scorer = _opened(checkpoint("distilbert"))
    forward = scorer._forward

    def particular(ids, lengths):
        if bool((lengths == 62).any()):
            raise kind("62 is too many")
        return forward(ids, lengths)

    scorer._forward = particular
    scores = scorer.score(["short", " ".join(["people"] * 60), "also short", " ".join(["people"] * 61)])
    assert scores.status.tolist() == ["scored", "failed", "scored", "scored"]
    assert scores.status_reason[1] == f"model: {kind.__name__}: 62 is too many"


def test_a_logit_that_is_not_finite_fails_its_row(checkpoint):
    scorer = _opened(checkpoint("distilbert"))
    forward = scorer._forward
    scorer._forward = lambda ids, lengths: torch.where((lengths > 30)[:, None], torch.inf, forward(ids, lengths))
    scores = scorer.score(["short", " ".join(["people"] * 50)])
    assert scores.status.tolist() == ["scored", "failed"]
    assert np.isnan(scores.probabilities[1]).all()


def test_no_batch_is_larger_than_asked(checkpoint):
    scorer = _opened(checkpoint("distilbert"), max_batch_tokens=100)
    sizes = []
    forward = scorer._forward
    scorer._forward = lambda ids, lengths: sizes.append(ids.numel()) or forward(ids, lengths)
    effort = scorer.score(TEXTS).effort
    assert max(sizes) <= 100
    assert sum(map(filled, sizes)) == effort.padded_tokens >= effort.tokens > 0


@settings(deadline=None, max_examples=25)
@given(
    texts=st.lists(st.one_of(st.none(), st.text(max_size=40)), max_size=12),
    max_batch_tokens=st.integers(16, 200),
)
def test_every_text_gets_its_own_score_whatever_is_beside_it(checkpoint, texts, max_batch_tokens):
    path = checkpoint("distilbert")
    together = _opened(path, max_batch_tokens=max_batch_tokens).score(texts)
    scorer = _opened(path)
    for i, text in enumerate(texts):
        alone = scorer.score([text])
        assert alone.status[0] == together.status[i]
        np.testing.assert_allclose(alone.probabilities[0], together.probabilities[i], atol=1e-5)


def in_bf16(path: Path) -> Scores:
    """Also where the processor has no bf16, which the settings refuse: slow there, but the same."""
    packed = load_artifact(path).pack("bf16")
    directory = node_cache.unpacked(packed.digest, lambda: packed.files)
    return Scorer.open(directory, ScoringOptions(max_length=128)).score(TEXTS)


def test_bf16_is_close_to_fp32(checkpoint):
    path = checkpoint("distilbert")
    difference = np.abs(in_bf16(path).probabilities - fp32(path, TEXTS))
    assert 0 < difference.max() < 0.1  # weights of a tiny random model are large
    assert difference.mean() < 0.01


def test_bf16_is_closer_to_fp32_than_that_of_transformers(checkpoint):
    """The sums that run through all layers and the norms are in fp32; transformers has all of it in bf16."""
    ours, theirs = [], []
    for architecture in ARCHITECTURES:
        for seed in range(3):
            path = checkpoint(architecture, seed=seed)
            exact = fp32(path, TEXTS)
            ours.append(in_bf16(path).probabilities - exact)
            oracle = Oracle(path, dtype=torch.bfloat16)
            theirs.append(np.array([oracle.probabilities(text) for text in TEXTS]) - exact)
    assert 0 < np.std(ours) < 0.85 * np.std(theirs)


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 40), max_size=30), texts=st.integers(1, 5), characters=st.integers(1, 60))
def test_calls_of_the_tokenizer_are_bounded_and_lose_no_text(sizes, texts, characters):
    given = [str(i % 10) * size for i, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenization, "_TEXTS_PER_CALL", texts)
        patch.setattr(tokenization, "_CHARACTERS_PER_CALL", characters)
        calls = list(tokenization._calls(given))
    assert [text for call in calls for text in call] == given
    assert all(len(call) <= texts and (sum(map(len, call)) <= characters or len(call) == 1) for call in calls)
    assert [] not in calls


PARTS = ["we walked", " ", "  ", "by the", "\n", "river", "Desk!", "it's", "\t", "é", "好"]


@given(parts=st.lists(st.sampled_from(PARTS), max_size=60), limit=st.integers(12, 40))
@pytest.mark.parametrize("architecture", ["distilbert", "roberta"])
def test_a_long_text_has_the_same_tokens_in_pieces(checkpoint, architecture, parts, limit):
    text = " ".join(parts)
    tokenizer = TextTokenizer((checkpoint(architecture) / "tokenizer.json").read_text())
    whole = tokenizer.encode([text])[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenization, "_CHARACTERS_PER_CALL", limit)
        pieces = list(tokenization._pieces(text, limit))
        found = tokenizer.encode(["we walked", text, "a"])
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= limit for piece in pieces) or not text
    if all(re.match(r"\s\S", piece) for piece in pieces[1:]):
        assert list(found[1]) == whole
    assert (len(found), list(found[0])) == (3, tokenizer.encode(["we walked"])[0])


def test_a_text_without_any_space_is_read_in_pieces_too():
    """Encoded files are such texts: what matters is that their tokens, whatever they are worth, need little memory."""
    pieces = list(tokenization._pieces("x" * 10_000, 4096))
    assert [len(piece) for piece in pieces] == [4096, 4096, 1808]
    assert [len(piece) for piece in tokenization._pieces(" " * 10_000, 4096)] == [4096, 4096, 1808]


def test_a_long_text_is_cut_at_spaces_or_else_at_other_white_space():
    assert list(tokenization._pieces("one two  three\tfour five", 12)) == ["one", " two  three", "\tfour five"]
    assert list(tokenization._pieces("one\ntwo\nthree", 10)) == ["one\ntwo", "\nthree"]


def test_a_text_of_a_million_characters_is_scored_as_its_windows_are(checkpoint):
    path = checkpoint("distilbert")
    text = " ".join(TRAINING_TEXT * 6000)
    assert len(text) > 3 * tokenization._CHARACTERS_PER_CALL
    options = ScoringOptions(64, max_windows=2)
    found = load_artifact(path).predict([text, text[:700]], device="cpu", precision="fp32", options=options)
    tokens = Oracle(path).tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    assert found["n_tokens"][0] == len(tokens)
    assert found["truncated"].tolist() == [True, True] and found["n_windows"].tolist() == [2, 2]
    np.testing.assert_allclose(*found[PROBABILITIES].to_numpy(), atol=1e-6)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_tokenizer_without_special_tokens_can_be_used(checkpoint, tmp_path, pooling):
    path = shutil.copytree(checkpoint("bert", pooling=pooling), tmp_path / "m")
    definition = json.loads((path / "tokenizer.json").read_text())
    (path / "tokenizer.json").write_text(json.dumps(definition | {"post_processor": None}))
    oracle = Oracle(path)
    assert (
        oracle.tokenizer("we walked")["input_ids"]
        == oracle.tokenizer("we walked", add_special_tokens=False)["input_ids"]
    )
    expected = np.array([oracle.probabilities(text) for text in TRAINING_TEXT])
    np.testing.assert_allclose(fp32(path, TRAINING_TEXT), expected, atol=1e-5)


def test_a_gpu_that_is_full_or_broken_is_no_texts_fault():
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of")
    assert is_the_gpus(full, n_windows=1)
    assert not is_the_gpus(full, n_windows=2), "half of them may fit"
    libraries = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    assert is_the_gpus(libraries, n_windows=1) and not is_the_gpus(libraries, n_windows=2)
    assert is_the_gpus(RuntimeError("CUDA error: an illegal memory access was encountered"), n_windows=512)
    assert not is_the_gpus(RuntimeError("The size of tensor a must match the size of tensor b"), n_windows=1)


def test_weights_are_stored_in_the_precision_of_the_run(checkpoint):
    from safetensors.torch import load

    for precision in ("fp32", "bf16", "fp16"):
        dtype = bundle.DTYPES[precision]
        weights = load(load_artifact(checkpoint("bert")).pack(precision).files[bundle.WEIGHTS])
        exact = {name for name in weights if name.startswith("head.") or "norm" in name}
        assert {weights[name].dtype for name in exact} == {torch.float32}
        assert {weights[name].dtype for name in weights.keys() - exact} == {dtype}
