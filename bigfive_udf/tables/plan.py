"""What a run has to do, from the corpus's partitions and the ledger's entries; nothing is read or written here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bigfive_udf.errors import RefusedError
from bigfive_udf.tables.fingerprint import ScoreRecipe
from bigfive_udf.tables.ledger import Entry
from bigfive_udf.tables.partitions import Partition

Policy = Literal["refuse", "rescore", "only_new"]

NEW, INPUT, SETTINGS, MODEL, COLUMNS, FORCED, DAMAGED = (
    "new", "input changed", "settings changed", "another model", "other columns", "asked for", "damaged in the table"
)  # fmt: skip
THRESHOLDS = "other thresholds"
OUTSIDE, NOT_READY = "outside of input.path", "there is no file yet, nor the ready file"
WRITTEN = (
    "its directory holds no file but what somebody is writing (_temporary or the like): run again when that is done, "
    "or remove what was left over"
)
PARTLY_SEEN = "input.path names only some of its files: give a path to all of them, or choose another output.path"
_LOST = (
    "the table no longer holds what was written, and it is gone from the input: restore it from a backup of one of the "
    "two, or remove it with --prune"
)

# Reasons to score a partition again that nobody asked for: a restore or a copy of the corpus would cause them.
_UNASKED = (INPUT, SETTINGS)


@dataclass(frozen=True)
class Policies:
    """What the settings and flags say about scoring partitions again."""

    on_model_change: Policy = "refuse"
    on_schema_change: Policy = "refuse"
    max_rescored_share: float = 0.2
    rescore: bool = False
    prune: bool = False
    limit: int | None = None
    check_labels: bool = False
    """labels are computed again only where it can be checked that the probabilities are exact enough"""


@dataclass(frozen=True)
class Task:
    """One partition of a plan, and why it is there; `entry` is its entry in the ledger, if any."""

    name: str
    partition: Partition
    input: str
    why: str
    entry: Entry | None = None


@dataclass(frozen=True)
class Plan:
    """What a run will do, and what it leaves as it is."""

    score: tuple[Task, ...] = ()
    relabel: tuple[Task, ...] = ()
    """partitions of which only the labels are computed again, from the stored probabilities"""
    remove: tuple[Entry, ...] = ()
    """partitions that are gone from the input and will be removed from the table"""
    together: frozenset[str] = frozenset()
    """groups that may now hold texts of each other or of `remove`; a limit may leave some of these groups for later"""
    unclear: Mapping[str, str] = field(default_factory=dict)
    """partitions that are left unchanged, each with the reason why somebody has to look at it"""
    gone: tuple[str, ...] = ()
    """partitions that are gone from the input and stay in the table"""
    up_to_date: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    """partitions that are left unchanged, each with the reason, such as another model or not being in input.path"""
    later: int = 0
    """partitions that a limit leaves for another run"""

    @property
    def empty(self) -> bool:
        return not (self.score or self.relabel or self.remove)

    @property
    def size(self) -> int:
        """Number of partitions that can fail."""
        return len(self.score) + len(self.relabel) + len(self.unclear)

    def reasons(self) -> dict[str, int]:
        """The number of partitions to score, by reason."""
        return dict(Counter(task.why for task in self.score))


@dataclass(frozen=True)
class FoundCorpus:
    """The corpus as it was found; `partitions` has each partition and the digest of its input, by name."""

    partitions: Mapping[str, tuple[Partition, str]]
    selected: frozenset[str]
    """the partitions that the command line's conditions allow"""
    gone_selected: frozenset[str]
    """partitions that only the ledger has and that the command line's conditions allow"""
    waiting: frozenset[str] = frozenset()
    """partitions that are there, but not ready to be scored"""
    left: Mapping[str, str] = field(default_factory=dict)
    """ledger partitions that this run could not see but that may still exist: left unchanged, each with the reason"""
    unclear: Mapping[str, str] = field(default_factory=dict)
    """like `left`, but allowed by the command line, and somebody has to look at them; each with the reason"""
    in_groups: bool = False
    """whether the partitions are groups of files: if a group's files are gone, its texts may be in another group"""

    def may_be_there(self, name: str) -> bool:
        """Whether a ledger partition may still be in the input."""
        return any(name in some for some in (self.partitions, self.waiting, self.left, self.unclear))


