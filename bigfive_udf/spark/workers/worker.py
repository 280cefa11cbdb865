"""What happens in a Python worker: the model is loaded once, rows are gathered, scored and sent back in order."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from pyspark import Accumulator, Broadcast, TaskContext

from bigfive_udf.errors import SettingsError
from bigfive_udf.model import hardware, node_cache
from bigfive_udf.model.scores import Scores, ScoringOptions
from bigfive_udf.spark.workers.notes import listening
from bigfive_udf.spark.workers.tally import MOST_EXCERPTS, Tally
from bigfive_udf.traits import FAILED

if TYPE_CHECKING:
    from bigfive_udf.model.scorer import Scorer

_log = logging.getLogger(__name__)

# Sorting pays only over many rows, more than an Arrow batch may hold. The limit on characters (counted in bytes) bounds
# the memory for the tokens. It also lets the tokenizer work ahead of a GPU where texts are long: a GPU's task has about
# eight times as many characters.
_GATHER_ROWS = 8192
_GATHER_CHARACTERS = 1 << 20
_EXCERPT_CHARACTERS = 200
# A session may score with two models in turn; more than two in one worker are a leak.
_MODELS_PER_WORKER = 2
"""Models per device, because Spark may move a worker from one GPU of its executor to another."""

_scorers: dict[tuple[str, ScoringOptions, str], Scorer] = {}
_local_gpu: int | None = None


@dataclass(frozen=True)
class RemoteModel:
    """What travels with the UDF: the broadcast bundle, the name of its copy on a machine, and how to score."""

    digest: str
    files: Broadcast[dict[str, bytes]]
    options: ScoringOptions
    placement: hardware.Placement
    tally: Accumulator[Tally]
    log_texts: bool = False
    """whether the tally may hold excerpts of texts"""


def score_batches(model: RemoteModel, batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
    """Score Series of UTF-8 bytes; yields frames of `UDF_FIELDS` with as many rows in all, in the same order."""
    threads = _task_cpus()
    hardware.use_threads(threads)
    waiting: deque[list[str | None]] = deque()
    with listening() as listener:
        scorer = _scorer(model)
        for scores in scorer.score_all(_remembered(_gathered(batches), waiting)):
            texts = waiting.popleft()
            excerpts = _excerpts(texts, scores) if model.log_texts else []
            heard = listener.taken()
            model.tally.add(Tally(len(scores.status), scores.effort, excerpts=excerpts, threads=threads, heard=heard))
            yield scores.to_frame()
        model.tally.add(Tally(heard=listener.taken()))


def _remembered(gathered: Iterator[list[str | None]], waiting: deque[list[str | None]]) -> Iterator[list[str | None]]:
    """Yield the texts, and keep them in `waiting` for their scores, which may come a few batches later."""
    for texts in gathered:
        waiting.append(texts)
        yield texts


def _excerpts(texts: list[str | None], scores: Scores) -> list[str]:
    failed = [i for i, status in enumerate(scores.status) if status == FAILED]
    return [f"{scores.status_reason[i]}: {(texts[i] or '')[:_EXCERPT_CHARACTERS]!r}" for i in failed[:MOST_EXCERPTS]]


def _gathered(batches: Iterator[pd.Series]) -> Iterator[list[str | None]]:
    texts: list[str | None] = []
    characters = 0
    for batch in batches:
        for value in batch:
            # Bytes, because a Parquet string may be invalid UTF-8, for which Spark would fail the whole job.
            texts.append(None if value is None else bytes(value).decode("utf-8", errors="replace"))
            characters += 0 if value is None else len(value)
            if len(texts) >= _GATHER_ROWS or characters >= _GATHER_CHARACTERS:
                yield texts
                texts, characters = [], 0
    if texts:
        yield texts


def _scorer(model: RemoteModel) -> Scorer:
    from bigfive_udf.model.scorer import Scorer  # imports torch, which the driver needs only later

    device = _task_device(model.placement.device)
    key = (model.digest, model.options, device)
    if key not in _scorers:
        started = time.perf_counter()
        check_machine(model.placement)
        directory = node_cache.unpacked(model.digest, lambda: model.files.value)
        _make_room(device)
        _scorers[key] = Scorer.open(directory, model.options, device)
        worker = f"{platform.node()}:{os.getpid()}"
        model.tally.add(Tally(loads=Counter([worker]), load_seconds=time.perf_counter() - started))
    # Drop the copy that the broadcast would keep for good. Workers that never read the files may have one too: where
    # Spark encrypts what it writes (spark.io.encryption.enabled), all workers get the files as they start.
    model.files.__dict__.pop("_value", None)
    return _scorers[key]


def _make_room(device: str) -> None:
    """Drop this device's surplus models before the next one takes memory."""
    here = [key for key in _scorers if key[2] == device]
    for key in here[: len(here) - _MODELS_PER_WORKER + 1]:
        del _scorers[key]
        if device != "cpu":
            import torch

            torch.cuda.empty_cache()


def check_machine(placement: hardware.Placement) -> None:
    """Check this machine: its executor may have joined only after device and precision were decided.

    Raises:
        SettingsError: there is no GPU here, and the run computes on GPUs.
    """
    here = hardware.look(use_gpu=placement.device == "cuda")
    try:
        hardware.decide(placement.device, placement.precision, [here])
    except SettingsError as error:
        if placement.device == "cuda" and not here.cuda:
            raise
        _log.warning("this executor was not there when the precision was chosen, and is slow in it: %s", error)


def _task_cpus() -> int:
    context = TaskContext.get()
    return max(1, context.cpus()) if context is not None else 1


def _task_device(device: str) -> str:
    if device != "cuda":
        return device
    context = TaskContext.get()
    resources = context.resources() if context is not None else {}
    if "gpu" in resources:
        return hardware.cuda_device(resources["gpu"].addresses[0])
    # Local mode gives tasks no resources: workers are spread over the GPUs, and each stays on the GPU of its model.
    import torch

    global _local_gpu
    if _local_gpu is None:
        _local_gpu = context.partitionId() % max(1, torch.cuda.device_count()) if context is not None else 0
    return f"cuda:{_local_gpu}"
