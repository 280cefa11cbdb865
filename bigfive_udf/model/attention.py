"""Two memory layouts for the tokens of a batch: windows padded to one length, or windows laid end to end.

Both give the encoder the attention within each window, each window's first token, and the mean over each window.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from bigfive_udf.model.batching import filled

_SHORT = 64  # tokens
_VECTOR = 16  # fp32 numbers of AVX-512
_TILE = 16  # rows of AMX


class TokenLayout(Protocol):
    """Tokens of windows, one window after the other: `x` below is (tokens, h).

    Extra rows may follow those of the tokens, or of the windows: they are computed too, but mean nothing.
    """

    def attend(self, query: Tensor, key: Tensor, value: Tensor, n_heads: int) -> Tensor:
        """softmax(q k' / sqrt(d)) v over the tokens of each window, heads side by side in the last dimension.

        `query`, `key`, `value` and the result have one row per token, like `x`.
        """

    def seen(self, query: Tensor, x: Tensor) -> Tensor:
        """softmax(query x') x over the tokens of each window; `query` and the result are (windows, n_heads, h)."""

    def first(self, x: Tensor) -> Tensor:
        """The first token of every window: (windows, h)."""

    def mean(self, x: Tensor) -> Tensor:
        """The average over every window's tokens, special ones counted as sentence encoders do: (windows, h), fp32."""


def on(device: torch.device, x: Tensor) -> Tensor:
    """Copy a CPU tensor to the device. From pinned memory the copy does not wait for a GPU's pending work."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x


class Padded:
    """Windows padded to the longest. `lengths` (windows,) is on the CPU, so that reading it waits for no GPU.

    With `fill`, zero rows are added after the tokens, and after the first tokens of all windows, up to the number of
    rows that `filled` gives.
    """

    def __init__(
        self, lengths: Tensor, longest: int, device: torch.device, dtype: torch.dtype, fill: bool = False
    ) -> None:
        self._shape = (len(lengths), longest)
        self._fill = fill
        self._lengths = on(device, lengths)
        self._real: Tensor | None = None  # no mask where nothing is padded: attention is faster without one
        self._mask: Tensor | None = None
        if int(lengths.min()) < longest:
            self._real = torch.arange(longest, device=device) < self._lengths[:, None]
            self._mask = torch.zeros(self._real.shape, dtype=dtype, device=device)
            self._mask = self._mask.masked_fill_(~self._real, -torch.inf)[:, None, None, :]

    def tokens(self, ids: Tensor) -> Tensor:
        """Ids (windows, longest) one after the other, and zeros behind them: (tokens,)."""
        return self._filled(ids.reshape(-1))

    def windows(self, x: Tensor) -> Tensor:
        """A view of the tokens by window: (windows, longest, h)."""
        return x[: math.prod(self._shape)].unflatten(0, self._shape)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, n_heads: int) -> Tensor:
        q, k, v = (self.windows(t).unflatten(-1, (n_heads, -1)).transpose(1, 2) for t in (query, key, value))
        attended = query.new_empty(query.shape)
        self.windows(attended).unflatten(-1, (n_heads, -1)).copy_(_attention(q, k, v, self._mask).transpose(1, 2))
        attended[math.prod(self._shape) :] = 0
        return attended

    def seen(self, query: Tensor, x: Tensor) -> Tensor:
        found = _seen(query[: self._shape[0]], self.windows(x), None if self._mask is None else self._mask[:, 0])
        return F.pad(found, (0, 0, 0, 0, 0, len(query) - len(found)))

    def first(self, x: Tensor) -> Tensor:
        return self._filled(self.windows(x)[:, 0])

    def mean(self, x: Tensor) -> Tensor:
        x = self.windows(x).float()
        return (x if self._real is None else x * self._real[:, :, None]).sum(1) / self._lengths[:, None]

    def _filled(self, x: Tensor) -> Tensor:
        missing = filled(len(x)) - len(x) if self._fill else 0
        return F.pad(x, (0,) * (2 * x.dim() - 1) + (missing,)) if missing else x


class Packed:
    """Windows laid end to end: nothing is computed for padding. `lengths` (rows,) is on the CPU."""

    def __init__(self, lengths: Tensor, device: torch.device) -> None:
        self._longest = int(lengths.max())
        ends = lengths.cumsum(0)
        self._starts = on(device, F.pad(ends, (1, 0)).to(torch.int32))
        self._lengths = on(device, lengths)
        self._bounds = lengths.tolist()

    def positions(self) -> Tensor:
        """The place of every token in its window: (tokens,)."""
        first = torch.repeat_interleave(self._starts[:-1], self._lengths, output_size=sum(self._bounds))
        return torch.arange(len(first), device=first.device) - first

    def attend(self, query: Tensor, key: Tensor, value: Tensor, n_heads: int) -> Tensor:
        q, k, v = (t.view(t.shape[0], n_heads, -1) for t in (query, key, value))
        if query.device.type != "cuda":
            return self._window_by_window(q, k, v).reshape(query.shape)
        from torch.nn.attention.varlen import varlen_attn

        attended = varlen_attn(q, k, v, self._starts, self._starts, self._longest, self._longest)
        assert isinstance(attended, Tensor)
        return attended.reshape(query.shape)

    def _window_by_window(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention one window at a time: the reference that the GPU's kernel is checked against."""
        parts = zip(*(t.split(self._bounds) for t in (query, key, value)), strict=True)
        attended = [
            F.scaled_dot_product_attention(*(t.transpose(0, 1)[None] for t in part))[0].transpose(0, 1)
            for part in parts
        ]
        return torch.cat(attended)

    def seen(self, query: Tensor, x: Tensor) -> Tensor:
        return torch.cat([self._seen_by(rows, query, x) for rows in _alike(self._bounds)])

    def _seen_by(self, rows: slice, query: Tensor, x: Tensor) -> Tensor:
        places = torch.arange(max(self._bounds[rows]), device=x.device)
        real = places < self._lengths[rows, None]
        # Beyond its end a window repeats its own first token: a non-finite token of another window would spoil it.
        index = self._starts[:-1][rows, None] + torch.where(real, places, 0)
        mask = torch.zeros(real.shape, dtype=x.dtype, device=x.device).masked_fill_(~real, -torch.inf)
        return _seen(query[rows], x[index], mask[:, None])

    def first(self, x: Tensor) -> Tensor:
        return x[self._starts[:-1].long()]

    def mean(self, x: Tensor) -> Tensor:
        total = torch.zeros(len(self._bounds), x.shape[1], device=x.device)
        row = torch.repeat_interleave(
            torch.arange(len(self._bounds), device=x.device), self._lengths, output_size=len(x)
        )
        return total.index_add_(0, row, x.float()) / self._lengths[:, None]


def _alike(lengths: Sequence[int]) -> list[slice]:
    """Runs of windows, none shorter than half of another in its run: padding at most doubles the tokens of a run."""
    cuts, shortest, longest = [0], lengths[0], lengths[0]
    for i, length in enumerate(lengths):
        shortest, longest = min(shortest, length), max(longest, length)
        if 2 * shortest < longest:
            cuts.append(i)
            shortest = longest = length
    return [slice(start, stop) for start, stop in pairwise([*cuts, len(lengths)])]


def packs(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Whether there is a kernel for packed tokens: on GPUs of today, in half precision, in a recent torch.

    The kernel takes head sizes that are multiples of 8, at most 256.
    """
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16) or head_size % 8 or head_size > 256:
        return False
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: F401
    except ImportError:
        return False
    return torch.backends.cuda.is_flash_attention_available() and torch.cuda.get_device_capability(device) >= (8, 0)


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k' / sqrt(d) + mask) v, all (rows, heads, tokens, d)."""
    tokens, size = query.shape[2:]
    if query.device.type != "cpu" or _fused_is_faster(tokens, size, query.dtype):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    # Two plain products. In bf16 the fused kernel would be a tenth more exact, because it does not round the scores.
    # Here the scores take 75 MB for 1,024 tokens in windows of 512.
    q, k, v = (t.reshape(-1, tokens, size) for t in (query, key, value))
    scores = torch.baddbmm(q.new_empty(1), q, k.transpose(1, 2), beta=0, alpha=size**-0.5)
    weights = _softmax(scores.view(*query.shape[:2], tokens, tokens), mask).to(v.dtype)
    return (weights.reshape(-1, tokens, tokens) @ v).view(query.shape)


def _fused_is_faster(tokens: int, size: int, dtype: torch.dtype) -> bool:
    """Whether torch's fused kernel is faster on this processor, for windows of `tokens` and heads of `size` (measured).

    For short windows it takes up to twice as long. With AMX it is faster for short windows of whole tiles too, and from
    200 tokens on two to four times as fast.
    """
    if dtype is torch.bfloat16 and _has_amx():
        return tokens > _SHORT or tokens % _TILE == 0
    return tokens > (8 * size if dtype is torch.bfloat16 else _SHORT)


@functools.cache
def _has_amx() -> bool:
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())


def _seen(query: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(query x' + mask) x: query (rows, n_heads, h), x (rows, tokens, h)."""
    return _softmax(query @ x.transpose(1, 2), mask).to(x.dtype) @ x


def _softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(scores + mask) over the last dimension, in fp32; `scores` may be overwritten."""
    scores = scores.float()  # exponentials of short rows take three times as long in bf16
    if mask is not None:
        scores.add_(mask)
    missing = _VECTOR - scores.shape[-1]
    if scores.device.type != "cpu" or missing <= 0:
        return torch.softmax(scores, dim=-1)
    # torch computes rows shorter than the processor's vector number by number: that takes ten times as long (measured).
    return torch.softmax(F.pad(scores, (0, missing), value=-torch.inf), dim=-1)[..., :-missing]
