"""Draw the results of `benchmarks.score` or `benchmarks.loops`.

python -m benchmarks.picture build/bench.json build/bench.png
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_OURS, _OTHER, _INK = "#2563a8", "#b9bec6", "#333333"
_USUAL = ("recipe", "transformers")
"""What the other systems are compared with: the first of these in the results."""


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(f"usage: python -m benchmarks.picture results.json picture.png{chr(10)}{__doc__}")
    source, target = map(Path, sys.argv[1:])
    picture(groups(read(source))).savefig(target, dpi=150)
    print(target)


def read(file: Path) -> list[dict[str, Any]]:
    """The results in the JSON of either benchmark."""
    results: list[dict[str, Any]] = json.loads(file.read_text())["results"]
    return results


def groups(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Rates of every turn, by size and workload and then by system, from the results of either benchmark."""
    found: dict[str, dict[str, list[float]]] = {}
    for entry in results:
        systems = found.setdefault(f"{entry['size']}, {entry['workload']} texts", {})
        if "engine" in entry:
            systems[entry["engine"]] = [entry["texts"] / seconds for seconds in entry["seconds"]]
        else:
            systems |= {name: of["texts_per_second"] for name, of in entry["systems"].items()}
    return found


def picture(found: dict[str, dict[str, list[float]]]) -> Figure:
    """A chart for each group: medians as bars, the fastest first, and a line from the slowest to the fastest turn."""
    heights = [len(systems) + 1.3 for systems in found.values()]
    figure = Figure(figsize=(8, 0.34 * sum(heights) + 0.3), layout="constrained")
    charts = figure.subplots(len(found), 1, squeeze=False, height_ratios=heights)[:, 0]
    for chart, (name, systems) in zip(charts, found.items(), strict=True):
        medians = {system: statistics.median(rates) for system, rates in systems.items()}
        usual = next((medians[system] for system in _USUAL if system in medians), None)
        order = sorted(medians, key=lambda system: medians[system])
        for row, system in enumerate(order):
            rates, median = systems[system], medians[system]
            ours = system.split()[0] in ("ours", "fp32", "bf16", "int8")
            chart.barh(row, median, color=_OURS if ours else _OTHER, height=0.7)
            chart.plot([min(rates), max(rates)], [row, row], color=_INK, linewidth=1)
            ratio = f"   {median / usual:.1f} x" if usual and system not in _USUAL else ""
            chart.text(
                max(rates), row, f"  {median:,.{0 if median >= 10 else 1}f}{ratio}", va="center", color=_INK, fontsize=9
            )
        chart.set_yticks(range(len(order)), order, fontsize=9)
        chart.set_title(f"{name}: texts per second", loc="left", fontsize=10, color=_INK)
        chart.set_xlim(0, 1.25 * max(max(rates) for rates in systems.values()))
        chart.tick_params(axis="x", labelsize=8)
        chart.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
