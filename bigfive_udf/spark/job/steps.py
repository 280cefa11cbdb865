"""Carrying out a plan step by step: each step is scored, counted, checked and committed before the next begins."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from bigfive_udf.errors import BigFiveError, InputError, OutputError
from bigfive_udf.model.scores import Effort
from bigfive_udf.runs import Run
from bigfive_udf.settings.score import ScoreSettings
from bigfive_udf.spark.failures import spark_failures
from bigfive_udf.spark.input.corpus import Corpus
from bigfive_udf.spark.input.readable import Readable
from bigfive_udf.spark.job.planning import Scoring
from bigfive_udf.spark.job.scoring import (
    relabelled,
    scores_of,
    staged_counts,
    staged_keys,
    task_count,
    why_not,
    write_staged,
)
from bigfive_udf.spark.machines import cores, slots
from bigfive_udf.spark.output.stored import stored_rows
from bigfive_udf.spark.storage import as_pattern, as_uri
from bigfive_udf.spark.udf import SparkModel
from bigfive_udf.spark.workers.notes import Heard, Note
from bigfive_udf.spark.workers.tally import Tally
from bigfive_udf.tables.commit import Commit, Committer
from bigfive_udf.tables.filesystem import FileInfo
from bigfive_udf.tables.fingerprint import ScoreRecipe, fingerprint
from bigfive_udf.tables.ledger import COMMITTED, Entry, Ledger, removed
from bigfive_udf.tables.partitions import Layout, Values, partition_name, relative_path
from bigfive_udf.tables.plan import Plan, Task
from bigfive_udf.tables.score_table import ScoreTable, staged_files

# What a core is assumed to score in a second. It limits the first step of a new table, before anything was measured.
# Bytes are those of the compressed texts in the files: without a limit on bytes a step of long texts would take hours.
_ASSUMED_DOCUMENTS, _ASSUMED_BYTES = 50.0, 3_000.0
_KEPT = ("columns", "precision", "device", "seconds", "cores", "input_files", "input_bytes")
"""What an entry keeps when only the labels of its partition are computed again."""
_COUNTS = ("documents", "scored", "empty", "failed", "truncated", "n_tokens", "n_windows")


@dataclass
class Outcome:
    """What became of the partitions of a run."""

    committed: dict[str, Entry] = field(default_factory=dict)
    relabelled: dict[str, Entry] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """reasons, by partition"""
    documents_in: int = 0
    """rows of the partitions that were to be scored and could be read"""
    in_vain: int = 0
    """documents that were scored in steps that failed"""
    given_up: int = 0
    """rows of partitions that failed"""
    steps: list[dict[str, Any]] = field(default_factory=list)
    tally: Tally | None = None
    """what the workers did; None where none was needed"""


@dataclass(frozen=True)
class Work:
    """The input of the partitions to score, and the model."""

    readable: Readable
    rows: Mapping[Values, int]
    """number of rows to score, by partition"""
    model: SparkModel

    def documents(self, tasks: Iterable[Task]) -> int:
        return sum(self.rows[task.partition.values] for task in tasks)

    def text_bytes(self, task: Task) -> int:
        """About how many bytes the partition's texts have as stored."""
        return self.readable.text_bytes(task.partition, self.rows[task.partition.values])


@dataclass(frozen=True)
class Staged:
    """A step that is written but not yet committed."""

    commit: str
    directory: str
    counts: Mapping[Values, Mapping[str, int]]
    """by partition, counted in the written files: rows by status, tokens and so on"""
    files: Mapping[Values, tuple[FileInfo, ...]]
    seconds: Mapping[str, float]
    """what took how long: to score and write the rows, and to count them"""


