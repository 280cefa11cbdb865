"""The plan before a run and the summary after it: for a terminal, and as numbers for the run record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bigfive_udf.model.artifact import Artifact
from bigfive_udf.spark.progress import duration
from bigfive_udf.spark.tally import Tally
from bigfive_udf.tables.partitions import Layout, Values, partition_name
from bigfive_udf.traits import STATUSES, TRAITS

_SHOWN_PARTITIONS = 12


def plan_lines(layout: Layout, rows: Mapping[Values, int], source: str, output: str) -> list[str]:
    """What will be scored, a line per partition up to a dozen."""
    size = sum(p.size for p in layout.partitions)
    known_size = f", {_size(size)}" if size else ""
    lines = [f"plan: {source} -> {output}", f"  {_count(layout)}, {sum(rows.values()):,} documents{known_size}"]
    if layout.columns:
        for p in layout.partitions[:_SHOWN_PARTITIONS]:
            size_column = f"  {_size(p.size):>9}" if p.files else ""
            lines.append(
                f"  {partition_name(layout.columns, p.values):<28} {rows[p.values]:>12,} documents{size_column}"
            )
        if len(layout.partitions) > _SHOWN_PARTITIONS:
            lines.append(f"  ... and {len(layout.partitions) - _SHOWN_PARTITIONS:,} more")
    return lines


def plan_of(layout: Layout, rows: Mapping[Values, int]) -> list[dict[str, Any]]:
    """The plan for the run record."""
    return [
        {"partition": partition_name(layout.columns, p.values) or "all", "documents": rows[p.values], "bytes": p.size}
        for p in layout.partitions
    ]


def model_lines(artifact: Artifact) -> list[str]:
    """Which model, and what must be known about it before its labels are used."""
    lines = [f"model: {artifact.path} ({artifact.model_id})"]
    verdicts = {trait: artifact.better_than_chance(trait) for trait in TRAITS}
    if unproven := [trait for trait, verdict in verdicts.items() if verdict is False]:
        lines.append(f"  warning: by its evaluation no better than chance for {', '.join(unproven)}")
    if all(verdict is None for verdict in verdicts.values()):
        lines.append("  note: it has no evaluation.json, so nothing is known about how good it is")
    return lines


def summary_of(
    columns: Sequence[str],
    rows: Mapping[Values, int],
    counts: Mapping[Values, Mapping[str, int]],
    tally: Tally,
    seconds: float,
) -> dict[str, Any]:
    """The numbers of a run. `rows` is what went in, `counts` what was found in the written files."""
    total = {name: sum(c[name] for c in counts.values()) for name in next(iter(counts.values()), {})}
    effort = tally.effort
    return {
        "documents_in": sum(rows.values()),
        "documents_out": total.get("documents", 0),
        "documents_by_status": {s: total.get(s, 0) for s in STATUSES},
        "truncated": total.get("truncated", 0),
        "tokens": total.get("n_tokens", 0),
        "windows": total.get("n_windows", 0),
        "padding_share": round(1 - effort.tokens / effort.padded_tokens, 4) if effort.padded_tokens else 0.0,
        "scoring_seconds": round(seconds, 3),
        "documents_per_second": round(total.get("documents", 0) / seconds, 2) if seconds else 0.0,
        "worker_seconds": {
            "tokenize": round(effort.tokenize_seconds, 3),
            "model": round(effort.model_seconds, 3),
            "load": round(tally.load_seconds, 3),
        },
        "batches": effort.batches,
        "workers": len(tally.loads),
        "model_loads": sum(tally.loads.values()),
        "documents_evaluated": tally.documents,
        "threads_per_worker": tally.threads,
        "partitions": {
            partition_name(columns, v) or "all": dict(c) for v, c in sorted(counts.items(), key=lambda i: str(i[0]))
        },
    }


def summary_lines(summary: Mapping[str, Any], output: str) -> list[str]:
    by_status = ", ".join(f"{n:,} {s}" for s, n in summary["documents_by_status"].items() if n or s == "scored")
    spent = summary["worker_seconds"]
    return [
        f"done: {summary['documents_in']:,} documents in, {summary['documents_out']:,} out: {by_status}",
        f"  {summary['tokens']:,} tokens in {summary['windows']:,} windows, {summary['truncated']:,} texts cut, "
        f"padding {100 * summary['padding_share']:.1f} %",
        f"  {summary['documents_per_second']:,.0f} documents/s over {duration(summary['scoring_seconds'])} "
        f"with model {summary['model_id']} in {summary['precision']} on {summary['device']}",
        f"  {summary['workers']} Python workers spent {spent['tokenize']:.1f} s in the tokenizer, "
        f"{spent['model']:.1f} s in the model, {spent['load']:.1f} s loading it",
        f"  table: {output}",
    ]


def _count(layout: Layout) -> str:
    n = len(layout.partitions)
    if not layout.columns:
        return "no partition columns"
    return f"{n:,} partition{'' if n == 1 else 's'} by {', '.join(layout.columns)}"


def _size(n_bytes: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:,.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000  # type: ignore[assignment]
    return f"{n_bytes:,.1f} TB"
