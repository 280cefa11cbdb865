"""Texts in, scores out, in the same order: tokenization, windows, batches, forward passes, means, sigmoids."""

from __future__ import annotations

import itertools
import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bigfive_udf.model import bundle, hardware
from bigfive_udf.model.attention import on, packs
from bigfive_udf.model.batching import (
    WindowRule,
    filled,
    mean_by_document,
    plan_batches,
    plan_packed_batches,
)
from bigfive_udf.model.encoder import Encoder
from bigfive_udf.model.scores import Effort, Scores, ScoringOptions
from bigfive_udf.model.tokenization import TextTokenizer
from bigfive_udf.model.windows import Windows
from bigfive_udf.redaction import in_short
from bigfive_udf.traits import EMPTY, FAILED, SCORED, TRAITS

_log = logging.getLogger(__name__)
_NO_MEMORY = "out of memory"
_GPU_ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Attention kernels for padded batches. cuDNN, which torch prefers on the newest GPUs, is left out: it makes a plan for
each shape, and almost every batch has a new shape."""
_QUOTATION = 8
"""A message that shares this many characters in a row with its text quotes it: fewer are chance, or a word."""
DEFAULT_BATCH_TOKENS = {"cpu": 1024, "cuda": 32768}
"""Padded tokens per batch: a CPU core gains nothing from more, a GPU needs many to be busy."""
_SWITCH_SECONDS = 1e-4
"""How long a thread may run Python while another thread gives work to a GPU. This other thread releases the interpreter
with every call of torch, and by default waits five milliseconds to get it back. Beside a thread that only runs Python,
that allows 220 calls a second; this setting allows 14,000 (measured)."""


@dataclass
class _Prepared:
    """What is known of texts before the model sees them: one entry for each distinct text."""

    place: np.ndarray
    """(n,) for every text, repeated ones included: the index of its entry"""
    status: np.ndarray
    reason: np.ndarray
    n_tokens: np.ndarray
    n_windows: np.ndarray
    truncated: np.ndarray
    windows: Windows = field(init=False)
    effort: Effort = field(default_factory=Effort)

    @classmethod
    def of(cls, n: int, place: np.ndarray) -> _Prepared:
        numbers = (np.zeros(n, np.int32), np.zeros(n, np.int32), np.zeros(n, bool))
        return cls(place, np.full(n, SCORED, dtype=object), np.full(n, None, dtype=object), *numbers)

    def set_aside(self, i: int, status: str, reason: str) -> None:
        self.status[i], self.reason[i] = status, reason
        if status == FAILED:
            _log.warning("a text can't be scored: %s", reason)


@dataclass
class _Begun:
    """Batches of windows that the device has been given to compute, and the failures, by document."""

    prepared: _Prepared
    batches: list[tuple[np.ndarray, Tensor]]
    """the windows of each batch, and their logits on the CPU, where a GPU writes them once they are computed"""
    failures: dict[int, str]
    written: torch.cuda.Event | None
    """occurs when a GPU has written all logits"""


class Scorer:
    """A model ready to score on one device.

    `forward` maps (ids, lengths) to logits in trait order, as `Encoder` does; `pad_token_id` pads the batches; `silent`
    are the indices of traits that get no probability; with `packed`, windows are laid end to end, as `Encoder.packed`
    takes them.
    """

    def __init__(
        self,
        forward: Callable[[Tensor, Tensor], Tensor],
        tokenizer: TextTokenizer,
        pad_token_id: int,
        device: torch.device,
        options: ScoringOptions,
        silent: Sequence[int] = (),
        packed: bool = False,
    ) -> None:
        hardware.keep_freed_memory()
        self._forward = forward
        self._tokenizer = tokenizer
        self._pad = pad_token_id
        self._device = device
        self._silent = list(silent)
        self.packed = packed
        computed = filled if isinstance(forward, Encoder) and forward.fills else int
        self._plan = plan_packed_batches if packed else partial(plan_batches, computed=computed)
        self._computed = computed
        self._rule = WindowRule(options.max_length - tokenizer.n_special, options.window_overlap, options.max_windows)
        self._max_batch_tokens = options.max_batch_tokens or DEFAULT_BATCH_TOKENS[device.type]
        self._logits(self._cut([(0, [0])]), np.array([0]))  # a model that can't run says so now

    @classmethod
    def open(cls, directory: Path, options: ScoringOptions, device: str = "cpu", pack: bool = True) -> Scorer:
        """Load an unpacked bundle; its weights are memory-mapped, so that processes of a machine can share them.

        With `pack` False, batches are padded even where there is a kernel for windows laid end to end.
        """
        about = json.loads((directory / bundle.ABOUT).read_text())
        where = torch.device(device)
        if where.type == "cuda" and where.index is not None:
            torch.cuda.set_device(where)  # or reading the weights would take memory of the first GPU too
        forward = bundle.load_forward(directory, about, where, options.weights)
        tokenizer = TextTokenizer((directory / bundle.TOKENIZER).read_text(encoding="utf-8"))
        packed = False
        if pack and isinstance(forward, Encoder) and packs(where, bundle.DTYPES[about["precision"]], forward.head_size):
            forward, packed = forward.packed, True
        return cls(forward, tokenizer, about["pad_token_id"], where, options, about["silent"], packed)

    def score(self, texts: Sequence[str | None]) -> Scores:
        """Score texts: None, white space and texts without a token are `empty`; what can't be scored is `failed`.

        Texts that are the same are scored once.
        """
        return self._end(self._begin(self._prepare(texts)))

    def score_all(self, batches: Iterable[Sequence[str | None]], ahead: bool | None = None) -> Iterator[Scores]:
        """Yield the `score` of each batch.

        With `ahead`, by default on a GPU only, the next batch is tokenized while the device computes this one, and the
        scores of the batch before are collected.
        """
        if not (self._device.type == "cuda" if ahead is None else ahead):
            yield from map(self.score, batches)
            return
        with _switching_often(), ThreadPoolExecutor(1) as pool:
            tokenizing: Future[_Prepared] | None = None
            computing: _Begun | None = None
            for following in itertools.chain((pool.submit(self._prepare, texts) for texts in batches), [None]):
                if tokenizing is not None:
                    before, computing = computing, self._begin(tokenizing.result())
                    if before is not None:
                        yield self._end(before)
                tokenizing = following
            if computing is not None:
                yield self._end(computing)

    def _prepare(self, texts: Sequence[str | None]) -> _Prepared:
        """Tokens and windows of the distinct texts, and which of these each text is."""
        started = time.perf_counter()
        first: dict[str | None, int] = {}
        place = np.fromiter((first.setdefault(text, len(first)) for text in texts), int, len(texts))
        prepared = _Prepared.of(len(first), place)
        with_text: list[tuple[int, str]] = []
        for i, text in enumerate(first):
            if text is None or not text or text.isspace():
                prepared.set_aside(i, EMPTY, "text is null" if text is None else "only white space")
            else:
                with_text.append((i, text))
        tokenized: list[tuple[int, Sequence[int]]] = []
        encoded = self._tokenizer.encode([text for _, text in with_text])
        for (i, text), ids in zip(with_text, encoded, strict=True):
            if isinstance(ids, Exception):
                prepared.set_aside(i, FAILED, f"tokenizer: {_without(text, ids)}")
                prepared.n_tokens[i] = -1
            elif ids:
                tokenized.append((i, ids))
            else:
                prepared.set_aside(i, EMPTY, "no token in the text")
        windows = prepared.windows = self._cut(tokenized)
        prepared.n_tokens[[i for i, _ in tokenized]] = [len(ids) for _, ids in tokenized]
        prepared.n_windows += np.bincount(windows.document, minlength=len(first)).astype(np.int32)
        prepared.truncated[windows.truncated] = True
        prepared.effort.tokenize_seconds = time.perf_counter() - started
        return prepared

    def _cut(self, texts: Sequence[tuple[int, Sequence[int]]]) -> Windows:
        return Windows.cut(texts, self._rule, self._tokenizer.prefix, self._tokenizer.suffix)

    def _begin(self, p: _Prepared) -> _Begun:
        """Give the device all windows in batches; if the model fails on a window, record why for its document."""
        windows, effort, started = p.windows, p.effort, time.perf_counter()
        lengths = windows.lengths
        failures: dict[int, str] = {}
        pending = self._plan(lengths, self._max_batch_tokens)[::-1]
        done: list[tuple[np.ndarray, Tensor]] = []
        while pending:
            batch = pending.pop()
            logits = self._tried(windows, batch)
            if isinstance(logits, str):
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()  # the failed batch's memory, which is free only now
                if len(batch) > 1:  # halved until it passes or one window is to blame
                    _log.warning("a batch is halved, for the model can't take it: %s", logits)
                    half = len(batch) // 2
                    pending += [batch[half:], batch[:half]]
                else:
                    alone = " for this text alone" if logits == _NO_MEMORY else ""
                    failures[int(windows.document[batch[0]])] = f"model: {logits}{alone}"
                continue
            done.append((batch, logits))
            effort.batches += 1
            effort.windows += len(batch)
            tokens = int(lengths[batch].sum())
            effort.tokens += tokens
            effort.padded_tokens += tokens if self.packed else self._computed(int(lengths[batch[0]]) * len(batch))
        written = None
        if self._device.type == "cuda":
            written = torch.cuda.Event(blocking=True)  # waiting for it leaves the core to the tokenizer
            written.record(torch.cuda.current_stream(self._device))
        effort.model_seconds = time.perf_counter() - started
        return _Begun(p, done, failures, written)

    def _tried(self, windows: Windows, batch: np.ndarray) -> Tensor | str:
        """Logits of a batch on the CPU, valid once the device has computed them, or the reason why there are none.

        Raises:
            Exception: the GPU is at fault.
        """
        try:
            # From a GPU an asynchronous copy into pinned memory: work that is queued later does not delay it.
            return self._logits(windows, batch).to("cpu", non_blocking=True)
        # Out of memory, or a row that the model can't take (ValueError is how models of transformers say so).
        except (RuntimeError, MemoryError, IndexError, ValueError) as error:
            if self._device.type == "cuda" and is_the_gpus(error, len(batch)):
                raise
            return _short(error)

    def _end(self, begun: _Begun) -> Scores:
        """Collect logits, compute means and probabilities, and return a row for every text, repeated ones included."""
        p, started = begun.prepared, time.perf_counter()
        if begun.written is not None:
            begun.written.synchronize()
        logits = np.full((len(p.windows), len(TRAITS)), np.nan)
        for batch, values in begun.batches:
            logits[batch] = values.numpy()
        p.effort.model_seconds += time.perf_counter() - started
        means = mean_by_document(logits, p.windows.document, p.windows.weight, len(p.status))
        with np.errstate(over="ignore"):
            probabilities = (1 / (1 + np.exp(-means))).astype(np.float32)
        for i in np.flatnonzero((p.status == SCORED) & ~np.isfinite(means).all(axis=1)).tolist():
            p.set_aside(i, FAILED, begun.failures.get(i, "model: a value that is not a finite number"))
        probabilities[p.status != SCORED] = means[p.status != SCORED] = np.nan
        probabilities[:, self._silent] = np.nan
        found = Scores(probabilities, means, p.n_tokens, p.n_windows, p.truncated, p.status, p.reason, p.effort)
        if len(p.place) == len(p.status):
            return found
        scores = found.at(p.place)
        p.effort.repeats = int((scores.status == SCORED).sum() - (found.status == SCORED).sum())
        return scores

    def _logits(self, windows: Windows, batch: np.ndarray) -> Tensor:
        ids = windows.end_to_end(batch) if self.packed else windows.padded(batch, self._pad)
        given = on(self._device, torch.from_numpy(ids)), torch.from_numpy(windows.lengths[batch])
        if self._device.type == "cpu":
            return self._forward(*given)
        with sdpa_kernel(_GPU_ATTENTION):
            return self._forward(*given)


@contextmanager
def _switching_often() -> Iterator[None]:
    """Let the threads of this process take turns more often: Python's setting applies to all of them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _SWITCH_SECONDS))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def is_the_gpus(error: Exception, n_windows: int) -> bool:
    """Whether the GPU is at fault, and no text.

    If memory is short for a single window, others hold it. After one of CUDA's own errors nothing works in this process
    any more.
    """
    words = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in words or "ALLOC_FAILED" in words:
        return n_windows == 1
    return "CUDA error" in words


def _without(text: str, error: Exception) -> str:
    """The error as one short line, or only its type where the line quotes the text."""
    short = _short(error)
    return type(error).__name__ if _shares(short, text) else short


def _short(error: Exception) -> str:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in str(error):
        return _NO_MEMORY
    return in_short(error)


def _shares(message: str, text: str) -> bool:
    """Whether a message holds a text, or enough of it to be a quotation."""
    pieces = (message[i : i + _QUOTATION] for i in range(len(message) - _QUOTATION + 1))
    return text.strip() in message or any(piece in text for piece in pieces)
