"""With output.table the job keeps a table that people query, and its views, in step with what it commits."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from bigfive_udf import __version__
from bigfive_udf.errors import RefusedError, SettingsError
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.runs import Run
from bigfive_udf.settings.score import ScoreSettings
from bigfive_udf.spark.job.planning import scoring_of
from bigfive_udf.spark.output.catalog_lookup import Names
from bigfive_udf.spark.output.catalog_table import CatalogTable
from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.tables.ledger import Ledger
from bigfive_udf.tables.parquet_table import ParquetTable
from bigfive_udf.traits import SCORE_FIELDS
from support.cluster import spark_sql, submit
from support.corpora import write_corpus
from support.nights import night

DAYS = ("2026-01-05", "2026-01-06", "2026-01-07")


@pytest.fixture
def listed(basics: dict[str, Any], spark: Any) -> Iterator[dict[str, Any]]:
    """Settings of a job whose table is in the catalog, which forgets it after the test."""
    yield basics | {"output.table": "scores", "input.author_column": "author", "plan.max_rescored_share": 1.0}
    for name in ("scores_long", "scores_by_partition", "scores_by_author"):
        spark.sql(f"DROP VIEW IF EXISTS {name}")
    spark.sql("DROP TABLE IF EXISTS scores")


def in_files(settings: dict[str, Any], query: str) -> list[tuple[Any, ...]]:
    """DuckDB's answer to a query on `files`, those of the table."""
    how = "hive_partitioning=true, hive_types_autocast=false, union_by_name=true"
    files = f"read_parquet('{settings['output.path']}/**/*.parquet', {how})"
    return duckdb.sql(query.replace("files", files)).fetchall()


def asked(spark: Any, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in spark.sql(query).collect()]


def partitions(spark: Any) -> list[str]:
    return [row[0] for row in asked(spark, "SHOW PARTITIONS scores")]


def comments(spark: Any, table: str = "scores") -> dict[str, str]:
    return {row[0]: row[2] for row in asked(spark, f"DESCRIBE {table}")}


def properties(spark: Any, table: str = "scores") -> dict[str, str]:
    return dict(asked(spark, f"SHOW TBLPROPERTIES {table}"))


def counts(spark: Any) -> list[tuple[Any, ...]]:
    return asked(spark, "SELECT dt, run_id, count(*) FROM scores GROUP BY ALL ORDER BY ALL")


def evaluation(trait: str, better: bool) -> dict[str, Any]:
    """What an evaluation by author says of one trait."""
    area, ends = (0.7, [0.65, 0.75]) if better else (0.5, [0.4, 0.6])
    return {"split": "author", "traits": {trait: {"roc_auc": area, "roc_auc_ci": ends, "better_than_chance": better}}}


# --- what is there to be asked ---


def test_the_table_is_there_with_its_partitions_its_columns_and_what_they_mean(score, listed, spark):
    run = score(listed | {"output.purpose": 'a study; nobody\'s "score"'})
    assert partitions(spark) == [f"dt={day}" for day in DAYS]
    columns = [(name, kind) for name, kind in spark.table("scores").dtypes]
    assert columns == [
        ("doc_id", "string"), ("author", "string"), *((f.name, f.sql_type) for f in SCORE_FIELDS), ("dt", "string"),
    ]  # fmt: skip
    everything = ", ".join(name for name, _ in columns if name != "scored_at")
    assert asked(spark, f"SELECT {everything} FROM scores ORDER BY doc_id") == in_files(
        listed, f"SELECT {everything} FROM files ORDER BY doc_id"
    )
    told = comments(spark)
    assert told["prob_openness"] == "probability of high openness, 0 to 1; null unless status is scored"
    assert told["label_openness"] == "predicted label: prob_openness >= 0.5"
    assert "who wrote it" in told["author"] and "partition" in told["dt"] and all(told[c] for c, _ in columns)
    about = properties(spark)
    assert about["bigfive.model_id"] == run.result["model_id"]
    assert about["bigfive.version"] == __version__
    assert about["bigfive.artifact"] == listed["model.path"]
    assert about["bigfive.purpose"] == 'a study; nobody\'s "score"'
    assert about["bigfive.evaluation.openness"] == "not known"
    assert run.result["catalog"] == {
        "table": "scores", "views": ["scores_long", "scores_by_partition", "scores_by_author"], "behind": None,
    }  # fmt: skip