@dataclass
class Steps:
    """The steps of one run on one table.

    If a file makes a step fail, the step is tried again in halves until the file's partition is found. Only this
    partition fails.
    """

    spark: SparkSession
    settings: ScoreSettings
    run: Run
    scoring: Scoring
    corpus: Corpus
    table: ScoreTable
    ledger: Ledger
    committer: Committer
    outcome: Outcome = field(default_factory=Outcome)
    number: int = 0
    """number of the last step"""
    committed: Callable[[], None] = lambda: None
    """called after each commit"""
    logged: set[Note] = field(default_factory=set)
    """workers' warnings that are already in the log"""

    @property
    def layout(self) -> Layout:
        return self.corpus.layout

    @property
    def recipe(self) -> ScoreRecipe:
        return self.scoring.recipe

    def score(self, tasks: Sequence[Task], work: Work, rate: float | None, plan: Plan) -> None:
        """Score partitions and commit them; `rate` is in documents per second, None where no run has measured it."""
        rate = rate or self._assumed_rate(tasks, work)
        self.outcome.documents_in = work.documents(tasks)
        if plan.together:
            moved = [task for task in tasks if task.name in plan.together]
            at_once = len(self._next_step(moved, work, rate)) == len(moved)
            if at_once and plan.together <= {task.name for task in plan.score}:
                done = self._score_moved_at_once(moved, work, plan)
            else:
                done = self._score_losers_first(moved, work, plan, rate)
            tasks = [task for task in tasks if task.name not in done]
        self._score_in_steps(tasks, work, rate)

    def _score_in_steps(self, tasks: Sequence[Task], work: Work, rate: float) -> None:
        while tasks:
            step = self._next_step(tasks, work, rate)
            tasks = tasks[len(step) :]
            started, before = time.monotonic(), len(self.outcome.committed)
            self._score_step(step, work)
            done = list(self.outcome.committed.values())[before:]
            if scored := sum(e.documents for e in done):
                rate = scored / (time.monotonic() - started)

    def _assumed_rate(self, tasks: Sequence[Task], work: Work) -> float:
        """The assumed rate of all cores together, in documents per second."""
        size = max(1, sum(work.text_bytes(task) for task in tasks))
        return cores(self.spark) * min(_ASSUMED_DOCUMENTS, _ASSUMED_BYTES * work.documents(tasks) / size)

    def _next_step(self, tasks: Sequence[Task], work: Work, rate: float) -> Sequence[Task]:
        """The tasks of the next step: the first ones, as many as `commit_every` allows, and at least one."""
        every, documents = self.settings.commit_every, 0
        for i, task in enumerate(tasks[: every.partitions]):
            documents += work.rows[task.partition.values]
            if i and documents > rate * every.minutes * 60:
                return tasks[:i]
        return tasks[: every.partitions]

    # A file may move from one group of files to another. If its new group were committed before its old one, the table
    # would have its texts twice; if one of the two groups failed, the table would keep them twice or not at all.

    def _score_moved_at_once(self, moved: Sequence[Task], work: Work, plan: Plan) -> set[str]:
        """Score groups between which files may have moved and drop the vanished groups, in one commit, or do nothing.

        Returns the names of the groups that were committed or have failed.
        """
        unfit = [reason for name, reason in self.outcome.failed.items() if name in plan.together]
        if unfit:
            self._fail_together(moved, work, unfit[0])
        else:
            self._score_step(moved, work, plan.remove)
        return {task.name for task in moved}

    def _score_losers_first(self, moved: Sequence[Task], work: Work, plan: Plan, rate: float) -> set[str]:
        """Where one commit can't hold all these groups: score first the groups that may have lost files.

        Then drop the vanished groups; the caller scores the new ones. A text that has moved is missing from the table
        until its new group is committed, but is never there twice. If one of the first groups fails, all remaining
        groups fail with it. Returns what `_score_moved_at_once` returns.
        """
        losers = {task.name for task in plan.score if task.name in plan.together and task.entry is not None}
        self._score_in_steps([task for task in moved if task.name in losers], work, rate)
        failed = self.outcome.failed
        if losers & failed.keys():
            left = [task for task in moved if task.name not in failed.keys() | self.outcome.committed.keys()]
            self._fail_together(left, work, next(r for name, r in failed.items() if name in plan.together))
            return {task.name for task in moved}
        self.remove(plan.remove)
        return {task.name for task in moved if task.name in losers}

    def _score_step(self, step: Sequence[Task], work: Work, gone: Sequence[Entry] | None = None) -> None:
        """Score and commit a step; with `gone`, drop these partitions in the same commit, and commit all or nothing."""
        try:
            self._score_and_commit(step, work, gone)
        finally:
            self._log_warnings(work.model.tally.value.heard)

    def _score_and_commit(self, step: Sequence[Task], work: Work, gone: Sequence[Entry] | None) -> None:
        documents, tally = work.documents(step), work.model.tally
        before, started = tally.value, time.monotonic()
        try:
            with self._staged((lambda: self._scores(step, work)) if documents else None) as staged:
                seconds = time.monotonic() - started
                entries = self._checked_entries(step, work, staged, seconds, all_or_nothing=gone is not None)
                about = self._about(staged)
                self._commit(staged, [*entries, *(removed(e, **about) for e in gone or ())])
        except InputError as error:
            self.outcome.in_vain += tally.value.documents - before.documents
            if gone is not None:
                self._fail_together(step, work, str(error))
            elif len(step) == 1:
                self.outcome.given_up += documents
                self.fail(step[0].name, f"{step[0].name}: {error}")
            else:
                self.run.log("step failed, its halves are tried", partitions=len(step), reason=str(error))
                half = len(step) // 2
                for part in (step[:half], step[half:]):
                    self._score_and_commit(part, work, None)
            return
        self.outcome.committed |= {e.partition: e for e in entries}
        self.outcome.removed += [e.partition for e in gone or ()]
        self._tell("scored", staged, entries, started, tally.value.effort - before.effort)

    def _scores(self, step: Sequence[Task], work: Work) -> DataFrame:
        partitions, model = [task.partition for task in step], work.model
        size = sum(work.text_bytes(task) for task in step)
        tasks = task_count(work.documents(step), size, slots(self.spark), model.placement.device)
        frame, key = work.readable.load(partitions), self.scoring.pseudonym_key
        return scores_of(frame, model, self.settings, self.recipe.thresholds, self.layout.keys, tasks, self.run, key)

    def _checked_entries(
        self, step: Sequence[Task], work: Work, staged: Staged, seconds: float, all_or_nothing: bool
    ) -> list[Entry]:
        """The ledger entries of a staged step; a partition that `why_not` rejects fails, and its rows are dropped.

        Raises:
            InputError: a partition is rejected, and the step is to be committed as a whole.
        """
        tokens = sum(counts["n_tokens"] for counts in staged.counts.values())
        n_cores, entries = cores(self.spark), []
        for task in step:
            values = task.partition.values
            counts = staged.counts.get(values, {})
            if reason := why_not(task.name, work.rows[values], counts, self.settings.max_failed_share):
                if all_or_nothing:
                    raise InputError(reason)
                self.fail(task.name, reason)
                self._drop(staged, values)
                continue
            share = counts.get("n_tokens", 0) / tokens if tokens else 0.0
            entries.append(
                replace(
                    self._entry(task, staged, values),
                    seconds=round(seconds * share, 3),
                    cores=n_cores,
                    device=work.model.placement.device,
                    columns=dict(work.readable.columns),
                    precision=work.model.placement.precision,
                )
            )
        return entries

    def relabel(self, tasks: Sequence[Task]) -> None:
        """Compute labels again from the stored probabilities and commit them; the model is not needed."""
        limit = self.settings.commit_every.partitions
        by_columns: dict[str, list[Task]] = {}
        for task in tasks:
            assert task.entry is not None
            by_columns.setdefault(str(task.entry.columns), []).append(task)
        try:
            for some in by_columns.values():
                for at in range(0, len(some), limit):
                    self._relabel_step(some[at : at + limit])
        except InputError as error:  # here the input is the table
            raise OutputError(
                f"labels can't be computed from the table ({error}): score it again with --rescore"
            ) from None

    def _relabel_step(self, step: Sequence[Task]) -> None:
        old = {task.name: task.entry for task in step if task.entry is not None}
        carried = list(old[step[0].name].columns)
        started = time.monotonic()

        def labels() -> DataFrame:
            rows = stored_rows(self.spark, self.table, list(old.values()))
            assert rows is not None
            return relabelled(rows, self.scoring.artifact, self.recipe.thresholds, carried, self.layout.keys, self.run)

        documents = sum(e.documents for e in old.values())
        with self._staged(labels if documents else None) as staged:
            entries = []
            for task in step:
                values, was = task.partition.values, old[task.name]
                if reason := why_not(task.name, was.documents, staged.counts.get(values, {}), 1.0):
                    self.fail(task.name, reason)
                    self._drop(staged, values)
                    continue
                new = self._entry(task, staged, values)
                kept = {f: getattr(was, f) for f in _KEPT}
                entries.append(replace(new, **kept))
            self._commit(staged, entries)
        self.outcome.relabelled |= {e.partition: e for e in entries}
        self._tell("relabelled", staged, entries, started)

    def remove(self, entries: Sequence[Entry]) -> None:
        """Remove partitions from the table that are no longer in the input."""
        if not entries:
            return
        started = time.monotonic()
        with self._staged(None) as staged:
            about = self._about(staged)
            gone = [removed(e, **about) for e in entries]
            self._commit(staged, gone)
        self.outcome.removed += [e.partition for e in gone]
        self._tell("removed", staged, gone, started)

    @contextlib.contextmanager
    def _staged(self, make: Callable[[], DataFrame] | None) -> Iterator[Staged]:
        """Write the rows of a step to staging; if anything fails before the commit has begun, remove the step again."""
        self.number += 1
        commit = f"{self.run.run_id}-{self.number:04d}"
        keys, fs = self.layout.keys, self.table.fs
        in_files = self.table.keeps_keys_in_files
        staging = self.table.staging(commit)
        try:
            counts: dict[Values, dict[str, int]] = {}
            seconds: dict[str, float] = {}
            if make is not None:
                with spark_failures():
                    started = time.monotonic()
                    write_staged(make(), keys, as_uri(fs, staging), self.settings.output, in_files)
                    written = time.monotonic()
                    counts = staged_counts(self.spark, as_pattern(fs, staging), staged_keys(keys, in_files))
                    seconds = {"written": written - started, "counted": time.monotonic() - written}
            yield Staged(commit, staging, counts, staged_files(fs, staging), seconds)
        except BaseException:  # Ctrl-C too
            if not self.committer.begun(commit):
                with contextlib.suppress(BigFiveError, OSError):
                    self.table.abandon(commit)
            raise

    def _drop(self, staged: Staged, values: Values) -> None:
        """Delete the staged rows of a partition that is not committed."""
        keys = staged_keys(self.layout.keys, self.table.keeps_keys_in_files)
        self.table.fs.delete(f"{staged.directory}/{partition_name(keys, values)}")

    def _entry(self, task: Task, staged: Staged, key: Values) -> Entry:
        p, counts = task.partition, staged.counts.get(key, {})
        entry = Entry(
            partition=task.name,
            values=dict(zip(self.layout.keys, p.values, strict=True)),
            state=COMMITTED,
            **self._about(staged),
            fingerprint=fingerprint(task.input, self.recipe),
            input=task.input,
            input_files=len(p.files),
            input_bytes=p.size,
            group=() if self.layout.columns else tuple(relative_path(f.path, self.corpus.root) for f in p.files),
            model_id=self.recipe.model_id,
            settings=self.recipe.settings,
            thresholds=self.recipe.thresholds,
            pseudonyms=self.recipe.pseudonyms,
            files=self.table.table_files(staged.commit, task.name, staged.files.get(key, ())),
        )
        found: dict[str, Any] = {name: counts.get(name, 0) for name in _COUNTS}
        return replace(entry, **found)

    def _about(self, staged: Staged) -> dict[str, Any]:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        return {
            "sequence": self.ledger.sequence + 1,
            "commit": staged.commit,
            "run_id": self.run.run_id,
            "committed_at": now,
        }

    def _commit(self, staged: Staged, entries: Sequence[Entry]) -> None:
        if entries:
            self.committer.commit(Commit(staged.commit, staged.directory, tuple(entries)))
            self.committed()
        else:
            self.table.abandon(staged.commit)

    def fail(self, name: str, reason: str) -> None:
        """Record that a partition has failed; the others go on."""
        self.outcome.failed[name] = reason
        self.run.log("partition failed", partition=name, reason=reason)

    def _fail_together(self, tasks: Sequence[Task], work: Work, reason: str) -> None:
        """Let all of `tasks` fail for the reason for which one partition failed."""
        self.outcome.given_up += work.documents(tasks)
        for task in tasks:
            self.fail(
                task.name,
                f"{task.name}: files are gone from the input whose texts may be in it by now, so it is not committed "
                f"where one of the others can't be: {reason}",
            )

    def _log_warnings(self, heard: Heard) -> None:
        """Log what workers warned of, each message once in a run; the run record tells how often."""
        for about in heard.about():
            note = Note(about["level"], about["logger"], about["message"])
            if note not in self.logged:
                self.logged.add(note)
                self.run.log("worker warned", **about)

    def _tell(
        self, what: str, staged: Staged, entries: Sequence[Entry], started: float, effort: Effort | None = None
    ) -> None:
        seconds = time.monotonic() - started
        stages = {**staged.seconds, "committed": seconds - sum(staged.seconds.values())}
        about = {
            "step": staged.commit,
            "what": what,
            "partitions": len(entries),
            "documents": sum(e.documents for e in entries),
            "seconds": round(seconds, 3),
            "stage_seconds": {stage: round(spent, 3) for stage, spent in stages.items()},
        }
        if effort is not None:
            about |= {"padding_share": round(effort.padding_share, 4), "worker_seconds": effort.worker_seconds}
        self.outcome.steps.append(about)
        self.run.log("committed", **about, names=[e.partition for e in entries])
