"""The runs of a table, from the records that they left beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bigfive_udf.reporting.stretch import Stretch
from bigfive_udf.runs import RUNNING
from bigfive_udf.tables.filesystem import FileSystem
from bigfive_udf.tables.ledger import Entry


@dataclass(frozen=True)
class Record:
    """One run. Fields that its record lacks are None or empty: the run ended early, or an older version wrote it."""

    run_id: str
    exit_code: int | None
    message: str
    under_way: bool
    started: str
    seconds: float | None
    scoring_seconds: float | None
    documents: int
    documents_per_second: float | None
    worker_seconds: Mapping[str, float]
    cores: int | None
    device: str
    precision: str
    partitions: frozenset[str]
    failed: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    whole_corpus: bool = False
    """whether the run is known to have looked at the whole corpus, not only at partitions from the command line"""

    @property
    def core_seconds(self) -> float | None:
        """Seconds times cores; None where one of them is not known."""
        return None if self.seconds is None or self.cores is None else self.seconds * self.cores


@dataclass(frozen=True)
class Failure:
    """A partition that failed in a run, and what has become of it since."""

    partition: str
    reason: str
    run_id: str
    mended_by: str | None = None
    """the later run that committed the partition, if there is one"""
    kept: bool = False
    """whether the table still has the partition's earlier rows"""
    gone_by: str | None = None
    """the later run that searched the whole corpus without finding the partition, if there is one"""

    @property
    def settled(self) -> bool:
        return self.mended_by is not None or self.gone_by is not None


def read_history(fs: FileSystem, job_path: str, stretch: Stretch, run_id: str | None) -> list[Record]:
    """The runs behind the partitions of a page and the runs between them, oldest first; with `run_id`, only that run.

    Runs that only relabelled or failed leave a record too, even if the ledger does not know them.
    """
    first = min(e.run_id for e in stretch.shown)
    last = None if stretch.whole else max(e.run_id for e in stretch.shown)
    names = [n.removesuffix(".json") for n in fs.names(f"{job_path}/runs") if n.endswith(".json")]
    if run_id is not None:
        chosen = [n for n in names if n == run_id]
    else:
        chosen = [n for n in names if n >= first and (last is None or n <= last)]
    try:
        under_way = fs.read(f"{job_path}/running").strip()
    except FileNotFoundError:
        under_way = ""
    found = []
    for name in sorted(chosen):
        try:
            found.append(_record(name, json.loads(fs.read(f"{job_path}/runs/{name}.json")), name == under_way))
        # A record that was cut short, or has expired meanwhile, must not prevent a report.
        except (ValueError, TypeError, AttributeError, FileNotFoundError):
            continue
    return found


def last_settings(fs: FileSystem, job_path: str) -> dict[str, Any]:
    """The settings of the last run that changed partitions, else of the last run with settings; else empty."""
    found: dict[str, Any] = {}
    for name in reversed([n for n in fs.names(f"{job_path}/runs") if n.endswith(".json")]):
        try:
            record = json.loads(fs.read(f"{job_path}/runs/{name}"))
            settings, partitions = record.get("settings"), record.get("partitions")
        except (ValueError, AttributeError, FileNotFoundError):
            continue
        if settings and partitions:  # a refused run may name columns and a model that the table never had
            return dict(settings)
        found = found or dict(settings or {})
    return found


def failures(records: Sequence[Record], entries: Mapping[str, Entry]) -> list[Failure]:
    """The partitions that failed, each once: unsettled ones first, and the latest first among each kind."""
    latest: dict[str, Failure] = {}
    for record in records:
        for name, reason in record.failed.items():
            entry = entries.get(name)
            if entry is not None and entry.run_id > record.run_id:
                latest[name] = Failure(name, reason, record.run_id, mended_by=entry.run_id)
                continue
            # The next run that finds a failed partition tries it again.
            looked = (r for r in records if r.run_id > record.run_id and r.exit_code in (0, 5) and r.whole_corpus)
            gone = next((r.run_id for r in looked if name not in r.failed), None)
            latest[name] = Failure(name, reason, record.run_id, kept=entry is not None, gone_by=gone)
    recent = sorted(latest.values(), key=lambda f: f.run_id, reverse=True)
    return sorted(recent, key=lambda f: f.settled)


def _record(run_id: str, content: Mapping[str, Any], marked: bool) -> Record:
    # This is the message of a run that has not ended. A killed run keeps it too, until the next run notices.
    under_way = marked and content.get("exit_code") is None and content.get("message") == RUNNING
    workers, threads = content.get("workers"), content.get("threads_per_worker")
    cores = (content.get("spark") or {}).get("cores") or (workers * max(1, threads or 1) if workers else None)
    return Record(
        run_id=run_id,
        exit_code=content.get("exit_code"),
        message=str(content.get("message") or ""),
        under_way=under_way,
        started=str(content.get("started") or ""),
        seconds=content.get("seconds") if content.get("exit_code") is not None else None,
        scoring_seconds=content.get("scoring_seconds"),
        documents=int(content.get("documents_out") or 0),
        documents_per_second=content.get("documents_per_second") or None,
        worker_seconds=dict(content.get("worker_seconds") or {}),
        cores=cores,
        device=str(content.get("device") or ""),
        precision=str(content.get("precision") or ""),
        partitions=frozenset(content.get("partitions") or ()),
        failed=dict(content.get("failed_partitions") or {}),
        settings=dict(content.get("settings") or {}),
        whole_corpus=(content.get("plan") or {}).get("selection") == {},
    )