def test_a_label_that_is_kept_back_says_so(score, listed, spark):
    score(listed)
    before = partitions(spark)
    score(listed | {"labels.require_evidence": True})
    assert comments(spark)["label_neuroticism"].startswith("always null")
    assert asked(spark, "SELECT DISTINCT label_neuroticism FROM scores") == [(None,)]
    assert partitions(spark) == before


def test_what_is_told_of_models_and_thresholds_is_that_of_the_partitions_not_of_the_run(
    score, listed, corpus, spark, checkpoint, tmp_path
):
    first = shutil.copytree(listed["model.path"], tmp_path / "first")
    (first / "evaluation.json").write_text(json.dumps(evaluation("openness", better=False)))
    old = score(listed | {"model.path": str(first)}, "--limit", "1").result["model_id"]
    second = shutil.copytree(checkpoint(seed=5), tmp_path / "second")
    known = evaluation("extraversion", better=False)
    known["traits"] |= evaluation("agreeableness", better=True)["traits"]
    (second / "evaluation.json").write_text(json.dumps(known))
    other = listed | {"model.path": str(second), "on_model_change": "only_new", "labels.thresholds": {"O": 0.625}}
    new = score(other).result["model_id"]
    told, about = comments(spark), properties(spark)
    assert told["label_openness"] == (
        "predicted label: prob_openness >= a threshold that differs by partition, 0.5 to 0.625; "
        f"by the evaluation of model {old} NO better than chance"
    )
    assert told["prob_extraversion"].endswith(f"; by the evaluation of model {new} NO better than chance")
    assert told["label_neuroticism"] == (
        "predicted label: prob_neuroticism >= 0.5; not known whether better than chance"
    )
    assert about["bigfive.model_id"] == f"{new}, {old}"
    assert about["bigfive.artifact"] == f"{new}: {second}; {old}: {first}"
    line = "better than chance; ROC AUC 0.500, 95 % interval 0.400 to 0.600"
    assert about["bigfive.evaluation.openness"] == f"{new}: not known; {old}: NO {line}"
    line = "better than chance; ROC AUC 0.700, 95 % interval 0.650 to 0.750"
    assert about["bigfive.evaluation.agreeableness"] == f"{new}: {line}; {old}: not known"
    assert about["bigfive.evaluation.split"] == f"{new}: by author; {old}: by author"
    # The corpus keeps only what the older model has scored: what is left of the other in the table stays told.
    for day in DAYS[1:]:
        shutil.rmtree(corpus / f"dt={day}")
    score(listed | {"model.path": str(first)})
    assert (comments(spark), properties(spark)) == (told, about)
    score(listed | {"model.path": str(first)}, "--prune")
    assert comments(spark)["label_openness"] == (
        "predicted label: prob_openness >= 0.5; by its evaluation NO better than chance"
    )
    assert properties(spark)["bigfive.model_id"] == old
    assert not [key for key in properties(spark) if new in key]


