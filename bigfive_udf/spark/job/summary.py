"""The plan before a run and the summary after it: for a terminal, and as numbers for the run record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bigfive_udf.model.artifact import Artifact
from bigfive_udf.spark.input.corpus import WHOLE
from bigfive_udf.spark.job.estimate import Rates
from bigfive_udf.spark.job.planning import Planned
from bigfive_udf.spark.job.progress import duration
from bigfive_udf.spark.job.steps import Outcome
from bigfive_udf.spark.workers.tally import Tally
from bigfive_udf.tables.ledger import Entry
from bigfive_udf.tables.partitions import Partition, Selection
from bigfive_udf.tables.plan import Task
from bigfive_udf.traits import STATUSES, TRAITS

_SHOWN_PARTITIONS = 12
_SHOWN_FAILURES = 5
_SHOWN_WARNINGS = 3


def plan_lines(planned: Planned, output: str) -> list[str]:
    """What will be done, with a line for each of the first dozen partitions, and what is left as it is."""
    plan, layout = planned.plan, planned.corpus.layout
    lines = [f"plan: {planned.corpus.source} -> {output}"]
    if plan.score:
        partitions = [task.partition for task in plan.score]
        size = sum(p.size for p in partitions)
        known_size = f", {_size(size)}" if size else ""
        what = f"{_parts(len(partitions), layout.columns)} to score, {planned.documents:,} documents{known_size}"
        lines.append(f"  {what} ({', '.join(f'{n:,} {why}' for why, n in plan.reasons().items())})")
        for task in plan.score[:_SHOWN_PARTITIONS]:
            lines.append(f"  {task.name:<28} {_rows(planned, task.partition):>22}  {task.why}")
        if len(plan.score) > _SHOWN_PARTITIONS:
            lines.append(f"  ... and {len(plan.score) - _SHOWN_PARTITIONS:,} more")
    if plan.relabel:
        documents = sum(task.entry.documents for task in plan.relabel if task.entry)
        lines.append(
            f"  labels of {_parts(len(plan.relabel), layout.columns)} ({documents:,} documents) to compute again from "
            f"the stored probabilities, for the thresholds have changed; {_loading(plan.relabel)}"
        )
    if plan.remove:
        lines.append(f"  {len(plan.remove):,} to remove: {_some(e.partition for e in plan.remove)}")
    if plan.up_to_date:
        lines.append(f"  {_parts(len(plan.up_to_date), layout.columns)} up to date")
    for why in sorted(set(plan.kept.values())):
        lines.append(f"  {sum(w == why for w in plan.kept.values()):,} keep their scores: {why}")
    lines += [f"  can't be judged: {reason}" for reason in list(plan.unclear.values())[:_SHOWN_FAILURES]]
    if len(plan.unclear) > _SHOWN_FAILURES:
        lines.append(f"  ... and {len(plan.unclear) - _SHOWN_FAILURES:,} more")
    if plan.gone:
        lines.append(
            f"  {len(plan.gone):,} in the table and gone from the input: {_some(plan.gone)} (--prune removes them)"
        )
    if waiting := planned.corpus.waiting:
        of_it = (
            f"{len(waiting):,} not ready: {_some(sorted(waiting))}" if WHOLE not in waiting else f"{WHOLE} is not ready"
        )
        lines.append(f"  {of_it}")
    if plan.later:
        lines.append(f"  {plan.later:,} left for later by --limit")
    return lines


def plan_record(planned: Planned, selection: Selection) -> dict[str, Any]:
    """The plan for the run record, and what the command line had asked for."""
    plan = planned.plan
    return {
        "score": [
            {
                "partition": task.name,
                "why": task.why,
                "documents": planned.rows.get(task.partition.values),
                "bytes": task.partition.size,
            }
            for task in plan.score
        ],
        "relabel": [task.name for task in plan.relabel],
        "remove": [e.partition for e in plan.remove],
        "up_to_date": len(plan.up_to_date),
        "kept": dict(plan.kept),
        "gone": list(plan.gone),
        "unclear": dict(plan.unclear),
        "not_ready": sorted(planned.corpus.waiting),
        "later": plan.later,
        "selection": selection.about(),
    }


def estimate_lines(planned: Planned, rates: Rates | None) -> list[str]:
    """What the plan would cost."""
    if rates is None:
        return ["  estimate: nothing to score"]
    tokens, seconds = planned.documents * rates.tokens_per_document, planned.documents / rates.documents_per_second
    return [
        f"  estimate: about {tokens:,.0f} tokens, {duration(seconds)} ({seconds / 3600:.2f} hours) at "
        f"{rates.documents_per_second:,.0f} documents/s, by {rates.source}"
    ]


def model_lines(artifact: Artifact) -> list[str]:
    """Which model, and what must be known about it before its labels are used."""
    lines = [f"model: {artifact.path} ({artifact.model_id})"]
    verdicts = {trait: artifact.better_than_chance(trait) for trait in TRAITS}
    silent = artifact.silent_traits
    if unproven := [trait for trait, verdict in verdicts.items() if verdict is False and trait not in silent]:
        lines.append(f"  warning: by its evaluation no better than chance for {', '.join(unproven)}")
    unknown = [trait for trait, verdict in verdicts.items() if verdict is None and trait not in silent]
    if unknown and artifact.evaluation:
        lines.append(
            f"  warning: its evaluation does not tell whether it is better than chance for {', '.join(unknown)}"
        )
    if not artifact.evaluation:
        lines.append("  note: it has no evaluation.json, so nothing is known about how good it is")
    return lines


def summary_of(outcome: Outcome) -> dict[str, Any]:
    """The numbers of a run: results as counted in the written files, and work as counted by the workers."""
    entries = list(outcome.committed.values())
    documents = sum(e.documents for e in entries)
    seconds = sum(s["seconds"] for s in outcome.steps if s["what"] == "scored")
    found = {
        "documents_in": outcome.documents_in,
        "documents_out": documents,
        "documents_by_status": {s: sum(getattr(e, s) for e in entries) for s in STATUSES},
        "truncated": sum(e.truncated for e in entries),
        "tokens": sum(e.n_tokens for e in entries),
        "windows": sum(e.n_windows for e in entries),
        "scoring_seconds": round(seconds, 3),
        "documents_per_second": round(documents / seconds, 2) if seconds else 0.0,
        "partitions": {name: _partition(e) for name, e in {**outcome.committed, **outcome.relabelled}.items()},
        "removed_partitions": outcome.removed,
        "relabelled_partitions": list(outcome.relabelled),
        "failed_partitions": outcome.failed,
        "steps": outcome.steps,
    }
    return found | (_effort(outcome.tally) if outcome.tally is not None else {})


def _partition(entry: Entry) -> dict[str, Any]:
    names = ("documents", *STATUSES, "truncated", "n_tokens", "n_windows", "seconds", "commit")
    rate = round(entry.documents / entry.seconds, 2) if entry.seconds else 0.0
    return {name: getattr(entry, name) for name in names} | {"documents_per_second": rate}


def _effort(tally: Tally) -> dict[str, Any]:
    effort = tally.effort
    return {
        "padding_share": round(effort.padding_share, 4),
        "worker_seconds": effort.worker_seconds | {"load": round(tally.load_seconds, 3)},
        "batches": effort.batches,
        "repeats": effort.repeats,
        "workers": len(tally.loads),
        "model_loads": sum(tally.loads.values()),
        "documents_evaluated": tally.documents,
        "threads_per_worker": tally.threads,
        "worker_warnings": tally.heard.about(),
        "worker_warnings_left_out": tally.heard.left_out,
    }


def summary_lines(summary: Mapping[str, Any], output: str) -> list[str]:
    lines = []
    if summary["documents_in"] or "workers" in summary:
        by_status = ", ".join(f"{n:,} {s}" for s, n in summary["documents_by_status"].items() if n or s == "scored")
        repeats = f"; {n:,} repeated others" if (n := summary.get("repeats", 0)) else ""
        lines += [
            f"done: {summary['documents_in']:,} documents in, {summary['documents_out']:,} out: {by_status}{repeats}",
            f"  {summary['tokens']:,} tokens in {summary['windows']:,} windows, {summary['truncated']:,} texts cut, "
            f"padding {100 * summary.get('padding_share', 0):.1f} %",
        ]
    if "workers" in summary:
        spent = summary["worker_seconds"]
        lines += [
            f"  {summary['documents_per_second']:,.0f} documents/s over {duration(summary['scoring_seconds'])} "
            f"with model {summary['model_id']} in {summary['precision']} on {summary['device']}",
            f"  {summary['workers']} Python workers spent {spent['tokenize']:.1f} s in the tokenizer, "
            f"{spent['model']:.1f} s in the model, {spent['load']:.1f} s loading it",
            *_warning_lines(summary),
        ]
    if relabelled := summary["relabelled_partitions"]:
        lines.append(f"labels computed again from the stored probabilities: {_some(relabelled)}")
    if removed := summary["removed_partitions"]:
        lines.append(f"removed: {_some(removed)}")
    return [*lines, f"  table: {output}"]


def _warning_lines(summary: Mapping[str, Any]) -> list[str]:
    warnings = summary["worker_warnings"]
    lines = [f"  workers warned {w['times']:,} x: {w['message']}" for w in warnings[:_SHOWN_WARNINGS]]
    if len(warnings) > _SHOWN_WARNINGS:
        lines.append(f"  workers warned of {len(warnings) - _SHOWN_WARNINGS:,} other things, see the run record")
    return lines


def failure_line(failed: Mapping[str, str], of: int) -> str:
    """How many of `of` partitions failed, and why the first few did; the run record has all reasons."""
    shown = list(failed.values())[:_SHOWN_FAILURES]
    more = f"; and {len(failed) - len(shown):,} more, see the run record" if len(failed) > len(shown) else ""
    return f"{len(failed):,} of {of:,} partition{'' if of == 1 else 's'} failed: {'; '.join(shown)}{more}"


def _rows(planned: Planned, partition: Partition) -> str:
    rows = planned.rows.get(partition.values)
    return "can't be read" if rows is None else f"{rows:,} documents"


def _parts(n: int, columns: Sequence[str]) -> str:
    if not columns:
        return f"{n:,} group{'' if n == 1 else 's'} of files"
    return f"{n:,} partition{'' if n == 1 else 's'} by {', '.join(columns)}"


def _loading(relabel: Sequence[Task]) -> str:
    """What the model is needed for when labels are computed again."""
    reduced = sorted({task.entry.precision for task in relabel if task.entry and task.entry.scored} - {"fp32"})
    return f"a sample is scored first, in {' and '.join(reduced)} and in fp32" if reduced else "the model is not loaded"


def _some(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:3]) + (f" and {len(found) - 3:,} more" if len(found) > 3 else "")


def _size(n_bytes: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:,.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000  # type: ignore[assignment]
    return f"{n_bytes:,.1f} TB"
