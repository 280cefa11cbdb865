"""Which partitions a report covers, and which ones drift is judged against, decided from the ledger's entries only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bigfive_udf.errors import InputError, SettingsError
from bigfive_udf.settings.report import ReferenceSettings, ReportedPartitionsSettings
from bigfive_udf.tables.ledger import Entry
from bigfive_udf.tables.partitions import Layout, Partition, Selection, select

TABLE, OWN_HALF, ARTIFACT, NOTHING = "table", "first half", "artifact", "none"
_LEAST_FOR_HALVES = 4


@dataclass(frozen=True)
class Stretch:
    """The partitions of a page, in order, and the two sides of its comparison."""

    shown: tuple[Entry, ...]
    current: tuple[Entry, ...]
    """the side that is judged: partitions that were scored by the model of the last partition"""
    reference: tuple[Entry, ...]
    """the side that `current` is compared with; empty where that is the artifact or nothing"""
    kind: str
    """where the reference is from"""
    other_models: int = 0
    """partitions that would belong to a side, but were scored by another model"""
    whole: bool = True
    """whether the page goes up to the table's last partition"""

    @property
    def model_id(self) -> str:
        return self.shown[-1].model_id

    @property
    def counted(self) -> tuple[Entry, ...]:
        """All partitions whose rows are needed, in order: those of the page, and those of the reference."""
        return tuple(in_order({e.partition: e for e in (*self.reference, *self.shown)}.values()))


def choose(
    entries: Mapping[str, Entry],
    columns: Sequence[str],
    wanted: ReportedPartitionsSettings,
    reference: ReferenceSettings,
) -> Stretch:
    """Choose from the table's committed partitions, which are divided by `columns`.

    Raises:
        InputError: none is chosen.
        SettingsError: a setting names no partition column.
    """
    ordered = in_order(entries.values())
    if not ordered:
        raise InputError("the table has no partition yet: run jobs/score.py first")
    if wanted.run is not None:
        shown = [e for e in ordered if e.run_id == wanted.run]
        if not shown:
            raise InputError(
                f"partitions.run {wanted.run}: no partition of the table is of this run; the last one was "
                f"{max(e.run_id for e in ordered)}"
            )
    else:
        shown = _between(ordered, columns, "partitions", wanted.since, wanted.until)
    shown = shown[-wanted.last :]
    kind, candidates = _reference(ordered, shown, columns, reference)
    # Probabilities of different models must not be compared.
    model = shown[-1].model_id
    names = {e.partition for e in candidates}
    current = [e for e in shown if e.partition not in names]
    if kind == TABLE and not current:
        raise SettingsError(
            f"reference.until {reference.until}: nothing of the page is left to be judged; set it to an earlier "
            "partition, or partitions.until to a later one"
        )
    kept = [[e for e in side if e.model_id == model] for side in (current, candidates)]
    others = len(current) + len(candidates) - sum(map(len, kept))
    if kind in (TABLE, OWN_HALF) and not kept[1]:
        kind = NOTHING if reference.kind == "table" else ARTIFACT
        kept[0] = [e for e in shown if e.model_id == model]
    return Stretch(
        tuple(shown), tuple(kept[0]), tuple(kept[1]), kind, others, shown[-1].partition == ordered[-1].partition
    )


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Entries sorted by the values of the partition columns: as numbers if a column has only numbers; nulls last."""
    found = list(entries)
    columns = list(found[0].values) if found else []
    numeric = {
        c: all(v is None or _is_number(v) for e in found if (v := e.values.get(c)) or v is None) for c in columns
    }

    def key(entry: Entry) -> list[tuple[bool, float, str]]:
        values = ((c, entry.values.get(c)) for c in columns)
        return [(v is None, float(v) if v is not None and numeric[c] else 0.0, v or "") for c, v in values]

    return sorted(found, key=key)


def _reference(
    ordered: Sequence[Entry], shown: Sequence[Entry], columns: Sequence[str], wanted: ReferenceSettings
) -> tuple[str, list[Entry]]:
    if wanted.kind in ("artifact", "none"):
        return (ARTIFACT if wanted.kind == "artifact" else NOTHING), []
    if wanted.since is not None or wanted.until is not None:
        found = _between(ordered, columns, "reference", wanted.since, wanted.until)
        if wanted.until is None:
            first = ordered.index(shown[0])
            found = [e for e in found if e in ordered[:first]]
        if not found:
            raise InputError(f"reference.since {wanted.since}: no partition lies there and before the page's first one")
        return TABLE, found[-wanted.last :]
    before = ordered[: ordered.index(shown[0])]
    before, own = ([e for e in some if e.model_id == shown[-1].model_id] for some in (before, shown))
    if before:
        return TABLE, before[-wanted.last :]
    if wanted.kind == "table":
        raise InputError(
            f"reference.kind table: no partition lies before {shown[0].partition}; set reference.until to one of the "
            "page, or reference.kind to auto"
        )
    if len(own) >= _LEAST_FOR_HALVES:
        return OWN_HALF, own[: len(own) // 2]
    return ARTIFACT, []


def _between(
    ordered: Sequence[Entry], columns: Sequence[str], section: str, since: str | None, until: str | None
) -> list[Entry]:
    by_values = {tuple(e.values.values()): e for e in ordered}
    layout = Layout(tuple(columns), tuple(Partition(values) for values in by_values))
    numeric = frozenset(c for c in columns if all(_is_number(str(e.values[c])) for e in ordered))
    try:
        found = select(layout, Selection(since=since, until=until, numeric_columns=numeric))
    except SettingsError as error:
        raise SettingsError(str(error).replace("--", f"{section}.")) from None
    if not found:
        raise InputError(
            f"{section}.since {since}, {section}.until {until}: no partition of the table lies there; it has "
            f"{ordered[0].partition} to {ordered[-1].partition}"
        )
    return [by_values[p.values] for p in found]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