def test_views_ask_what_duckdb_asks_of_the_files_and_their_intervals_are_scipys(score, listed, spark):
    score(listed | {"output.least_texts": 18, "labels.thresholds": {"N": 0.4}})
    assert asked(spark, "SELECT count(*), count(DISTINCT doc_id, trait) FROM scores_long") == [(600, 600)]
    assert asked(
        spark, "SELECT doc_id, probability, label, dt FROM scores_long WHERE trait = 'neuroticism' ORDER BY doc_id"
    ) == in_files(listed, "SELECT doc_id, prob_neuroticism, label_neuroticism, dt FROM files ORDER BY doc_id")
    found = {(row["author"], row["trait"]): row for row in spark.table("scores_by_author").collect()}
    assert len(found) == 7 * 5
    some = 0
    for author, texts in in_files(listed, "SELECT author, count(*) FROM files WHERE status = 'scored' GROUP BY 1"):
        row = found[author, "neuroticism"]
        assert row["texts"] == texts
        if texts < 18:
            assert {row[c] for c in row.asDict() if c.startswith(("mean", "share"))} == {None}
            continue
        some += 1
        values = in_files(
            listed,
            f"SELECT prob_neuroticism::double, label_neuroticism FROM files WHERE status = 'scored' "
            f"AND author = '{author}'",
        )
        probabilities, positives = [v for v, _ in values], sum(label for _, label in values)
        error = stats.sem(probabilities)
        low, high = stats.t.interval(0.95, texts - 1, sum(probabilities) / texts, error)
        assert (row["mean_low"], row["mean_high"]) == pytest.approx((low, high), abs=0.02 * error)
        wilson = stats.binomtest(positives, texts).proportion_ci(method="wilson")
        assert (row["share_low"], row["share_high"]) == pytest.approx((wilson.low, wilson.high), abs=1e-3)
        assert row["share_positive"] == positives / texts
    assert 0 < some < 7
    assert asked(
        spark,
        "SELECT dt, documents, scored, empty, failed, round(mean_tokens, 9), round(mean_probability, 9) "
        "FROM scores_by_partition WHERE trait = 'openness' ORDER BY dt",
    ) == in_files(
        listed,
        "SELECT dt, count(*), count(prob_openness), count(*) FILTER (status = 'empty'), 0, "
        "round(avg(n_tokens) FILTER (status = 'scored'), 9), round(avg(prob_openness::double), 9) "
        "FROM files GROUP BY dt ORDER BY dt",
    )
    told = comments(spark, "scores_by_author")
    assert told["mean_probability"] == "mean over the texts; null with fewer than 18"
    assert all(told.values())


def test_the_view_by_author_is_kept_in_files_where_that_is_asked_for(score, listed, corpus, spark):
    query = "SELECT * FROM scores_by_author ORDER BY author, trait"
    score(listed)
    live = asked(spark, query)
    kept = listed | {"output.author_files": True}
    score(kept)
    assert asked(spark, query) == live
    (folder,) = Path(f"{listed['output.path']}.job/by_author").iterdir()
    assert len(pq.read_table(folder)) == len(live) == 35
    assert "by_author" in asked(spark, "SHOW CREATE TABLE scores_by_author")[0][0].split(" AS ")[-1]
    os.utime(corpus / f"dt={DAYS[0]}" / "part-0.parquet", (1.7e9, 1.7e9))
    (corpus / f"dt={DAYS[1]}" / "part-0.parquet").unlink()
    score(kept)
    texts = "SELECT DISTINCT author, texts FROM scores_by_author ORDER BY author"
    assert asked(spark, texts) == in_files(listed, "SELECT author, count(*) FROM files GROUP BY 1 ORDER BY 1")
    assert len(list(folder.parent.iterdir())) == 2, "the one before, for who reads it still"
    score(kept | {"retention.trash_days": 0.0})
    (newest,) = folder.parent.iterdir()
    assert newest != folder
    assert asked(spark, texts)
    score(listed)
    assert not list(folder.parent.iterdir())
    assert "parquet" not in asked(spark, "SHOW CREATE TABLE scores_by_author")[0][0].split(" AS ")[-1]


# --- night after night ---


def test_nights_add_replace_and_drop_partitions(score, listed, corpus, spark):
    first = score(listed, "--until", "dt=2026-01-06").run_id
    assert counts(spark) == [(DAYS[0], first, 40), (DAYS[1], first, 40)]
    os.utime(corpus / f"dt={DAYS[0]}" / "part-0.parquet", (1.7e9, 1.7e9))
    (corpus / f"dt={DAYS[1]}" / "part-0.parquet").unlink()
    second = score(listed).run_id
    assert counts(spark) == [(DAYS[0], second, 40), (DAYS[2], second, 40)]
    assert partitions(spark) == [f"dt={day}" for day in DAYS], "an empty partition is one"
    shutil.rmtree(corpus / f"dt={DAYS[0]}")
    score(listed, "--prune")
    assert partitions(spark) == [f"dt={day}" for day in DAYS[1:]]


