"""The demo corpus: 20,000 texts that 200 invented authors write in one week, and what is known of the authors.

    python -m bigfive_udf.demo.corpus --output demo/corpus --authors demo/authors.parquet

A text is put together from the patterns in phrases/: neutral sentences, and sentences that show the author's traits.
The rows are the same on each run. But: nobody writes like this. The texts are easy on purpose, so that the demo shows
how the jobs work; how well a model does on them says nothing about how well it does on real texts.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import correlation
from tempfile import TemporaryDirectory
from typing import NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from bigfive_udf.errors import BigFiveError, OutputError, SettingsError
from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.traits import TRAITS

PHRASES = Path(__file__).parent / "phrases"
POLES = {1: "high", -1: "low"}
LEVEL_COUNTS = {1: 80, -1: 80, 0: 40}  # authors per level, for every trait: 1 high, -1 low, 0 in the middle
TEXTS_PER_DAY = {f"2026-01-{5 + i:02d}": n for i, n in enumerate((2700, 2750, 2700, 2800, 2850, 3100, 3100))}
"""Monday to Sunday, with more to tell at the weekend."""
AWKWARD_TEXTS = (None, None, None, "", "", "   ", "\n\t \n", "\u00a0", "😂😂😂", "🎉🎉", "👍", "❤️")
"""What real tables hold too: null, empty, white space only, emoji only."""

_CORPUS_SCHEMA = pa.schema([(column, pa.string()) for column in ("doc_id", "author", "text")])
_AUTHORS_SCHEMA = pa.schema([("author", pa.string()), *((trait, pa.int32()) for trait in TRAITS)])


@dataclass(frozen=True)
class Author:
    """An invented author. `levels` holds 1, -1 or 0 by trait; `activity` is how much they write, relative to others."""

    name: str
    levels: dict[str, int]
    neutral_share: float
    activity: float

    @property
    def files(self) -> list[str]:
        """The phrase files that fit the levels: none for a middle level."""
        return [f"{trait}_{POLES[level]}" for trait, level in self.levels.items() if level]


def read_patterns() -> dict[str, list[str]]:
    """The patterns by file: `neutral`, `extraversion_high` and so on."""
    names = ["neutral", *(f"{trait}_{pole}" for trait in TRAITS for pole in POLES.values())]
    return {name: (PHRASES / f"{name}.txt").read_text(encoding="utf-8").splitlines() for name in names}


def read_slots() -> dict[str, list[str]]:
    """The words for each {slot}."""
    lines = (PHRASES / "slots.txt").read_text(encoding="utf-8").splitlines()
    return {name: words.split(" | ") for name, words in (line.split(": ", 1) for line in lines)}


def invent_authors(rng: random.Random) -> list[Author]:
    """200 authors with independent traits, drawn again if two traits are correlated by chance.

    If two traits are correlated, a model that recognises one of them seems to recognise the other.
    """
    # The columns start sorted and all alike, so the first round always shuffles them.
    columns = {trait: [level for level, n in LEVEL_COUNTS.items() for _ in range(n)] for trait in TRAITS}
    while any(abs(correlation(a, b)) > 0.1 for a, b in combinations(columns.values(), 2)):
        for column in columns.values():
            rng.shuffle(column)
    levels = [dict(zip(TRAITS, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [
        Author(f"author_{i:03d}", own, neutral_share=rng.uniform(0.3, 0.5), activity=rng.uniform(0.5, 1.5))
        for i, own in enumerate(levels, start=1)
    ]


class Writer:
    """Writes the authors' texts."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._patterns, self._slots = read_patterns(), read_slots()
        self._written: set[str] = set()

    def text(self, author: Author) -> str:
        """A post or a diary entry; a repeated text is drawn again, but only twice: people repeat themselves too."""
        n = self._length()
        for _ in range(3):
            if (text := self._draw(author, n)) not in self._written:
                break
        self._written.add(text)
        return text

    def _length(self) -> int:
        """Number of sentences: mostly 1 to 3, in a diary entry 6 to 15, and now and then enough for over 600 tokens."""
        post = self._rng.choices((1, 2, 3), (0.6, 0.3, 0.1))[0]
        diary, very_long = int(self._rng.triangular(6, 16, 6)), self._rng.randint(60, 90)
        return self._rng.choices((post, diary, very_long), (0.8995, 0.1, 0.0005))[0]

    def _draw(self, author: Author, n: int) -> str:
        used: list[str] = []
        for _ in range(n):
            neutral = not author.files or self._rng.random() < author.neutral_share
            patterns = self._patterns["neutral" if neutral else self._rng.choice(author.files)]
            # The longest texts of an author with one trait can run out of patterns.
            used.append(self._rng.choice([p for p in patterns if p not in used] or patterns))
        return " ".join(map(self._fill, used))

    def _fill(self, pattern: str) -> str:
        """`{shop} was out of {item}.` -> `The supermarket was out of milk.`; no word comes twice."""
        used: list[str] = []

        def word(slot: re.Match[str]) -> str:
            used.append(self._rng.choice([w for w in self._slots[slot[1]] if w not in used]))
            return used[-1]

        sentence = re.sub(r"\{(\w+)\}", word, pattern)
        return sentence[0].upper() + sentence[1:]


