"""Texts in, scores out, in the same order: tokenization, windows, batches, forward passes, means, sigmoids."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bigfive_udf.model import bundle
from bigfive_udf.model.attention import packs
from bigfive_udf.model.batching import (
    WindowRule,
    filled,
    mean_by_document,
    plan_batches,
    plan_packed_batches,
    split_windows,
)
from bigfive_udf.model.encoder import Encoder
from bigfive_udf.model.scores import Effort, Scores, ScoringOptions
from bigfive_udf.model.tokenization import TextTokenizer
from bigfive_udf.traits import EMPTY, FAILED, SCORED, TRAITS

_log = logging.getLogger(__name__)
_NO_MEMORY = "out of memory"
_GPU_ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""For padded batches. Not cuDNN, which torch prefers on the newest GPUs: it makes a plan for each shape, and almost
every batch has another one."""
_QUOTATION = 8
"""Characters that a message may not share with the text that it is about: fewer are chance, or a word."""
DEFAULT_BATCH_TOKENS = {"cpu": 1024, "cuda": 32768}
"""Padded tokens a batch: on a CPU core more gains nothing, a GPU wants to be filled."""


@dataclass
class _Windows:
    """The windows of all texts of one call, text by text."""

    ids: list[list[int]] = field(default_factory=list)
    document: list[int] = field(default_factory=list)
    weight: list[int] = field(default_factory=list)


@dataclass
class _Prepared:
    """What is known of texts before the model sees them, one entry for each that differs from those before it."""

    place: np.ndarray
    """(n,) of all texts: which of the different ones each is"""
    status: np.ndarray
    reason: np.ndarray
    n_tokens: np.ndarray
    n_windows: np.ndarray
    truncated: np.ndarray
    windows: _Windows = field(default_factory=_Windows)
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
    """What the device has been told to compute, a batch of windows each, and why windows could not be, by document."""

    prepared: _Prepared
    batches: list[tuple[np.ndarray, Tensor]]
    """which windows, and their logits, which a GPU may not have computed yet"""
    failures: dict[int, str]