def test_a_night_without_news_changes_nothing_in_the_catalog_and_starts_no_spark_job(score, listed, spark):
    score(listed)
    before = asked(spark, "DESCRIBE FORMATTED scores"), properties(spark), properties(spark, "scores_long")
    tracker = spark.sparkContext.statusTracker()
    jobs = set(tracker.getJobIdsForGroup(None))
    score(listed)
    assert set(tracker.getJobIdsForGroup(None)) == jobs
    assert (asked(spark, "DESCRIBE FORMATTED scores"), properties(spark), properties(spark, "scores_long")) == before


def test_what_a_run_could_not_tell_the_catalog_the_next_one_does(score, listed, spark):
    """It may have died between a commit and the catalog, before the first or in the midst of others."""
    del (unlisted := dict(listed))["output.table"]
    score(unlisted, "--limit", "1")
    assert not spark.catalog.tableExists("scores")
    score(listed, "--limit", "1")
    assert partitions(spark) == ["dt=2026-01-05", "dt=2026-01-06"]
    score(unlisted)
    spark.sql("ALTER TABLE scores DROP PARTITION (dt = '2026-01-05')")
    spark.sql("ALTER TABLE scores ADD PARTITION (dt = 'never')")
    spark.sql("DROP VIEW scores_by_author")
    assert score(listed).result["plan"]["score"] == []
    assert partitions(spark) == [f"dt={day}" for day in DAYS]
    assert len(asked(spark, "SELECT * FROM scores_by_author")) == 35
    spark.sql("DROP TABLE scores")
    score(listed)
    assert [n for *_, n in counts(spark)] == [40, 40, 40]
    assert Path(listed["output.path"], "dt=2026-01-05").exists()


def test_a_further_kept_column_is_null_in_older_partitions_and_another_type_makes_the_table_anew(
    score, listed, spark, tmp_path
):
    liked = listed | {"input.path": str(write_corpus(tmp_path / "liked", likes=7))}
    score(liked, "--until", "dt=2026-01-06")
    score(liked | {"input.keep_columns": ["likes"], "on_schema_change": "only_new"})
    per_day = "SELECT DISTINCT dt, likes FROM scores ORDER BY dt"
    assert asked(spark, per_day) == [(DAYS[0], None), (DAYS[1], None), (DAYS[2], 7)]
    other = {"input.path": str(write_corpus(tmp_path / "words", likes="many")), "on_schema_change": "rescore"}
    score(liked | other | {"input.keep_columns": ["likes"]}, "--rescore")
    assert asked(spark, per_day) == [(day, "many") for day in DAYS]


def test_a_table_whose_partitions_have_a_column_in_two_types_is_refused(score, listed, spark, tmp_path):
    """Spark would read one of them, and fail on the other."""
    liked = listed | {"input.path": str(write_corpus(tmp_path / "liked", likes=7)), "input.keep_columns": ["likes"]}
    score(liked, "--until", "dt=2026-01-06")
    before = partitions(spark), counts(spark)
    changed = liked | {
        "input.path": str(write_corpus(tmp_path / "words", likes="many")),
        "on_schema_change": "only_new",
    }
    told = r"column likes is bigint in dt=2026-01-05 and string in what is to be scored, .*on_schema_change=rescore"
    with pytest.raises(RefusedError, match=told):
        score(changed, "--partition", "dt=2026-01-07")
    assert (partitions(spark), counts(spark)) == before
    del (unlisted := dict(changed))["output.table"]
    score(unlisted, "--partition", "dt=2026-01-07")
    with pytest.raises(RefusedError, match=r"column likes is string in dt=2026-01-07 and bigint in dt=2026-01-05"):
        score(changed, "--partition", "dt=2026-01-07")


