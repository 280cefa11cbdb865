"""Labelled tables for tests: with a signal that is there, and with one that only seems to be."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bigfive_udf.traits import TRAITS

_WORDS = (
    "the and a to of in it was on at for with day home bus tea rain book street market door window cat dog bread soup "
    "train work town river garden chair table letter phone song film match summer winter morning evening night week "
    "year coat shoes bag key road bridge field tree bird cloud"
)
COMMON = _WORDS.split()
TELLING = {
    "extraversion": ("party crowd laughing dancing", "alone silent shy quiet"),
    "neuroticism": ("worried afraid panic tears", "calm relaxed steady serene"),
    "agreeableness": ("kind helping trust gentle", "insult selfish revenge cruel"),
    "conscientiousness": ("tidy planned finished punctual", "messy forgot late unfinished"),
    "openness": ("poetry painting museum imagination", "usual same routine plain"),
}


WORDS = [*COMMON, *(word for sides in TELLING.values() for side in sides for word in side.split())]
"""Every word of `planted`, for a tokenizer that knows them."""


def planted(authors: int = 120, texts: int = 20, words: int = 12, telling: int = 2, seed: int = 0) -> pd.DataFrame:
    """Authors with a label per trait, and texts of random words with a few that tell each trait."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (authors, len(TRAITS)))
    rows = []
    for a in range(authors):
        for _ in range(texts):
            said = list(rng.choice(COMMON, words))
            for i, trait in enumerate(TRAITS):
                high, low = (side.split() for side in TELLING[trait])
                said += list(rng.choice(high if labels[a, i] else low, telling))
            rng.shuffle(said)
            rows.append(
                {"author": f"author-{a:03d}", "text": " ".join(said), **dict(zip(TRAITS, labels[a], strict=True))}
            )
    return pd.DataFrame(rows)


def unrelated(authors: int = 120, texts: int = 20, words: int = 12, own: int = 6, seed: int = 0) -> pd.DataFrame:
    """Labels that are constant per author and have nothing to do with the words, and each author's own vocabulary."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (authors, len(TRAITS)))
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    rows = []
    for a in range(authors):
        vocabulary = ["".join(rng.choice(syllables, 3)) for _ in range(own)]
        for _ in range(texts):
            said = [*rng.choice(COMMON, words - own), *rng.choice(vocabulary, own)]
            rng.shuffle(said)
            rows.append(
                {"author": f"author-{a:03d}", "text": " ".join(said), **dict(zip(TRAITS, labels[a], strict=True))}
            )
    return pd.DataFrame(rows)
