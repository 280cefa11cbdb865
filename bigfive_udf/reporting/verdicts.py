"""The first screen: what ran, whether anything failed, whether anything has drifted, and whether the model is any good.

A sentence names a number by its place in the tree of figures, as in [[texts.documents:int]]; page.py fills it in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bigfive_udf.reporting.drift import LARGE, NONE, SMALL, UNKNOWN
from bigfive_udf.reporting.standing import BETTER, NOT_BETTER
from bigfive_udf.reporting.stretch import ARTIFACT, NOTHING, OWN_HALF

GOOD, LOOK, BAD, OPEN = "good", "look", "bad", "open"
"""how a verdict is marked; its words say the same"""


@dataclass(frozen=True)
class Verdict:
    """One card of the first screen."""

    question: str
    mark: str
    answer: str
    more: str


def verdicts(figures: Mapping[str, Any]) -> list[Verdict]:
    """The four cards, in the order in which a user asks the questions in the morning."""
    return [_ran(figures), _failed(figures), _drifted(figures), _good(figures)]


def _ran(figures: Mapping[str, Any]) -> Verdict:
    runs, n = figures["runs"], figures["stretch"]["partitions"]
    what = "[[stretch.partitions:int]] partitions hold" if n != 1 else "One partition holds"
    answer = f"{what} [[texts.documents:int]] texts"
    scored = "[[texts.scored:int]] scored, [[texts.empty:int]] empty, [[texts.failed:int]] failed."
    if not runs:
        return Verdict("What ran?", OPEN, answer, f"{scored} No run has left a record of them.")
    if runs[-1]["under_way"]:
        return Verdict("What ran?", LOOK, answer, f"{scored} A run is under way, or was killed: figures may change.")
    last = len(runs) - 1
    rate = f" at [[runs.{last}.documents_per_second:rate]] texts/s" if runs[-1]["documents_per_second"] else ""
    took = f" The last run took [[runs.{last}.seconds:duration]]{rate}." if runs[-1]["seconds"] is not None else ""
    return Verdict("What ran?", GOOD, answer, scored + took)


def _failed(figures: Mapping[str, Any]) -> Verdict:
    question = "Did anything fail?"
    open_ones = [f for f in figures["failures"] if f["mended_by"] is None and f["gone_by"] is None]
    if open_ones:
        names = _some([f["partition"] for f in open_ones])
        more = "No later run has scored them."
        if all(f["kept"] for f in open_ones):
            more = "They could not be scored again; the table has the rows that it had before."
        return Verdict(question, BAD, f"Yes: {names}", f"{more} The reasons are below.")
    bad = [r for r in figures["runs"] if r["exit_code"] != 0 and not r["under_way"]]
    if bad and bad[-1] is figures["runs"][-1]:
        return Verdict(question, BAD, "The last run", f"{_ending(bad[-1])} Nothing half-written is in the table.")
    if figures["texts"]["failed"]:
        share = "[[texts.failed:int]] texts have no score because something failed. The reasons are below."
        return Verdict(question, LOOK, "Single texts", share)
    if figures["runs"] and figures["runs"][-1]["under_way"]:
        return Verdict(question, OPEN, "Not known yet", "The last run has not ended, or it was killed.")
    if bad or figures["failures"]:
        return Verdict(
            question, LOOK, "Not any more", "What had failed, a later run has made good, or no longer found: see below."
        )
    return Verdict(question, GOOD, "No", "Every partition was committed, and no text was lost or failed.")


def _drifted(figures: Mapping[str, Any]) -> Verdict:
    question, drift = "Has anything drifted?", figures["drift"]
    against = {
        ARTIFACT: "the texts that the model was tested on",
        OWN_HALF: "the first half of this stretch",
        NOTHING: "nothing",
    }.get(drift["kind"], "the partitions of the reference")
    if drift["verdict"] == UNKNOWN:
        why = (
            f"There is nothing to compare with: {drift['why_none']}."
            if drift["kind"] == NOTHING
            else "There are too few authors and partitions to know what is ordinary."
        )
        return Verdict(question, OPEN, "Not known", why)
    moved = {g: [t for t, d in drift["traits"].items() if d["grade"] == g] for g in (LARGE, SMALL)}
    if drift["verdict"] == NONE:
        return Verdict(
            question, GOOD, "No", f"No trait is further from {against} than other days and other authors make it."
        )
    said = [f"{grade}: {', '.join(names)}" for grade, names in moved.items() if names]
    more = f"Compared with {against}, scores lie elsewhere. Look whether the texts have changed before using them."
    return Verdict(question, BAD if moved[LARGE] else LOOK, f"Yes, {'; '.join(said)}", more)


def _good(figures: Mapping[str, Any]) -> Verdict:
    question, model = "Is the model any good?", figures["model"]
    if not model["known"]:
        return Verdict(question, OPEN, "Nothing is known", f"{_sentence(model['why'])} Treat its scores as unproven.")
    better = [t for t, m in model["traits"].items() if m["verdict"] == BETTER]
    worse = [t for t, m in model["traits"].items() if m["verdict"] == NOT_BETTER]
    whose = "[[model.texts:int]] texts" + (" by [[model.authors:int]] authors" if model["authors"] else "")
    how = f"By {whose} that it had not seen. Better than guessing is a low bar."
    if model["seen_rows"]:
        how = f"By {whose}, some of which it was trained on: that flatters."
    elif model["split"] == "random":
        how = f"By {whose}, split at random: it may know authors, not traits, so this is no evidence yet."
    if not worse:
        mark = GOOD if model["split"] == "author" and not model["seen_rows"] else LOOK
        of = "all traits" if len(better) == len(model["traits"]) else ", ".join(better)
        return Verdict(question, mark, f"Better than chance for {of}", how)
    return Verdict(question, BAD, f"No better than chance for {', '.join(worse)}", f"{how} Treat these as noise.")


def _ending(run: Mapping[str, Any]) -> str:
    if run["exit_code"] is None:
        return "It was killed, or its machine was lost."
    return _sentence(run["message"] or "it ended without a message")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" and more" if len(names) > 3 else "")