def make_demo() -> tuple[dict[str, pa.Table], pa.Table]:
    """The texts by day (doc_id, author, text), and the authors with their levels."""
    rng = random.Random(20260105)
    authors, writer = invent_authors(rng), Writer(rng)
    awkward = dict(zip(rng.sample(range(sum(TEXTS_PER_DAY.values())), len(AWKWARD_TEXTS)), AWKWARD_TEXTS, strict=True))
    days, row = {}, 0
    for day, n in TEXTS_PER_DAY.items():
        rows = []
        for author in rng.choices(authors, [a.activity for a in authors], k=n):
            text = awkward[row] if row in awkward else writer.text(author)
            row += 1
            rows.append({"doc_id": f"doc_{row:05d}", "author": author.name, "text": text})
        days[day] = pa.Table.from_pylist(rows, _CORPUS_SCHEMA)
    return days, pa.Table.from_pylist([{"author": a.name, **a.levels} for a in authors], _AUTHORS_SCHEMA)


def write_demo(output: Path, authors: Path, days: dict[str, pa.Table], levels: pa.Table) -> None:
    """Write the corpus and the authors aside and swap them in. Raises OutputError where that fails."""
    try:
        if output.exists() and not all(entry.name.startswith("dt=") for entry in output.iterdir()):
            raise OutputError(f"--output {output} holds something other than a corpus: name another directory")
        for parent in (output.parent, authors.parent):
            parent.mkdir(parents=True, exist_ok=True)
        # Two temporary directories, because the corpus and the authors may lie on different disks.
        with TemporaryDirectory(dir=output.parent) as corpus_aside, TemporaryDirectory(dir=authors.parent) as aside:
            for day, table in days.items():
                (folder := Path(corpus_aside, "corpus", f"dt={day}")).mkdir(parents=True)
                pq.write_table(table, folder / "part-0.parquet")
            pq.write_table(levels, f"{aside}/authors.parquet")
            LocalFileSystem().swap_in(f"{corpus_aside}/corpus", str(output))
            os.replace(f"{aside}/authors.parquet", authors)
    except OSError as error:
        raise OutputError(f"{output} and {authors} can't be written ({error}): free the path or name another") from None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see --help")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = _Parser(prog="python -m bigfive_udf.demo.corpus", description="Make the demo corpus.")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory of the partitions")
    parser.add_argument("--authors", type=Path, required=True, metavar="FILE", help="the authors' levels, Parquet")
    parser.add_argument("--if-missing", action="store_true", help="leave a demo corpus that is there as it is")
    try:
        args = parser.parse_args(arguments)
        # Resolved, because a swap would replace a symbolic link and leave its target unchanged.
        output, authors = args.output.resolve(), args.authors.resolve()
        if authors.is_relative_to(output):
            raise SettingsError(f"--authors {authors} lies inside --output {output}: put it beside the corpus")
        if args.if_missing and os.path.exists(output) and os.path.exists(authors):
            print(f"{args.output} and {args.authors} are there already: nothing to do")
            return 0
        days, levels = make_demo()
        write_demo(output, authors, days, levels)
    except BigFiveError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    texts = sum(TEXTS_PER_DAY.values())
    print(f"{texts:,} texts by {len(levels)} authors over {len(days)} days in {args.output}", end="; ")
    print(f"{len(AWKWARD_TEXTS)} of them are awkward rows: null, empty, white space or emoji only")
    print("These texts were made to be easy: a good score on them says nothing about real texts.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
