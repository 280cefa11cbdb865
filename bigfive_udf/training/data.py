"""A labelled table: read without guessing, checked, counted, and each row identified by digests.

    text, author, cEXT, cNEU, ...   ->   LabelledTexts(texts, authors, labels (n, 5), scores, ...)

Labels are 0/1, y/n or true/false, or scores that are cut later, when the training authors are known.
But: it reads the whole table into memory; a labelled table is small compared with the tables that are scored.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from bigfive_udf.errors import InputError
from bigfive_udf.redaction import column_names
from bigfive_udf.settings.labelled import Cut, LabelledDataSettings, TextTableSettings
from bigfive_udf.training.files import read_table
from bigfive_udf.traits import LETTERS, TRAITS

_LONGEST_LABEL = 20
_YES, _NO = {"1", "1.0", "y", "yes", "true", "t"}, {"0", "0.0", "n", "no", "false", "f"}
_MISSING = {"", "na", "n/a", "nan", "null", "none", "<na>"}


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with their authors and labels; `texts`, `authors` and `values` have one entry per row.

    `values` is (n, 5) in trait order: 0 and 1 for a label, the score where the trait has a cut, NaN where missing.
    """

    texts: list[str]
    authors: np.ndarray | None
    """(n,) of str"""
    values: np.ndarray
    cuts: Mapping[str, Cut]
    """cut by trait, only for traits whose values are scores"""
    column_order: tuple[str, ...]
    """the labelled traits, in the order of their columns in the table"""
    counts: Mapping[str, int] = field(default_factory=dict)
    """what was found: rows, empty texts left out, repeated texts, missing labels and so on"""

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def text_digests(self) -> np.ndarray:
        """(n,) the first 16 hex digits of the sha256 of each text."""
        return np.array([digest_of(text) for text in self.texts], dtype=str)

    @property
    def author_digests(self) -> np.ndarray | None:
        """(n,) the first 16 hex digits of the sha256 of each author; None without authors."""
        return None if self.authors is None else np.array([digest_of(a) for a in self.authors.tolist()], dtype=str)

    @property
    def digest(self) -> str:
        """sha256 over every row: text, author, labels."""
        lines = hashlib.sha256()
        authors = self.authors.tolist() if self.authors is not None else [""] * len(self)
        for text, author, values in zip(self.texts, authors, self.values.tolist(), strict=True):
            lines.update(json.dumps([text, author, [None if v != v else v for v in values]]).encode() + b"\n")
        return lines.hexdigest()

    def labels(self, training: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        """The labels of all rows, (n, 5) of 0, 1 and NaN, and the cuts they come from.

        `training` is a mask of the training rows. A median cut is the median over their authors, each counting once.
        """
        cuts = {
            trait: self._median(TRAITS.index(trait), training) if cut == "median" else float(cut)
            for trait, cut in self.cuts.items()
        }
        return self.labels_at(cuts), cuts

    def labels_at(self, cuts: Mapping[str, float]) -> np.ndarray:
        """(n, 5) the labels, where a score is high from its cut in `cuts` on."""
        labels = self.values.copy()
        for trait, cut in cuts.items():
            i = TRAITS.index(trait)
            labels[:, i] = np.where(np.isnan(self.values[:, i]), np.nan, self.values[:, i] >= cut)
        return labels

    def _median(self, trait: int, training: np.ndarray) -> float:
        values = pd.Series(self.values[training, trait])
        if self.authors is not None:
            values = values.groupby(self.authors[training]).mean()
        return float(values.median())

    def take(self, rows: np.ndarray) -> LabelledTexts:
        """Only the given rows; `rows` is a mask or indices."""
        index = np.arange(len(self))[rows]
        return replace(
            self,
            texts=[self.texts[i] for i in index],
            authors=None if self.authors is None else self.authors[index],
            values=self.values[index],
        )


def digest_of(value: str) -> str:
    """The digest of a text or an author in an artifact: it can be recognised, but not turned back."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def read_labelled(settings: LabelledDataSettings, path: str | None = None) -> LabelledTexts:
    """Read `path`, or `data.path`, as the settings say. Rows without a text are left out and counted.

    Raises:
        InputError: it can't be read or decoded, lacks a column, or holds something else than texts and labels.
    """
    source = path or settings.path
    table = read_table(source, settings)
    columns = _label_columns(source, table, settings)
    if settings.author_column in columns.values():
        raise InputError(
            f"{source}: column {settings.author_column!r} is data.author_column and a label; a column has one meaning"
        )
    if without := [trait for trait in settings.cut if trait not in columns] if isinstance(settings.cut, dict) else []:
        raise InputError(f"data.cut.{without[0]}: {source} has no label column of it; set data.label_columns too")
    texts = _texts(source, table, settings.text_column)
    authors = _authors(source, table, settings.author_column)
    values = np.full((len(table), len(TRAITS)), np.nan)
    for i, trait in enumerate(TRAITS):
        if trait in columns:
            values[:, i] = _labels(source, table[columns[trait]], trait, settings.cut_of(trait))
    kept = texts.str.strip().ne("").to_numpy()
    authors = None if authors is None else authors[kept]
    labelled = LabelledTexts(
        texts=texts[kept].tolist(),
        authors=authors,
        values=values[kept],
        cuts={trait: cut for trait in columns if (cut := settings.cut_of(trait)) is not None},
        column_order=tuple(sorted(columns, key=lambda trait: list(table.columns).index(columns[trait]))),
    )
    if not len(labelled):
        raise InputError(f"{source} has {len(table)} rows and no text in them: nothing can be learned from it")
    if np.isnan(labelled.values).all():
        raise InputError(f"{source} has {len(labelled)} texts and not one label: check data.label_columns")
    return replace(labelled, counts=_counts(labelled, texts, ~kept, columns))


def read_texts(settings: TextTableSettings) -> list[str]:
    """Only the texts of a table; missing texts become empty strings.

    Raises:
        InputError: it can't be read or decoded, lacks the column, or holds something else than texts.
    """
    return list(_texts(settings.path, read_table(settings.path, settings), settings.text_column))


def _column(source: str, table: pd.DataFrame, name: str, key: str) -> pd.Series:
    if name not in table.columns:
        raise InputError(f"{source} has no column {name!r} ({key}); it has {column_names(map(str, table.columns))}")
    return table[name]


def _label_columns(source: str, table: pd.DataFrame, settings: LabelledDataSettings) -> dict[str, str]:
    if settings.label_columns:
        for trait, name in settings.label_columns.items():
            _column(source, table, name, f"data.label_columns.{trait}")
        return dict(settings.label_columns)
    letters = {trait: letter for letter, trait in LETTERS.items()}
    found = {trait: next((c for c in (trait, letters[trait]) if c in table.columns), None) for trait in TRAITS}
    columns = {trait: column for trait, column in found.items() if column is not None}
    if not columns:
        raise InputError(
            f"{source} has no column named as a trait or its letter (it has {column_names(map(str, table.columns))}): "
            "set data.label_columns, such as {openness: cOPN}"
        )
    return columns


def _texts(source: str, table: pd.DataFrame, name: str) -> pd.Series:
    """The text column as strings; missing texts become empty strings."""
    column = _column(source, table, name, "data.text_column")
    known = column[column.notna()]
    if not known.map(lambda value: isinstance(value, str)).all():
        example = next(value for value in known if not isinstance(value, str))
        raise InputError(
            f"{source}: column {name!r} holds {type(example).__name__} such as {_cut(example)}, not texts: "
            "set data.text_column to the column of the texts"
        )
    written = known[known.str.strip() != ""]
    if len(written) and pd.to_numeric(written, errors="coerce").notna().all():
        raise InputError(
            f"{source}: column {name!r} holds nothing but numbers such as {written.iloc[0]!r}: "
            "set data.text_column to the column of the texts"
        )
    texts = column.astype(object).where(column.notna(), "").astype(str)
    for row, text in enumerate(texts):
        if not text.isascii() and (broken := re.search("[\ud800-\udfff]", text)):
            raise InputError(
                f"{source}: the text of row {row + 1} holds half a character ({broken[0]!a}): it was cut in the middle "
                "of an emoji or the like; correct it or leave it out"
            )
    return texts


def _authors(source: str, table: pd.DataFrame, name: str | None) -> np.ndarray | None:
    if name is None:
        return None
    column = _column(source, table, name, "data.author_column")
    known = column[column.notna()].astype(object)
    if len(kinds := {"text" if isinstance(value, str) else "number" for value in known}) > 1:
        raise InputError(
            f"{source}: column {name!r} names some authors by {' and some by '.join(sorted(kinds))}: "
            "3 and '003' may or may not be the same author; write them all in one way"
        )
    # In a column with missing values, 3 becomes 3.0.
    named = known.map(lambda value: str(int(value)) if isinstance(value, float) and value.is_integer() else str(value))
    authors = named.reindex(column.index, fill_value="").str.strip()
    if missing := int((authors == "").sum()):
        raise InputError(
            f"{source}: {missing} of {len(authors)} rows have no author in column {name!r}: fill them in or leave the "
            "rows out (unknown authors can't be kept apart), or set data.author_column=null with split.by=random"
        )
    return authors.to_numpy(dtype=str)


def _labels(source: str, column: pd.Series, trait: str, cut: Cut | None) -> np.ndarray:
    """(n,) 0, 1 or a score; NaN where missing."""
    words = column.astype(object).where(column.notna(), "").astype(str).str.strip().str.lower()
    missing = words.isin(_MISSING)
    if cut is not None:
        scores = pd.to_numeric(words.where(~missing), errors="coerce").astype(float)
        if (bad := scores.isna() & ~missing | np.isinf(scores)).any():
            raise InputError(
                f"{source}: column {column.name!r} ({trait}) has {_cut(column[bad].iloc[0])!r}, which is no score: "
                f"data.cut is for numbers; leave {trait} out of it if its labels are yes and no"
            )
        return scores.to_numpy()
    labels = words.map(dict.fromkeys(_YES, 1.0) | dict.fromkeys(_NO, 0.0)).astype(float)
    if (bad := labels.isna() & ~missing).any():
        values = sorted(words[~missing].unique(), key=lambda word: (word in _YES | _NO, word))
        shown = ", ".join(repr(_cut(v)) for v in values[:4]) + (", …" if len(values) > 4 else "")
        raise InputError(
            f"{source}: column {column.name!r} ({trait}) has {len(values)} values ({shown}): a label is 0/1, y/n or "
            "true/false; for scores set data.cut to a number or median"
        )
    return labels.to_numpy()


def _cut(value: object) -> str:
    """A value short enough for a message: it may be a text, if the settings name the text column as a label column."""
    text = str(value)
    return text if len(text) <= _LONGEST_LABEL else f"{text[:_LONGEST_LABEL]}…"


def _counts(labelled: LabelledTexts, texts: pd.Series, empty: np.ndarray, columns: Mapping[str, str]) -> dict[str, int]:
    digests = pd.Series(labelled.text_digests)
    counts = {
        "rows": len(texts),
        "texts": len(labelled),
        "empty_texts": int(empty.sum()),
        "repeated_texts": int(digests.duplicated().sum()),
        "texts_with_line_breaks": int(pd.Series(labelled.texts).str.contains("\n", regex=False).sum()),
        "damaged_texts": int(pd.Series(labelled.texts).str.contains("\ufffd|Ã[\x80-\xbf]|â€", regex=True).sum()),
    }
    if labelled.authors is not None:
        by_author = pd.Series(labelled.authors).groupby(digests).nunique()
        counts |= {"authors": len(np.unique(labelled.authors)), "texts_of_several_authors": int((by_author > 1).sum())}
    known = ~np.isnan(labelled.values)
    return counts | {
        f"labels_{trait}": int(known[:, TRAITS.index(trait)].sum()) for trait in TRAITS if trait in columns
    }


def table_lines(source: str, labelled: LabelledTexts) -> Sequence[str]:
    """What a user should know about the table before trusting it."""
    counts = labelled.counts
    whose = f" by {counts['authors']:,} authors" if "authors" in counts else ""
    lines = [f"{source}: {counts['texts']:,} texts{whose}"]
    if counts["empty_texts"]:
        lines.append(f"  {counts['empty_texts']:,} rows without a text were left out")
    if counts["repeated_texts"]:
        several = counts.get("texts_of_several_authors", 0)
        lines.append(
            f"  {counts['repeated_texts']:,} texts stand there more than once; all were kept"
            + (f" ({several:,} by several authors)" if several else "")
        )
    if counts["texts_with_line_breaks"]:
        lines.append(f"  {counts['texts_with_line_breaks']:,} texts hold line breaks")
    if counts["damaged_texts"]:
        lines.append(
            f"  warning: {counts['damaged_texts']:,} texts look damaged by an earlier change of encoding (Ã, â€ or "
            "U+FFFD in them)"
        )
    unlabelled = [trait for trait in TRAITS if not counts.get(f"labels_{trait}")]
    if unlabelled:
        lines.append(f"  no label for {', '.join(unlabelled)}: null in every score of the model")
    partly = [t for t in TRAITS if 0 < counts.get(f"labels_{t}", 0) < counts["texts"]]
    if partly:
        shown = ", ".join(f"{trait} {counts['texts'] - counts[f'labels_{trait}']:,}" for trait in partly)
        lines.append(f"  missing labels, masked: {shown}")
    return lines
