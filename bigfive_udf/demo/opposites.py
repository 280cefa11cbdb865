"""English first-person statements turned into their opposites, to teach a model what a negation does.

    I take people at their word.   ->  I don't take people at their word.
    I rarely lose my temper.       ->  I often lose my temper.

But: only short, simple statements that begin with I; the rest (`My word is my bond.`) has no opposite here.
"""

from __future__ import annotations

import re

import pandas as pd

from bigfive_udf.traits import TRAITS

_LONGEST = 14
"""words; in a longer sentence the negation would cover only a part of it"""

_SELDOM, _OFTEN = "never|seldom|rarely|hardly ever", "always|often|usually|constantly|regularly|frequently"
# Words that can follow I, but are not verbs in the present tense that take `don't`.
_NO_PRESENT = (
    "was|have|had|do|did|will|may|might|must|should|only|hardly|just|even|barely|almost|sometimes|too|no|"
    "wish|used|went|said|told"
)
_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"I (?:don't|do not) ", "I "),
        (r"I (?:can't|cannot) ", "I can "),
        (r"I (?:couldn't|could not) ", "I could "),
        (r"I (?:wouldn't|would not) ", "I would "),
        (r"(?:I'm|I am) not ", "I am "),
        (rf"(?:I'm|I am) (?:{_SELDOM}) ", "I am often "),
        (rf"(?:I'm|I am) (?:{_OFTEN}) ", "I am never "),
        (rf"I (?:{_SELDOM}) ", "I often "),
        (rf"I (?:{_OFTEN}) ", "I never "),
        (r"I have (?:trouble|difficulty) ", "I have no trouble "),
        (r"I have no (?:trouble|difficulty|problem) ", "I have trouble "),
        (r"I have no ", "I have "),
        (r"I have (?=(?:a|an|the|great|strong|many|little|plenty|lots) )", "I don't have "),
        (r"I find it easy ", "I find it hard "),
        (r"I find it (?:hard|difficult) ", "I find it easy "),
        (r"(?:I'm|I am) ", "I am not "),
        (r"I can ", "I can't "),
        (r"I could ", "I couldn't "),
        (r"I would ", "I wouldn't "),
        (rf"I (?!(?:{_NO_PRESENT}) )(?=[a-z-]+ )(?!(?!need|feed|heed)[a-z]+ed )", "I don't "),
    )
)
# A comma or a conjunction ends the reach of a negation; a second negation would turn the meaning back.
_UNCLEAR = re.compile(
    r"[,;:]| (?:but|because|until|unless|although|nor|not|no|nothing|nobody|none|never|without|only|\w+n't) "
)


def opposite(statement: str) -> str | None:
    """The statement with its meaning turned round, or None where no rule is sure to do that."""
    for pattern, replacement in _RULES:
        if match := pattern.match(statement):
            rest = statement[match.end() :]
            if len(statement.split()) > _LONGEST or _UNCLEAR.search(f" {rest}"):
                return None
            return replacement + rest
    return None


def with_opposites(labelled: pd.DataFrame) -> pd.DataFrame:
    """The table (`text` and the five labels), followed by the existing opposites with their labels turned round."""
    turned = labelled.assign(text=labelled["text"].map(opposite)).dropna(subset=["text"])
    turned[list(TRAITS)] = 1 - turned[list(TRAITS)]
    return pd.concat([labelled, turned], ignore_index=True)
