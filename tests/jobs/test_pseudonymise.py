"""Ids and authors as pseudonyms in the table: equal to Python's hmac, one key a table, and no key to be found."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bigfive_udf.errors import InputError, PartitionsFailedError, RefusedError, SettingsError
from support.corpora import write_corpus

KEY, OTHER_KEY = "a key that nobody can guess, of more than 32 characters", "another key that nobody can guess, as long"


@pytest.fixture
def both(basics: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings that pseudonymise ids and authors."""
    monkeypatch.setenv("BIGFIVE_PSEUDONYM_KEY", KEY)
    return basics | {"input.author_column": "author", "input.pseudonymise": ["id", "author"]}


def hashed(value: Any, key: str = KEY) -> str | None:
    return None if value is None else hmac.new(key.encode(), str(value).encode(), hashlib.sha256).hexdigest()


def rows_of(path: str | Path) -> list[dict[str, Any]]:
    found = duckdb.sql(f"FROM read_parquet('{path}/**/*.parquet', hive_partitioning=true, union_by_name=true)")
    return found.to_arrow_table().to_pylist()


def test_ids_and_authors_become_the_hmac_of_python(score, both, basics):
    run = score(both)
    corpus = rows_of(basics["input.path"])
    expected = sorted((hashed(r["doc_id"]), hashed(r["author"])) for r in corpus)
    found = rows_of(both["output.path"])
    assert sorted((r["doc_id"], r["author"]) for r in found) == expected
    assert {r["status"] for r in found} == {"scored"}
    assert set(run.result["pseudonyms"]) == {"doc_id", "author"}
    for file in Path(f"{both['output.path']}.job").rglob("*"):
        assert file.is_dir() or KEY not in file.read_text(errors="replace"), file


def test_whole_numbers_nulls_and_other_columns(score, both, tmp_path):
    folder = tmp_path / "numbers" / "dt=2026-01-05"
    folder.mkdir(parents=True)
    authors = pa.array(["ünï", None, "o'x;--"])
    texts = ["one text", None, "a third"]
    pq.write_table(pa.table({"doc_id": [1, -2, None], "author": authors, "text": texts}), folder / "a.parquet")
    settings = both | {"input.path": str(tmp_path / "numbers")}
    score(settings | {"input.pseudonymise": ["id"]})
    found = rows_of(both["output.path"])
    assert sorted(((r["doc_id"], r["author"]) for r in found), key=str) == sorted(
        [(hashed(1), "ünï"), (hashed(-2), None), (None, "o'x;--")], key=str
    )
    # The labels are computed again from the table, whose pseudonyms stay as they are.
    score(settings | {"input.pseudonymise": ["id"], "labels.thresholds": {"O": 0.0}})
    again = rows_of(both["output.path"])
    assert {(r["doc_id"], r["author"]) for r in again} == {(r["doc_id"], r["author"]) for r in found}
    assert {r["label_openness"] for r in again} == {True, None}


def test_one_table_has_one_pseudonymisation(score, both, monkeypatch):
    score(both, "--until", "dt=2026-01-06")
    plain = both | {"input.pseudonymise": ["author"]}
    for settings in (plain, plain | {"on_schema_change": "only_new"}):
        with pytest.raises(
            RefusedError, match=r"2 partitions .* have doc_id by key \w{12}, author by key .* set on_sch"
        ):
            score(settings)
    monkeypatch.setenv("BIGFIVE_PSEUDONYM_KEY", OTHER_KEY)
    with pytest.raises(RefusedError, match="nobody may have two names"):
        score(both)
    rescore = both | {"on_schema_change": "rescore"}
    with pytest.raises(RefusedError, match="nobody may have two names"):
        score(rescore, "--partition", "dt=2026-01-07")
    shutil.rmtree(Path(both["input.path"]) / "dt=2026-01-05")
    with pytest.raises(RefusedError, match="with --prune where partitions are gone"):
        score(rescore)
    assert {r["author"] for r in rows_of(both["output.path"])} == {hashed(f"author-{i}") for i in range(7)}
    score(rescore, "--prune")
    authors = {r["author"] for r in rows_of(both["output.path"])}
    assert authors == {hashed(f"author-{i}", OTHER_KEY) for i in range(7)}
    assert score(both).result["plan"]["up_to_date"] == 2


