"""A made-up table in the shape of one that puzzled its owner: 9,917 texts by 250 authors, five labels for each author.

    author, text, cAGR, cOPN, cCON, cEXT, cNEU   ->   author_017, "The post came at noon.", y, y, n, n, n

Everything is made here, and is the same on each run. Only the counts imitate the real table: texts, authors, positive
labels, and how often openness is the first positive label. The labels are drawn independently of the words, so that a
text shows who wrote it and nothing else: each author has habits (favourite sentences, shops, days), as everybody has.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from bigfive_udf.demo.corpus import read_patterns, read_slots
from bigfive_udf.traits import LETTERS, TRAITS

TEXTS, AUTHORS = 9917, 250
COLUMNS = {"A": "cAGR", "O": "cOPN", "C": "cCON", "E": "cEXT", "N": "cNEU"}
"""label columns by the letter of the trait, in the order of the table"""
REAL_POSITIVES = {"E": 4210, "N": 3717, "A": 5268, "C": 4556, "O": 7370}
"""texts with a positive label in the real table"""
REAL_OPENNESS_FIRST = {"AOCEN": 0.272, "ENACO": 0.047, "OCEAN": 0.755}
"""by column order, the share of real texts whose first positive label (or first label, if none is) is openness"""

_REDRAWN = 4000
"""how often the labels of some author are drawn again, to see whether the texts come nearer to the real table"""
_ACTIVITY_SPREAD = 0.9
"""standard deviation of the logarithm of how much an author writes: most write little, a few write a lot"""
_HABIT = 1.1
"""how much an author prefers the favourite to the second choice, and so on; at 0 all authors write alike"""


def make_table(seed: int = 20260927) -> pd.DataFrame:
    """The table: author, text, and the labels as y and n, in the order of `COLUMNS`."""
    # Separate random streams: no draw of a word depends on a label.
    labels_rng, rng = np.random.default_rng(seed), random.Random(seed)
    counts = _texts_per_author(rng)
    labels = _author_labels(np.array(counts) / TEXTS, labels_rng)
    rows = []
    for number, (n, row) in enumerate(zip(counts, labels, strict=True), 1):
        write = _writer(rng)
        own = {column: "ny"[row[TRAITS.index(LETTERS[letter])]] for letter, column in COLUMNS.items()}
        rows += [{"author": f"author_{number:03d}", "text": write(), **own} for _ in range(n)]
    rng.shuffle(rows)
    return pd.DataFrame(rows)


def openness_first(labels: np.ndarray, order: str) -> np.ndarray:
    """(n,) whether openness is the first positive of (n, 5) labels when their columns stand in `order`, such as ENACO.

    Where no label is positive, the first column counts, as in argmax.
    """
    first = labels[:, [TRAITS.index(LETTERS[letter]) for letter in order]].argmax(1)
    return np.asarray(first == order.index("O"))


def _texts_per_author(rng: random.Random) -> list[int]:
    activity = [rng.lognormvariate(0, _ACTIVITY_SPREAD) for _ in range(AUTHORS)]
    further = Counter(rng.choices(range(AUTHORS), activity, k=TEXTS - AUTHORS))
    return [1 + further[a] for a in range(AUTHORS)]


def _author_labels(share: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(authors, 5) of 0 and 1: drawn one by one, then drawn again where that brings the texts nearer to the real table.

    `share` (authors,) is each author's share of all texts.
    """
    rates = np.array([REAL_POSITIVES[trait[0].upper()] / TEXTS for trait in TRAITS])
    target = np.array([*rates, *REAL_OPENNESS_FIRST.values()])

    def missed(labels: np.ndarray) -> float:
        firsts = [share @ openness_first(labels, order) for order in REAL_OPENNESS_FIRST]
        return float(((np.array([*(share @ labels), *firsts]) - target) ** 2).sum())

    labels = (rng.random((AUTHORS, len(TRAITS))) < rates).astype(int)
    by = missed(labels)
    for _ in range(_REDRAWN):
        changed = labels.copy()
        changed[rng.integers(AUTHORS)] = rng.random(len(TRAITS)) < rates
        if (now := missed(changed)) < by:
            labels, by = changed, now
    return labels


def _writer(rng: random.Random) -> Callable[[], str]:
    """A writer with habits; each call returns a text of one to three sentences."""
    sentences = _with_favourites(read_patterns()["neutral"], rng)
    words = {name: _with_favourites(choices, rng) for name, choices in read_slots().items()}

    def write() -> str:
        n = rng.choices((1, 2, 3), (0.5, 0.3, 0.2))[0]
        return " ".join(_fill(sentences(), words) for _ in range(n))

    return write


def _with_favourites(choices: Sequence[str], rng: random.Random) -> Callable[[], str]:
    """A function that draws from the choices: it puts them in a random order and draws the first most often."""
    order = rng.sample(choices, len(choices))
    weights = [1 / rank**_HABIT for rank in range(1, len(order) + 1)]
    return lambda: rng.choices(order, weights)[0]


def _fill(pattern: str, words: dict[str, Callable[[], str]]) -> str:
    for slot, draw in words.items():
        while f"{{{slot}}}" in pattern:
            pattern = pattern.replace(f"{{{slot}}}", draw(), 1)
    return pattern[0].upper() + pattern[1:]