def test_the_view_by_author_goes_with_the_author_column(score, listed, spark):
    score(listed)
    del (without := dict(listed))["input.author_column"]
    score(without | {"on_schema_change": "rescore"})
    assert not spark.catalog.tableExists("scores_by_author")
    assert "author" not in spark.table("scores_long").columns
    score(listed | {"on_schema_change": "rescore"})
    assert len(asked(spark, "SELECT * FROM scores_by_author")) == 35


def test_a_corpus_without_partition_columns(score, listed, spark, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    pq.write_table(pa.table({"doc_id": [1, 2], "text": ["one", None], "author": ["a", "b"]}), flat / "a.parquet")
    settings = listed | {"input.path": str(flat)}
    score(settings)
    assert asked(spark, "SELECT doc_id, status FROM scores ORDER BY doc_id") == [(1, "scored"), (2, "empty")]
    pq.write_table(pa.table({"doc_id": [3], "text": ["three"], "author": ["c"]}), flat / "b.parquet")
    score(settings)
    assert asked(spark, "SELECT doc_id FROM scores ORDER BY doc_id") == [(1,), (2,), (3,)]
    assert not spark.catalog.tableExists("scores_by_partition")
    assert asked(spark, "SELECT count(*) FROM scores_long") == [(15,)]


# --- names, and values of all kinds ---


def test_a_table_of_a_database_is_found_from_any_other(score, listed, spark):
    with pytest.raises(SettingsError, match=r"the catalog has no database people; make it with CREATE DATABASE people"):
        score(listed | {"output.table": "people.scores"})
    assert not Path(listed["output.path"]).exists(), "nothing was scored"
    spark.sql("CREATE DATABASE people")
    try:
        score(listed | {"output.table": "people.scores"})
        spark.sql("CREATE DATABASE elsewhere")
        spark.sql("USE elsewhere")
        assert asked(spark, "SELECT sum(documents) FROM people.scores_by_partition") == [(600,)]
        assert asked(spark, "SELECT count(*) FROM people.scores_by_author") == [(35,)]
    finally:
        spark.sql("USE default")
        spark.sql("DROP DATABASE people CASCADE")
        spark.sql("DROP DATABASE IF EXISTS elsewhere")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE scores USING parquet LOCATION '{elsewhere}' AS SELECT 1 AS one",
        "CREATE TABLE scores USING parquet AS SELECT 1 AS one",
        "CREATE VIEW scores AS SELECT 1 AS one",
        "CREATE VIEW scores_by_author AS SELECT 1 AS one",
        "CREATE TABLE scores_long USING parquet AS SELECT 1 AS one",
    ],
)
def test_what_is_somebody_elses_is_refused_and_stays(score, listed, spark, statement, tmp_path):
    name = statement.split()[2]
    spark.sql(statement.format(elsewhere=tmp_path / "elsewhere"))
    try:
        with pytest.raises(RefusedError, match=rf"^output\.table scores .*{name}.*: choose another name, or drop"):
            score(listed)
        assert asked(spark, f"SELECT * FROM {name}") == [(1,)]
        assert not Path(listed["output.path"]).exists(), "nothing was scored"
    finally:
        spark.sql(f"DROP {statement.split()[1]} {name}")


def test_a_column_that_a_view_has_already_or_hive_refuses_is_told_before_anything_is_scored(
    score, listed, spark, tmp_path
):
    corpus = write_corpus(tmp_path / "named", texts="x")
    with pytest.raises(SettingsError, match=r"its view scores_by_author would have two columns texts"):
        score(listed | {"input.path": str(corpus), "input.author_column": "texts"})
    with pytest.raises(SettingsError, match=r"Hive takes no comma in the name of a column, and 'a,b' has one"):
        score(listed | {"input.keep_columns": ["a,b"], "input.path": str(write_corpus(tmp_path / "c", **{"a,b": 1}))})


NASTY = ("x'; DROP TABLE scores; --", "'\"`", "${dt}", "\\'", "50%25", "a=b/c", "__x", " x ", "é東")


def any_text(dice: random.Random) -> str:
    """A value or a name of the characters that something gives a meaning to."""
    return "".join(dice.choices("'\"`\\;%${}*=/:#[]^?-, \n\té東😀aB0", k=dice.randint(1, 9)))