class Scorer:
    """A model ready to score on one device.

    `forward` maps (ids, lengths) as `Encoder` does to logits in trait order; `pad_token_id` fills the batches; `silent`
    are the positions of traits that get no probability; `packed`: windows are laid end to end, as `Encoder.packed`
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
        self._forward = forward
        self._tokenizer = tokenizer
        self._pad = pad_token_id
        self._device = device
        self._silent = list(silent)
        self.packed = packed
        self._filled = filled if device.type == "cpu" and isinstance(forward, Encoder) else int
        self._rule = WindowRule(options.max_length - tokenizer.n_special, options.window_overlap, options.max_windows)
        self._max_batch_tokens = options.max_batch_tokens or DEFAULT_BATCH_TOKENS[device.type]
        shortest = self._dressed([]) or [pad_token_id]
        self._logits(_Windows([shortest], [0], [1]), np.array([0]))  # a model that can't run says so now

    @classmethod
    def open(cls, directory: Path, options: ScoringOptions, device: str = "cpu", pack: bool = True) -> Scorer:
        """Load an unpacked bundle; its weights are memory-mapped, so that processes of a machine can share them.

        `pack` False: batches are padded also where there is a kernel for windows laid end to end.
        """
        about = json.loads((directory / bundle.ABOUT).read_text())
        where = torch.device(device)
        if where.type == "cuda" and where.index is not None:
            torch.cuda.set_device(where)  # or what reads the weights would take memory of the first GPU too
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
        """`score` of each batch.

        `ahead`, as a GPU wants it: while it computes a batch, the next is tokenized and the last one's scores taken.
        """
        if not (self._device.type == "cuda" if ahead is None else ahead):
            yield from map(self.score, batches)
            return
        with ThreadPoolExecutor(1) as pool:
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
        """Tokens and windows of the texts that differ, and which of them each text is."""
        started = time.perf_counter()
        first: dict[str | None, int] = {}
        place = np.fromiter((first.setdefault(text, len(first)) for text in texts), int, len(texts))
        prepared = _Prepared.of(len(first), place)
        with_text: list[tuple[int, str]] = []
        for i, text in enumerate(first):
            if text is None or not text.strip():
                prepared.set_aside(i, EMPTY, "text is null" if text is None else "only white space")
            else:
                with_text.append((i, text))
        encoded = self._tokenizer.encode([text for _, text in with_text])
        windows = prepared.windows
        for (i, text), ids in zip(with_text, encoded, strict=True):
            if isinstance(ids, Exception):
                prepared.set_aside(i, FAILED, _why("tokenizer", ids, text))
                prepared.n_tokens[i] = -1
                continue
            if not ids:
                prepared.set_aside(i, EMPTY, "no token in the text")
                continue
            spans, prepared.truncated[i] = split_windows(len(ids), self._rule)
            prepared.n_tokens[i], prepared.n_windows[i] = len(ids), len(spans)
            windows.ids += [self._dressed(ids[start:stop]) for start, stop in spans]
            windows.document += [i] * len(spans)
            windows.weight += [stop - start for start, stop in spans]
        prepared.effort.tokenize_seconds = time.perf_counter() - started
        return prepared

    def _begin(self, p: _Prepared) -> _Begun:
        """Give the device all windows, in batches; where the model fails on one, its document is set down."""
        windows, effort, started = p.windows, p.effort, time.perf_counter()
        failures: dict[int, str] = {}
        lengths = np.fromiter(map(len, windows.ids), int, len(windows.ids))
        plan = plan_packed_batches if self.packed else plan_batches
        pending = plan(lengths, self._max_batch_tokens)[::-1]
        done: list[tuple[np.ndarray, Tensor]] = []  # left on the device until all is queued: a GPU never waits for us
        while pending:
            batch = pending.pop()
            try:
                done.append((batch, self._logits(windows, batch)))
            # Out of memory, or a row that the model can't take (ValueError is how models of transformers say so): halve
            # until it passes, or one row is to blame.
            except (RuntimeError, MemoryError, IndexError, ValueError) as error:
                if self._device.type == "cuda":
                    if is_the_gpus(error, len(batch)):
                        raise
                    torch.cuda.empty_cache()
                if len(batch) > 1:
                    _log.warning("a batch is halved, for the model can't take it: %s", _short(error))
                    half = len(batch) // 2
                    pending += [batch[half:], batch[:half]]
                else:
                    failures[windows.document[batch[0]]] = _why("model", error)
                continue
            effort.batches += 1
            effort.windows += len(batch)
            tokens = int(lengths[batch].sum())
            effort.tokens += tokens
            effort.padded_tokens += tokens if self.packed else self._filled(int(lengths[batch[0]]) * len(batch))
        effort.model_seconds = time.perf_counter() - started
        return _Begun(p, done, failures)

    def _end(self, begun: _Begun) -> Scores:
        """Logits, means, probabilities, and every text's row again."""
        p, started = begun.prepared, time.perf_counter()
        logits = np.full((len(p.windows.ids), len(TRAITS)), np.nan)
        for batch, values in begun.batches:
            logits[batch] = values.cpu().numpy()
        p.effort.model_seconds += time.perf_counter() - started
        document, weight = np.array(p.windows.document, int), np.array(p.windows.weight, float)
        means = mean_by_document(logits, document, weight, len(p.status))
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

    def _dressed(self, ids: list[int]) -> list[int]:
        return self._tokenizer.prefix + ids + self._tokenizer.suffix

    def _logits(self, windows: _Windows, batch: np.ndarray) -> Tensor:
        rows = [windows.ids[w] for w in batch]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        if self.packed:
            ids = np.fromiter(itertools.chain.from_iterable(rows), np.int64, int(lengths.sum()))
        else:
            ids = np.full((len(rows), int(lengths.max())), self._pad, dtype=np.int64)
            for r, row in enumerate(rows):
                ids[r, : len(row)] = row
        tensor = torch.from_numpy(ids)
        if self._device.type == "cuda":  # a copy from pinned memory waits for nothing
            tensor = tensor.pin_memory()
            with sdpa_kernel(_GPU_ATTENTION):
                return self._forward(tensor.to(self._device, non_blocking=True), torch.from_numpy(lengths))
        return self._forward(tensor, torch.from_numpy(lengths))


def is_the_gpus(error: Exception, n_windows: int) -> bool:
    """Whether the GPU is at fault, and no text: what it lacks for a single window others hold, and after an error of
    CUDA's own nothing works in this process any more."""
    words = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in words or "ALLOC_FAILED" in words:
        return n_windows == 1
    return "CUDA error" in words


def _why(stage: str, error: Exception, text: str = "") -> str:
    """One short line without any of the text, which the error may quote."""
    short = _short(error)
    if short == _NO_MEMORY:
        return f"{stage}: {short} for this text alone"
    return f"{stage}: {type(error).__name__ if text and _shares(short, text) else short}"


def _short(error: Exception) -> str:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in str(error):
        return _NO_MEMORY
    first_line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first_line[:200]}"


def _shares(message: str, text: str) -> bool:
    """Whether a message holds a text, or enough of it to be a quotation."""
    pieces = (message[i : i + _QUOTATION] for i in range(len(message) - _QUOTATION + 1))
    return text.strip() in message or any(piece in text for piece in pieces)
