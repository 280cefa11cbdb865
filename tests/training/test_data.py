"""A labelled table is read to the letter, or refused with one line that says what is wrong with it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bigfive_udf.errors import InputError, SettingsError
from bigfive_udf.settings.labelled import LabelledDataSettings
from bigfive_udf.settings.loading import load_settings
from bigfive_udf.settings.train import TrainSettings
from bigfive_udf.training.data import LabelledTexts, read_labelled, table_lines
from bigfive_udf.traits import TRAITS

ROWS = {
    "who": ["a", "a", "b", "c"],
    "body": ["I like people", "NA", 'She said: "no, never"', "Ünïcödé\u2028façade 東京"],
    "cEXT": ["y", "n", "", "Y"],
    "cOPN": ["0", "1", "1", "nan"],
}
COLUMNS = {"extraversion": "cEXT", "openness": "cOPN"}


def read(path: Path, **settings: Any) -> LabelledTexts:
    given = {"text_column": "body", "label_columns": COLUMNS, "path": str(path)} | settings
    return read_labelled(LabelledDataSettings(**given))


def write(path: Path, rows: dict[str, list[Any]] | None = None, encoding: str = "utf-8") -> Path:
    table = pd.DataFrame(rows or ROWS)
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".csv":
        table.to_csv(path, index=False, encoding=encoding)
    else:
        lines = [json.dumps(row, ensure_ascii=False) for row in table.to_dict("records")]
        path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl", "t.json"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    found = read(write(tmp_path / name), author_column="who")
    assert found.texts == ROWS["body"], "NA is a text, and nothing is stripped or changed"
    assert found.authors is not None and found.authors.tolist() == ROWS["who"]
    expected = np.full((4, 5), np.nan)
    expected[:, TRAITS.index("extraversion")] = [1, 0, np.nan, 1]
    expected[:, TRAITS.index("openness")] = [0, 1, 1, np.nan]
    np.testing.assert_array_equal(found.values, expected)


def test_a_directory_of_parquet_files_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()
    write(tmp_path / "table" / "a.parquet")
    write(tmp_path / "table" / "b.parquet")
    assert len(read(tmp_path / "table", format="parquet")) == 8


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["0", "1"], [0, 1]),
        ([0, 1], [0, 1]),
        ([0.0, 1.0], [0, 1]),
        ([True, False], [1, 0]),
        (["TRUE", " false "], [1, 0]),
        (["yes", "No"], [1, 0]),
        ([1, None], [1, np.nan]),
        (["y", "N/A"], [1, np.nan]),
    ],
)
def test_labels_are_understood_in_every_usual_spelling(
    tmp_path: Path, values: list[Any], expected: list[float]
) -> None:
    for name in ("t.parquet", "t.jsonl"):
        found = read(write(tmp_path / name, {"body": ["a", "b"], "cEXT": values, "cOPN": ["0", "1"]}))
        np.testing.assert_array_equal(found.values[:, 0], expected)


def test_columns_are_found_by_trait_or_letter_where_none_are_named(tmp_path: Path) -> None:
    rows = {"body": ["a", "b"], "O": ["0", "1"], "extraversion": ["1", "0"]}
    found = read(write(tmp_path / "t.csv", rows), label_columns={})
    np.testing.assert_array_equal(found.values[:, [0, 4]], [[1, 0], [0, 1]])
    assert found.column_order == ("openness", "extraversion"), "as they stand in the table"


def test_empty_texts_are_left_out_and_counted_with_repeated_and_damaged_ones(tmp_path: Path) -> None:
    texts = ["one", "  ", "", "one", "cafÃ© and so on", "two", "two"]
    rows = {"body": texts, "cEXT": ["1"] * 6 + [""], "cOPN": list("0101010"), "who": list("aabbccd")}
    found = read(write(tmp_path / "t.csv", rows), author_column="who")
    assert found.texts == ["one", "one", "cafÃ© and so on", "two", "two"]
    counts = {
        k: found.counts[k] for k in ("rows", "texts", "empty_texts", "repeated_texts", "damaged_texts", "authors")
    }
    assert counts == {"rows": 7, "texts": 5, "empty_texts": 2, "repeated_texts": 2, "damaged_texts": 1, "authors": 4}
    said = "\n".join(table_lines("t.csv", found))
    assert "2 rows without a text were left out" in said
    assert "2 texts stand there more than once; all were kept (2 by several authors)" in said
    assert "warning: 1 texts look damaged" in said
    assert "missing labels, masked: extraversion 1" in said
    assert "no label for neuroticism, agreeableness, conscientiousness: null in every score" in said


# --- encodings ---


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize(("written", "named"), [("utf-8", "utf-8"), ("utf-8-sig", "utf-8"), ("latin-1", "latin-1")])
def test_encodings_are_read_as_they_are(tmp_path: Path, suffix: str, written: str, named: str) -> None:
    rows = {"body": ["façade", "naïve"], "cEXT": ["1", "0"], "cOPN": ["0", "1"]}
    path = write(tmp_path / f"t.{suffix}", rows, encoding=written)
    assert read(path, encoding=named).texts == ["façade", "naïve"]


@pytest.mark.parametrize(
    ("written", "named", "message"),
    [
        ("latin-1", "utf-8", r"is not UTF-8 \(line 2 has the byte 0xe7\): .* most likely latin-1"),
        ("cp1252", "utf-8", r"most likely cp1252"),
        ("utf-8", "latin-1", r"is UTF-8, and data\.encoding is latin-1: set data\.encoding=utf-8"),
        ("utf-8-sig", "cp1252", r"is UTF-8, and data\.encoding is cp1252"),
        ("cp1252", "latin-1", r"2 bytes from 0x80 to 0x9f, which are no letters in Latin-1: set data\.encoding=cp1252"),
        ("utf-16", "utf-8", "is UTF-16: save it as UTF-8"),
    ],
)
def test_a_wrong_encoding_is_refused_and_never_guessed(tmp_path: Path, written: str, named: str, message: str) -> None:
    quotes = "“façade”" if written == "cp1252" else "façade"
    path = write(tmp_path / "t.csv", {"body": [quotes, "b"], "cEXT": ["1", "0"], "cOPN": ["0", "1"]}, encoding=written)
    with pytest.raises(InputError, match=message):
        read(path, encoding=named)


# --- what is no labelled table ---


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ({"cEXT": ["y", "n", "maybe", "1"]}, {}, r"'cEXT' \(extraversion\) has 4 values .*'maybe'.*0/1, y/n or true"),
        ({"cEXT": ["1", "2", "3", "2"]}, {}, r"has 3 values .* for scores set data\.cut"),
        ({"body": ["1", "2.5", "", "4"]}, {}, r"'body' holds nothing but numbers such as '1'"),
        ({"who": ["a", "", "b", "c"]}, {"author_column": "who"}, r"1 of 4 rows have no author in column 'who'"),
        ({"cEXT": [""] * 4, "cOPN": [""] * 4}, {}, "4 texts and not one label"),
        ({"body": [""] * 4}, {}, "4 rows and no text in them"),
        ({}, {"text_column": "text"}, r"no column 'text' \(data\.text_column\); it has who, body, cEXT, cOPN"),
        ({}, {"label_columns": {"openness": "cO"}}, r"no column 'cO' \(data\.label_columns\.openness\)"),
        ({}, {"label_columns": {}}, r"no column named as a trait or its letter"),
        ({}, {"cut": {"neuroticism": 3.0}}, r"data\.cut\.neuroticism: .* has no label column of it"),
        ({}, {"cut": 3.0}, r"'cEXT' \(extraversion\) has 'y', which is no score"),
        ({"cEXT": ["1", "inf", "3", "2"]}, {"cut": {"extraversion": 2.0}}, "'inf', which is no score"),
    ],
)
def test_what_is_no_labelled_table_is_refused(
    tmp_path: Path, rows: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(write(tmp_path / "t.csv", ROWS | rows), **settings)
    assert str(caught.value).count("\n") == 0
    assert str(tmp_path / "t.csv") in str(caught.value)


def test_a_text_column_of_numbers_in_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'body' holds int such as 1, not texts"):
        read(write(tmp_path / "t.parquet", ROWS | {"body": [1, 2, 3, 4]}))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "body,cEXT,cOPN\na,1,0\nb,1,0,9,9\n", "line 3: 5 fields, the header has 3: put quotes"),
        ("t.csv", "cEXT,cOPN,body\n1,0,a text, with a comma\n0,1,another, one\n", "line 2: 4 fields, the header has 3"),
        ("t.csv", "body,cEXT,cOPN\na\n", "line 2: 1 fields"),
        ("t.csv", "body,cEXT,cEXT\na,1,0\n", "two columns 'cEXT'"),
        ("t.csv", 'body,cEXT,cOPN\n"a,1,0\n', "is not the csv"),
        ("t.csv", "", "is not the csv"),
        ("t.jsonl", '{"body": "cut \\ud83d", "cEXT": 1, "cOPN": 0}\n', "row 1 holds half a character"),
        ("t.jsonl", '{"body": "a"}\n{"body": \n', "line 2, is not JSON"),
        ("t.jsonl", '["a"]\n', "line 1, holds list"),
        ("t.parquet", "no parquet", "is not the parquet|can't be read"),
        ("t.txt", "a", "its name does not tell its format; set data.format"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


def test_a_text_in_the_place_of_a_columns_name_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a text that nobody should read in a log,1,0\nanother one,0,1\n")
    for settings in ({}, {"label_columns": {}}):
        with pytest.raises(InputError, match=r"\(39 characters\), 1, 0") as caught:
            read(tmp_path / "t.csv", **settings)
        assert "nobody" not in str(caught.value)


def test_semicolons_are_said_to_be_the_separator(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("body;E;O\na, b;1;0\n")
    with pytest.raises(InputError, match=r"set data\.separator=';'"):
        read(tmp_path / "t.csv", label_columns={})
    (tmp_path / "t.csv").write_text("body\tE\tO\na, b\t1\t0\n")
    assert read(tmp_path / "t.csv", label_columns={}, separator=r"\t").texts == ["a, b"]


def test_a_compressed_file_is_read_as_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(write(tmp_path / "t.csv").read_bytes()))
    assert read(tmp_path / "t.csv.gz").texts == read(tmp_path / "t.csv").texts


def test_an_author_is_the_same_in_every_format(tmp_path: Path) -> None:
    numbers = ROWS | {"who": [3, 3, 4, None]}
    frame = {k: v[:3] for k, v in numbers.items()}
    names = [
        read(write(tmp_path / f"t.{suffix}", rows), author_column="who").authors.tolist()  # type: ignore[union-attr]
        for suffix, rows in (("csv", frame), ("jsonl", frame), ("parquet", {**frame, "who": [3.0, 3.0, 4.0]}))
    ]
    assert names == [["3", "3", "4"]] * 3
    with pytest.raises(InputError, match="names some authors by number and some by text"):
        read(write(tmp_path / "m.jsonl", ROWS | {"who": [3, "003", 4, 5]}), author_column="who")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for name in ("nowhere.csv", "nowhere.parquet"):
        with pytest.raises(InputError, match=r"nowhere\.\w+ can't be read: No such file"):
            read(tmp_path / name)


# --- scores ---


def test_scores_are_cut_at_a_number_or_at_the_median_of_the_training_authors(tmp_path: Path) -> None:
    rows = {
        "body": [f"text {i}" for i in range(7)],
        "who": list("aaabcde"),
        "cEXT": [1.0, 1.0, 1.0, 2.0, 3.0, 4.0, None],
        "cOPN": [10, 20, 30, 40, 50, 60, 70],
    }
    path = write(tmp_path / "t.parquet", rows)
    found = read(path, author_column="who", cut={"extraversion": "median", "openness": 40})
    labels, cuts = found.labels(np.ones(7, bool))
    assert cuts == {"extraversion": 2.5, "openness": 40.0}, "author a counts once, e has no score"
    np.testing.assert_array_equal(labels[:, 0], [0, 0, 0, 0, 1, 1, np.nan])
    np.testing.assert_array_equal(labels[:, 4], [0, 0, 0, 1, 1, 1, 1])
    _, cuts = found.labels(np.array([True] * 4 + [False] * 3))
    assert cuts["extraversion"] == 1.5, "of those that are trained on alone"


def test_a_row_has_the_same_digest_in_any_order_and_the_table_knows_a_changed_label(tmp_path: Path) -> None:
    first = read(write(tmp_path / "a.csv"))
    turned = read(write(tmp_path / "b.csv", {k: v[::-1] for k, v in ROWS.items()}))
    assert first.text_digests.tolist() == turned.text_digests.tolist()[::-1]
    changed = read(write(tmp_path / "c.csv", ROWS | {"cEXT": ["y", "n", "n", "Y"]}))
    assert first.digest != changed.digest
    assert first.digest == read(write(tmp_path / "d.parquet")).digest


# --- settings ---


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.label_columns={openes: x}", r"'openes' is no trait"),
        ("data.label_columns={O: x, openness: y}", "O and openness are the same trait"),
        ("data.label_columns={O: text}", r"'text' is also data\.text_column"),
        ("data.cut=mean", r"data\.cut: 'mean'; it must be a number or median"),
        ("data.cut=.nan", "it must be a number or median"),
        ("data.separator=ab", "it must be one character"),
        ("data.encoding=ascii", r"data\.encoding 'ascii'"),
        ("split.by=author", r"split\.by author: data\.author_column is not set"),
        ("split.folds=1", "1 fold leaves nothing to train on"),
        ("split.fractions={train: 0.5, validation: 0.2, test: 0.2}", "add up to 0.9"),
        ("train.epochs=0", r"train\.epochs 0"),
        ("train.learning_rate=fast", r"train\.learning_rate 'fast'"),
    ],
)
def test_wrong_settings_are_refused(override: str, message: str) -> None:
    required = ["data.path=t.csv", "model.base=minilm", "output.path=m"]
    with pytest.raises(SettingsError, match=message):
        load_settings(TrainSettings, None, [*required, override])


def test_a_learning_rate_may_be_written_as_everybody_writes_it() -> None:
    required = ["data.path=t.csv", "model.base=minilm", "output.path=m", "train.learning_rate=3e-5"]
    settings = load_settings(TrainSettings, None, required)
    assert settings.train.learning_rate == 3e-5
    assert settings.model.base == "minilm", "a bare name is no path, unless something of that name is there"
