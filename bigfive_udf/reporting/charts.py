"""The charts of the page: matplotlib draws them as SVG, and the page sets their colours, for light and dark mode."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bigfive_udf.reporting.bins import DRAWN
from bigfive_udf.reporting.counts import LENGTHS
from bigfive_udf.traits import TRAITS

# Stand-ins for matplotlib, which knows no CSS: each is replaced by the page's CSS for that colour.
_INK, _MUTED, _GRID, _ONE, _TWO, _BAND = "#010203", "#020304", "#030405", "#040506", "#050607", "#060708"
_CSS = {
    _INK: "currentColor",
    _MUTED: "var(--muted)",
    _GRID: "var(--grid)",
    _ONE: "var(--one)",
    _TWO: "var(--two)",
    _BAND: "var(--band)",
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _MUTED,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "ytick.major.size": 0,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "lines.solid_capstyle": "round",
}
_MOST_DOTS = 60
_SMALL, _WIDE = (3.4, 2.0), (7.0, 2.2)
_PLACES = re.compile(r'\b(?:d|x|y|transform)="[^"]*"')
_DIGITS = re.compile(r"(\d+\.\d\d)\d+")
_PERCENT = FuncFormatter(lambda x, _: f"{100 * x:g} %")
_THOUSANDS = FuncFormatter(lambda x, _: f"{x:,.10g}")


def charts(figures: Mapping[str, Any]) -> dict[str, Markup]:
    """All charts of the page, by their names in its template."""
    with matplotlib.rc_context(_STYLE):
        made = {f"distribution_{trait}": _distribution(trait, figures["traits"][trait]) for trait in TRAITS}
        made |= {f"time_{trait}": _over_time(trait, figures["partitions"]) for trait in TRAITS}
        made["documents"] = _bars("documents", "Texts by partition", figures["partitions"], "documents")
        made["tokens"] = _bars(
            "tokens", "Tokens in a text, mean, by partition", figures["partitions"], "tokens_per_text"
        )
        made["shares"] = _shares(figures["partitions"])
        made["lengths"] = _lengths(figures["lengths"])
        made["rates"] = _bars("rates", "Texts per second by partition", figures["partitions"], "documents_per_second")
        if figures["drift"]["traits"]:
            made["drift"] = _drift(figures["drift"]["traits"])
        if any(run["seconds"] for run in figures["runs"]):
            made["stages"] = _stages(figures["runs"])
    return made


def _distribution(trait: str, about: Mapping[str, Any]) -> Markup:
    figure, axes = _small()
    edges = np.linspace(0, 1, DRAWN + 1)
    for counts, name in ((about["bins"], "page"), (about["reference_bins"], "reference")):
        total = sum(counts) if counts else 0
        if not total:
            continue
        shares = np.array(counts) / total
        if name == "page":
            axes.bar(edges[:-1], shares, width=1 / DRAWN * 0.86, align="edge", color=_ONE)
        else:
            axes.stairs(shares, edges, color=_TWO, linewidth=1.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel("probability")
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    described = "a bar for every twentieth" + ("; the line is the reference" if about["reference_bins"] else "")
    return _svg(figure, f"distribution-{trait}", f"Distribution of the probabilities of {trait}", described)


def _over_time(trait: str, partitions: Sequence[Mapping[str, Any]]) -> Markup:
    figure, axes = _small()
    about = [p["traits"][trait] for p in partitions]
    x = np.arange(len(about))
    q = np.array([[np.nan if v is None else v for v in a["quantiles"]] for a in about], float)
    shares = np.array([np.nan if a["label_share"] is None else a["label_share"] for a in about], float)
    if len(about) == 1:  # a band needs two points
        x, q, shares = np.array([-0.3, 0.3]), np.repeat(q, 2, 0), np.repeat(shares, 2)
    axes.fill_between(x, q[:, 0], q[:, 4], color=_BAND, linewidth=0)
    axes.fill_between(x, q[:, 1], q[:, 3], color=_BAND, linewidth=0)
    axes.plot(x, q[:, 2], color=_ONE, linewidth=2)
    axes.plot(x, shares, color=_TWO, linewidth=1.6, linestyle=(0, (4, 2)))
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    _name_partitions(axes, partitions)
    title = f"Probabilities and labels of {trait} by partition"
    return _svg(figure, f"time-{trait}", title, "median with bands of half and of four fifths; dashed: positive labels")


def _bars(key: str, title: str, partitions: Sequence[Mapping[str, Any]], name: str) -> Markup:
    figure, axes = _small()
    axes.bar(range(len(partitions)), [p[name] or 0 for p in partitions], color=_ONE, width=0.8)
    axes.yaxis.set_major_formatter(_THOUSANDS)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    _name_partitions(axes, partitions)
    return _svg(figure, key, title, "a bar for every partition")


def _shares(partitions: Sequence[Mapping[str, Any]]) -> Markup:
    figure, axes = _small()
    x = np.arange(len(partitions))
    highest = 0.0
    for name, style in (("empty", _ONE), ("failed", _TWO), ("truncated", _MUTED)):
        values = [p[name] / p["documents"] if p["documents"] else 0.0 for p in partitions]
        highest = max(highest, *values)
        kind = {"empty": "-", "failed": (0, (4, 2)), "truncated": ":"}[name]
        dots: dict[str, Any] = {"marker": "o", "markersize": 3} if len(x) <= _MOST_DOTS else {}
        axes.plot(x, values, color=style, linewidth=1.8, linestyle=kind, label=name.replace("truncated", "cut"), **dots)
    axes.set_ylim(0, max(0.001, 1.4 * highest))
    axes.legend(loc="upper left", ncols=3, frameon=False, fontsize=9, handlelength=1.6, columnspacing=1.2)
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    _name_partitions(axes, partitions)
    return _svg(figure, "shares", "Share of empty, failed and cut texts by partition", "a line for each of the three")


def _lengths(lengths: Sequence[Mapping[str, Any]]) -> Markup:
    figure, axes = _small()
    axes.bar(range(len(lengths)), [c["texts"] for c in lengths], color=_ONE, width=0.86)
    every_second = range(0, len(LENGTHS), 2)
    axes.set_xticks(every_second, [str(LENGTHS[i]) for i in every_second])
    axes.set_xlabel("tokens, from")
    axes.yaxis.set_major_formatter(_THOUSANDS)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    return _svg(figure, "lengths", "Texts by their length in tokens", "a bar for every class of lengths")


def _drift(traits: Mapping[str, Mapping[str, Any]]) -> Markup:
    figure = Figure(figsize=_WIDE, layout="constrained")
    axes = figure.subplots()
    for i, about in enumerate(traits.values()):
        if about["distance"] is None:
            continue
        if about["ordinary"] is not None:
            axes.barh(i, about["ordinary"], color=_BAND, height=0.75)
        beyond = about["grade"] not in ("none", "not known")
        axes.barh(i, about["distance"], color=_TWO if beyond else _ONE, height=0.36)
    axes.set_yticks(range(len(traits)), list(traits), color=_INK, fontsize=10)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.set_xlim(left=0)
    axes.set_xlabel("largest difference of shares below one probability (KS distance)")
    return _svg(figure, "drift", "How far each trait has moved", "a bar for every trait, over a band that is ordinary")


def _stages(runs: Sequence[Mapping[str, Any]]) -> Markup:
    known = [run for run in runs if run["seconds"]][-20:]
    figure = Figure(figsize=(_WIDE[0], 0.9 + 0.3 * len(known)), layout="constrained")
    axes = figure.subplots()
    for i, run in enumerate(known):
        scoring = run["scoring_seconds"] or 0.0
        axes.barh(i, scoring, color=_ONE, height=0.6)
        axes.barh(i, run["seconds"] - scoring, left=scoring, color=_TWO, height=0.6)
    axes.set_yticks(range(len(known)), [run["run_id"].split("-")[0] for run in known])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.set_xlabel("seconds")
    axes.xaxis.set_major_formatter(_THOUSANDS)
    return _svg(figure, "stages", "Seconds of each run", "a bar for every run: scoring, then all else")


def _small() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SMALL, layout="constrained")
    return figure, figure.subplots()


def _name_partitions(axes: Axes, partitions: Sequence[Mapping[str, Any]]) -> None:
    """Label the first, the middle and the last partition with their values only: more labels do not fit on a phone."""
    n = len(partitions)
    at = sorted({0, n // 2, n - 1} if n != 2 else {0, 1})
    names = ["/".join(part.rpartition("=")[2] for part in partitions[i]["partition"].split("/")) for i in at]
    # matplotlib must not read a part of a name as its own notation.
    shown = [name.replace("$", r"\$") if len(name) <= 12 else name[:11].replace("$", r"\$") + "…" for name in names]
    axes.set_xticks(at, shown)
    if n > 2:
        first, _, last = axes.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
    axes.set_xlim(-0.5, n - 0.5)


def _svg(figure: Figure, key: str, title: str, described: str) -> Markup:
    """The figure as an element of the page: described for screen readers, of any width, in the page's colours."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": key}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = buffer.getvalue()
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :], flags=re.DOTALL)
    drawn = re.sub(r"<!--.*?-->\s*", "", drawn, flags=re.DOTALL)
    # A hundredth of a point is finer than any screen: a year of partitions would be megabytes of digits.
    drawn = _PLACES.sub(lambda m: _DIGITS.sub(r"\1", m[0]), drawn)
    for stand_in, colour in _CSS.items():
        drawn = drawn.replace(stand_in, colour)
    # One page has many figures, and matplotlib gives the parts of each figure the same ids.
    drawn = re.sub(r'\bid="', f'id="{key}-', drawn)
    drawn = re.sub(r'(href="#|url\(#)', rf"\g<1>{key}-", drawn)
    box = re.search(r'viewBox="[^"]*"', drawn)
    assert box is not None
    labels = f'<title id="{key}-title">{escape(title)}</title><desc id="{key}-desc">{escape(described)}</desc>'
    head = f'<svg class="chart" {box[0]} role="img" aria-labelledby="{key}-title" aria-describedby="{key}-desc">'
    return Markup(head + labels + drawn[drawn.index(">") + 1 :])  # matplotlib escapes the text that it writes