def make_plan(
    found: FoundCorpus,
    entries: Mapping[str, Entry],
    recipe: ScoreRecipe,
    policies: Policies,
    damaged: frozenset[str] = frozenset(),
) -> Plan:
    """Decide what to do with every partition.

    `entries` are the committed ledger entries, `damaged` the partitions whose files in the table differ from them.

    Raises:
        RefusedError: it would mix models or schemas, or score more of the table again than allowed.
    """
    score: list[Task] = []
    relabel: list[Task] = []
    current: list[str] = []
    kept = {name: found.left[name] for name in entries if name in found.left}
    for name, (partition, digest) in found.partitions.items():
        entry = entries.get(name)
        if name not in found.selected:
            continue
        why, relabelled = _why(entry, digest, recipe, name in damaged)
        task = Task(name, partition, digest, why or FORCED, entry)
        if policies.rescore:
            score.append(task)
        elif why in (MODEL, COLUMNS):
            policy = policies.on_model_change if why == MODEL else policies.on_schema_change
            if policy == "rescore":
                score.append(task)
            else:
                kept[name] = why
        elif why:
            score.append(task)
        elif relabelled:
            relabel.append(Task(name, partition, digest, THRESHOLDS, entry))
        else:
            current.append(name)
    gone = [name for name in entries if not found.may_be_there(name)]
    # A file that is rewritten under another name is in another group: its texts must not be in the table twice.
    pruned = {name for name in gone if found.in_groups or (policies.prune and name in found.gone_selected)}
    unclear = {name: f"{name}: {why}" for name, why in sorted(found.unclear.items())}
    gone_selected = [name for name in gone if name in found.gone_selected and name not in pruned]
    unclear |= {name: f"{name}: {_LOST}" for name in gone_selected if name in damaged}
    # Labels need the table alone. Partitions scored by an old model or other settings keep their old labels.
    checked = {"fp32", *(task.entry.precision for task in relabel if task.entry)}
    for name in gone_selected:
        entry = entries[name]
        why, relabelled = _why(entry, entry.input, recipe, damaged=False)
        if name in damaged or why or not relabelled:
            continue
        if entry.precision in checked or not entry.scored or not policies.check_labels:
            relabel.append(Task(name, Partition(tuple(entry.values.values())), entry.input, THRESHOLDS, entry))
        else:
            kept[name] = (
                f"labels by other thresholds, for which nobody can tell any more whether {entry.precision} will do"
            )
    together = _together(score, pruned) if found.in_groups else frozenset()
    if together:  # groups that have lost files first: no other group may show their texts before they have dropped them
        score.sort(key=lambda task: (task.name not in together, task.entry is None))
    later = 0
    if policies.limit is not None:
        later = max(0, len(score) + len(relabel) - policies.limit)
        score = score[: policies.limit]
        relabel = relabel[: policies.limit - len(score)]
    plan = Plan(
        tuple(score),
        tuple(relabel),
        tuple(entries[name] for name in gone if name in pruned),
        together,
        unclear,
        tuple(name for name in gone if name not in pruned),
        tuple(current),
        kept,
        later,
    )
    scored = {task.name for task in score}
    there = [*found.partitions, *found.left, *found.unclear, *(found.waiting if score else ())]
    left = [entries[name] for name in there if name in entries and name not in scored]
    if policies.on_model_change == "refuse" and (others := [e for e in left if e.model_id != recipe.model_id]):
        had, now = f"scores of model {others[-1].model_id}", f"model.path is {recipe.model_id}"
        raise _mixture("on_model_change", others, entries, had, now)
    if policies.on_schema_change == "refuse" and (others := [e for e in left if tuple(e.columns) != recipe.columns]):
        had, now = f"columns {', '.join(others[-1].columns)}", f"the settings carry {', '.join(recipe.columns)}"
        raise _mixture("on_schema_change", others, entries, had, now)
    staying = [e for name, e in entries.items() if name not in scored and name not in pruned]
    _refuse_two_pseudonymisations(staying, entries, recipe)
    _refuse_surprise(plan, entries, recipe, policies)
    return plan


def _together(score: Sequence[Task], pruned: set[str]) -> frozenset[str]:
    """The groups between which files may have moved: new groups, and known groups that have lost files."""
    new = {task.name for task in score if task.entry is None}
    fewer = {task.name for task in score if task.entry and len(task.partition.files) < len(task.entry.group)}
    return frozenset(new | fewer) if new and (fewer or pruned) else frozenset()