def test_a_day_whose_author_has_no_pseudonym_fails_alone(score, basics, tmp_path, monkeypatch):
    """Numbers with a gap in them, as pandas writes them."""
    for day, authors in ((1, [7, 8]), (2, [7.0, None]), (3, [9, 7])):
        folder = tmp_path / "numbers" / f"day={day}"
        folder.mkdir(parents=True)
        table = {"doc_id": [day, day + 10], "author": authors, "text": ["one text", "another"]}
        pq.write_table(pa.table(table), folder / "a.parquet")
    settings = basics | {
        "input.path": str(tmp_path / "numbers"), "input.author_column": "author", "input.pseudonymise": ["author"]
    }  # fmt: skip
    monkeypatch.setenv("BIGFIVE_PSEUDONYM_KEY", KEY)
    with pytest.raises(PartitionsFailedError, match=r"1 of 3 partitions failed: .*author as double: pseudonyms are"):
        score(settings)
    rows = rows_of(settings["output.path"])
    assert sorted(r["author"] for r in rows) == sorted(hashed(i) for i in (7, 8, 9, 7))


def test_a_partition_that_can_not_be_read_keeps_no_other_pseudonyms(score, both, monkeypatch):
    score(both)
    monkeypatch.setenv("BIGFIVE_PSEUDONYM_KEY", OTHER_KEY)
    broken = next((Path(both["input.path"]) / "dt=2026-01-06").glob("*.parquet"))
    broken.write_bytes(b"no Parquet")
    with pytest.raises(RefusedError, match=r"dt=2026-01-06 can't be scored .* restore its files"):
        score(both | {"on_schema_change": "rescore", "plan.max_rescored_share": 1.0})
    assert {r["author"] for r in rows_of(both["output.path"])} == {hashed(f"author-{i}") for i in range(7)}


def test_what_has_no_pseudonym_is_refused_before_anything_is_scored(score, both, basics, tmp_path, monkeypatch):
    with pytest.raises(
        SettingsError, match=r"pseudonymise names the author, and there is none: set input\.author_column"
    ):
        score(basics | {"input.pseudonymise": ["author"]})
    halves = write_corpus(tmp_path / "halves", days=1, half=0.5)
    with pytest.raises(
        InputError, match="column half as double: pseudonyms are made of strings and whole numbers only"
    ):
        score(both | {"input.path": str(halves), "input.author_column": "half"})
    monkeypatch.setenv("BIGFIVE_PSEUDONYM_KEY", "short")
    with pytest.raises(SettingsError, match="has 5 characters and can be guessed"):
        score(both)
    assert not Path(both["output.path"]).exists()


def test_iceberg_keeps_pseudonyms_and_the_type_of_its_columns(score, both, tmp_path):
    pytest.importorskip("pyiceberg")
    numbers = tmp_path / "numbers" / "dt=2026-01-05"
    numbers.mkdir(parents=True)
    pq.write_table(pa.table({"doc_id": [1, 2], "author": ["a", "b"], "text": ["one", "two"]}), numbers / "a.parquet")
    settings = both | {"input.path": str(tmp_path / "numbers"), "output.format": "iceberg"}
    score(settings | {"input.pseudonymise": ["author"]})
    score(settings | {"input.pseudonymise": ["author"], "labels.thresholds": {"O": 0.0}})
    files = f"{both['output.path']}/data/**/*.parquet"
    found = duckdb.sql(f"SELECT doc_id, author FROM read_parquet('{files}') WHERE label_openness ORDER BY 1").fetchall()
    assert set(found) == {(1, hashed("a")), (2, hashed("b"))}
    with pytest.raises(RefusedError, match="has column doc_id as bigint, the settings make it string"):
        score(settings | {"on_schema_change": "rescore"})
    first = min(Path(f"{both['output.path']}.job/runs").glob("*.json"), key=lambda file: file.stat().st_mtime)
    assert json.loads(first.read_text())["pseudonyms"].keys() == {"author"}
