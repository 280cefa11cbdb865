"""The page: one HTML file that needs nothing else, made of a template, the figures, the verdicts and the charts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from bigfive_udf.reporting.charts import charts
from bigfive_udf.reporting.verdicts import verdicts
from bigfive_udf.traits import TRAITS

_NUMBER = re.compile(r"\[\[([^\]:]+):(\w+)\]\]")
_NOTHING = "-"


def page_of(figures: Mapping[str, Any]) -> str:
    """The report as HTML. Every number of the figures stands in a `data` element that names its place in them."""

    def number(path: str, kind: str) -> Markup:
        value = _at(figures, path)
        if value is None:
            return Markup('<data data-figure="{}" value="">{}</data>').format(path, _NOTHING)
        return Markup('<data data-figure="{}" value="{}">{}</data>').format(path, f"{value:.12g}", _KINDS[kind](value))

    def sentence(text: str) -> Markup:
        parts = _NUMBER.split(text)
        filled = [escape(parts[0])]
        for path, kind, after in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            try:
                filled.append(number(path, kind))
            except (KeyError, IndexError, TypeError, ValueError):  # a partition's name looks like a placeholder
                filled.append(escape(f"[[{path}:{kind}]]"))
            filled.append(escape(after))
        return Markup("").join(filled)

    environment = Environment(
        loader=PackageLoader("bigfive_udf.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["when"] = _when
    template = environment.get_template("page.html.j2")
    return template.render(
        f=figures, n=number, say=sentence, verdicts=verdicts(figures), charts=charts(figures), traits=TRAITS
    )


def _at(figures: Mapping[str, Any], path: str) -> Any:
    found: Any = figures
    for key in path.split("."):
        found = found[int(key)] if isinstance(found, list) else found[key]
    return found


def _percent(share: float) -> str:
    """
    >>> _percent(0.4237), _percent(0.0004), _percent(0.000001), _percent(0.0)
    ('42.4 %', '0.04 %', '<0.01 %', '0 %')
    """
    if share == 0:
        return "0 %"
    if share < 0.0001:
        return "<0.01 %"
    return f"{100 * share:.2f} %" if share < 0.01 else f"{100 * share:.1f} %"


def _duration(seconds: float) -> str:
    """
    >>> _duration(8.42), _duration(140.4), _duration(7322)
    ('8.4 s', '2 min 20 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600:,} h {whole % 3600 // 60} min"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _when(text: str) -> str:
    """A record's time as people write it; a text that is not a time stays as it is."""
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return text


_KINDS: dict[str, Callable[[Any], str]] = {
    "int": lambda v: f"{v:,}",
    "share": _percent,
    "probability": lambda v: f"{v:.3f}",
    "rate": _rate,
    "duration": _duration,
    "decimal": lambda v: f"{v:,.1f}",
    "limit": lambda v: f"{v:g}",
    "money": lambda v: f"{v:,.2f}",
}