@pytest.fixture(scope="module")
def scoring(checkpoint: Callable[..., Path]) -> Any:
    settings = ScoreSettings.model_validate(
        {
            "input": {"path": "x", "id_column": "doc_id"},
            "output": {"path": "x", "table": "scores"},
            "model": {"path": str(checkpoint())},
        }
    )
    return settings, scoring_of(settings, load_artifact(settings.model.path))


@pytest.mark.parametrize("seed", range(2))
def test_the_metastore_finds_partitions_and_columns_of_any_name(spark, scoring, tmp_path, seed):
    from pyspark.sql import functions as F

    dice, (settings, how) = random.Random(seed), scoring
    path, fs = str(tmp_path / "it's a `table`" / "scores"), LocalFileSystem()
    columns = (any_text(dice).replace("/", "").replace("=", "") + "'`;", "Kind")
    values = dict.fromkeys([*NASTY, *(any_text(dice) for _ in range(9)), None])
    wanted = {(value, "K"): [i] for i, value in enumerate(values)}

    def told() -> None:
        for checksum in Path(path).rglob("*.crc"):  # what stands for them here Spark would believe
            checksum.unlink()
        table = ParquetTable(fs, path, columns)
        ledger = Ledger(fs, f"{path}.job/ledger")
        catalog = CatalogTable(Names(spark, None), "scores", table, ledger, settings, how, Run("x"))
        catalog.catch_up()
        assert catalog.behind is None

    try:
        night(path, columns, wanted, carried={"doc_id": "bigint"})
        told()
        found = spark.table("scores")
        key = F.col("`" + columns[0].replace("`", "``") + "`")
        rows = found.select("doc_id", key, "Kind").collect()
        assert {(r[0], r[1], r[2]) for r in rows} == {(i, *value) for value, (i,) in wanted.items()}
        assert len(rows) == len(wanted)
        for value in (NASTY[0], NASTY[1], None):  # asked of the metastore, as strings of its own language
            (row,) = found.where(key.eqNullSafe(F.lit(value))).select("doc_id").collect()
            assert [row[0]] == wanted[value, "K"]
        night(path, columns, dict.fromkeys(wanted), number=2)
        told()
        assert partitions(spark) == []
    finally:
        for view in ("scores_long", "scores_by_partition"):
            spark.sql(f"DROP VIEW IF EXISTS {view}")
        spark.sql("DROP TABLE IF EXISTS scores")


# --- in processes of their own ---


@pytest.mark.slow
def test_a_metastore_out_of_reach_costs_no_scores_and_spark_sql_reads_what_the_next_run_tells(listed, tmp_path):
    lost = "spark.hadoop.javax.jdo.option.ConnectionURL=jdbc:derby:/proc/not/here;create=true"
    first = submit(listed, directory=tmp_path, conf=[lost])
    assert first.code == 7, first.out + first.err
    assert first.error.startswith("error: output.table scores can't be brought up to date (")
    assert "none is lost, and the next run catches up" in first.error
    assert in_files(listed, "SELECT count(*) FROM files") == [(120,)]
    second = submit(listed, directory=tmp_path)
    assert second.code == 0, second.out + second.err
    assert "nothing to do: the table is up to date" in second.out
    assert (tmp_path / "metastore_db").is_dir(), "the embedded metastore, in the working directory"
    query = "SELECT dt, count(*), round(avg(prob_openness), 6) FROM scores GROUP BY dt ORDER BY dt"
    answer = spark_sql(query, tmp_path)
    files = in_files(listed, query.replace("scores", "files"))
    assert [(day, int(n), float(p)) for day, n, p in (line.split("\t") for line in answer)] == files


@pytest.mark.slow
def test_a_session_that_forgets_tables_is_refused(listed, tmp_path):
    done = submit(listed, directory=tmp_path, conf=["spark.sql.catalogImplementation=in-memory"])
    assert done.code == 2, done.out + done.err
    assert "spark.sql.catalogImplementation" in done.error
    assert not Path(listed["output.path"]).exists()