def _why(entry: Entry | None, digest: str, recipe: ScoreRecipe, damaged: bool) -> tuple[str, bool]:
    """The reason to score a partition, empty if there is none, and whether its labels must be computed again."""
    if entry is None:
        return NEW, False
    if damaged:
        return DAMAGED, False
    if entry.input != digest:
        return INPUT, False
    # Another model comes first: under only_new, an old model's partition also keeps its settings and its columns.
    if entry.model_id != recipe.model_id:
        return MODEL, False
    if dict(entry.settings) != dict(recipe.settings):
        return SETTINGS, False
    if tuple(entry.columns) != recipe.columns or dict(entry.pseudonyms) != dict(recipe.pseudonyms):
        return COLUMNS, False
    return "", dict(entry.thresholds) != dict(recipe.thresholds)


def _refuse_two_pseudonymisations(staying: Sequence[Entry], entries: Mapping[str, Entry], recipe: ScoreRecipe) -> None:
    """Refuse a table in which one person would have two pseudonyms, whatever the policies say."""
    others = [e for e in staying if dict(e.pseudonyms) != dict(recipe.pseudonyms)]
    if not others:
        return
    documents, total = sum(e.documents for e in others), sum(e.documents for e in entries.values())
    had, now = _names(others[-1].pseudonyms), _names(recipe.pseudonyms)
    raise RefusedError(
        f"{_partitions(len(others))} of the table ({documents:,} of {total:,} documents) have {had}, the settings ask "
        f"for {now}, and nobody may have two names in one table: set on_schema_change to rescore and run over all of "
        "it, with --prune where partitions are gone from the input, or choose another output.path"
    )


def _names(pseudonyms: Mapping[str, str]) -> str:
    return ", ".join(f"{c} by key {key}" for c, key in pseudonyms.items()) or "no pseudonyms"


def _mixture(key: str, others: Sequence[Entry], entries: Mapping[str, Entry], had: str, now: str) -> RefusedError:
    documents, total = sum(e.documents for e in others), sum(e.documents for e in entries.values())
    return RefusedError(
        f"{_partitions(len(others))} of the table ({documents:,} of {total:,} documents) have {had}, {now}: "
        f"set {key} to rescore (score them again) or only_new (they stay as they are), or choose another output.path"
    )


def _refuse_surprise(plan: Plan, entries: Mapping[str, Entry], recipe: ScoreRecipe, policies: Policies) -> None:
    """Refuse to score again or remove more of the table than allowed, where nobody asked for it."""
    again = [task for task in plan.score if task.why in _UNASKED and task.entry is not None]
    removed = () if policies.prune else plan.remove
    if policies.rescore:  # scoring again was asked for; taking partitions out was not
        again = []
    documents = sum(task.entry.documents for task in again if task.entry) + sum(e.documents for e in removed)
    total = sum(e.documents for e in entries.values())
    if documents <= policies.max_rescored_share * total:
        return
    why = Counter(task.why for task in again) + Counter({"its files are gone": len(removed)})
    reasons = ", ".join(f"{_partitions(n)}: {what}" for what, n in why.items())
    what = " or ".join(["scored again"] * bool(again) + ["taken out"] * bool(removed))
    settings = {change for task in again if task.entry for change in changed_settings(task.entry, recipe)}
    detail = f": {', '.join(sorted(settings))}" if settings else ""
    raise RefusedError(
        f"{documents:,} of the table's {total:,} documents would be {what} ({reasons}{detail}), more than "
        f"plan.max_rescored_share {policies.max_rescored_share:g} allows: find out what touched them, or set it to 1 "
        "for this run if that is meant"
    )


def changed_settings(entry: Entry, recipe: ScoreRecipe) -> list[str]:
    """The settings that differ from those of the entry, each with its old and new value."""
    keys = sorted({*entry.settings, *recipe.settings})
    pairs = [(key, entry.settings.get(key), recipe.settings.get(key)) for key in keys]
    return [f"{key} {old!r} -> {new!r}" for key, old, new in pairs if old != new]


def _partitions(n: int) -> str:
    return f"{n:,} partition{'' if n == 1 else 's'}"
