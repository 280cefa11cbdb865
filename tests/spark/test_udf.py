"""The column function and the DataFrame function in a real session."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from pyspark.sql import functions as F

import bigfive_udf
from bigfive_udf.errors import InputError, SettingsError
from bigfive_udf.model import hardware
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.model.hardware import Placement
from bigfive_udf.spark import machines
from bigfive_udf.spark.failures import spark_failures
from bigfive_udf.spark.udf import model_at, spark_model, with_scores
from bigfive_udf.spark.workers import worker
from bigfive_udf.spark.workers.worker import check_machine
from bigfive_udf.traits import PREDICTION_FIELDS, TRAITS
from support.cluster import clean_environment
from support.models import TRAINING_TEXT

PROBABILITIES = [f"prob_{t}" for t in TRAITS]
TEXTS = [" ".join(TRAINING_TEXT[i % 5].split()[: 1 + i % 13]) for i in range(600)] + [None, "", "  "]


@pytest.fixture(scope="module")
def texts(spark):
    return spark.createDataFrame(list(enumerate(TEXTS)), "id int, text string").repartition(5).cache()


@pytest.fixture(scope="module")
def expected(checkpoint):
    return load_artifact(checkpoint()).predict(TEXTS, precision="fp32")


def test_scores_in_spark_equal_those_without(spark, texts, checkpoint, expected):
    scored = bigfive_udf.score_dataframe(texts, checkpoint(), precision="fp32")
    assert [(c, t) for c, t in scored.dtypes][2:] == [(f.name, f.sql_type) for f in PREDICTION_FIELDS]
    frame = scored.toPandas().sort_values("id")
    np.testing.assert_allclose(frame[PROBABILITIES], expected[PROBABILITIES], atol=1e-5)
    for column in ("n_tokens", "n_windows", "truncated", "status", "status_reason", "model_id"):
        assert frame[column].tolist() == expected[column].tolist(), column


def test_a_trait_without_labels_is_null_in_every_row(texts, checkpoint, expected):
    scored = bigfive_udf.score_dataframe(texts, checkpoint(traits_without_labels=["openness"]), precision="fp32")
    assert scored.where("prob_openness IS NOT NULL OR label_openness IS NOT NULL").count() == 0
    frame = scored.toPandas().sort_values("id")
    assert frame["status"].tolist() == expected["status"].tolist()
    np.testing.assert_allclose(frame[PROBABILITIES[:4]], expected[PROBABILITIES[:4]], atol=1e-5)


def test_probabilities_that_do_not_exist_are_null_not_nan(texts, checkpoint):
    scored = bigfive_udf.score_dataframe(texts, checkpoint())
    empty = scored.where("status = 'empty'")
    assert empty.count() == 3
    assert empty.where(" AND ".join(f"{c} IS NULL" for c in [*PROBABILITIES, "label_openness"])).count() == 3


def test_labels_are_what_sql_says_of_the_stored_float(texts, checkpoint, tmp_path):
    model = load_artifact(checkpoint())
    somewhere = float(np.float32(model.predict(TEXTS[:1], precision="fp32").prob_openness[0]))
    spark_side = spark_model(texts.sparkSession, model, precision="fp32")
    thresholds = dict.fromkeys(TRAITS, 0.3) | {"openness": somewhere}
    with_scores(texts, spark_side, "text", thresholds).write.parquet(str(tmp_path / "scores"))
    import duckdb

    disagreeing = duckdb.sql(
        f"SELECT count(*) FROM read_parquet('{tmp_path}/scores/*.parquet') WHERE "
        f"label_openness IS DISTINCT FROM (prob_openness::DOUBLE >= {somewhere!r}::DOUBLE) OR "
        "label_neuroticism IS DISTINCT FROM (prob_neuroticism::DOUBLE >= 0.3)"
    ).fetchall()
    assert disagreeing == [(0,)]


def test_each_row_is_evaluated_once_however_the_result_is_used(texts, checkpoint):
    model = spark_model(texts.sparkSession, load_artifact(checkpoint()))
    column = model.column
    scored = texts.withColumn("s", column("text")).select("id", "s.*")
    filtered = scored.where("prob_openness > 0.1 AND prob_neuroticism < 0.9").withColumn(
        "twice", F.col("prob_openness") * 2
    )
    filtered.where("twice > 0.3").collect()
    assert model.tally.value.documents == len(TEXTS)


def test_each_worker_loads_the_model_once(spark, texts, checkpoint):
    model = spark_model(spark, load_artifact(checkpoint(seed=7)))
    for _ in range(3):
        texts.repartition(8).withColumn("s", model.column("text")).write.format("noop").mode("overwrite").save()
    loads = model.tally.value.loads
    assert model.tally.value.documents == 3 * len(TEXTS)
    assert 1 <= len(loads) <= 2, "local[2] has two Python workers"
    assert set(loads.values()) == {1}


def test_a_worker_computes_with_the_threads_of_its_task(spark, texts, checkpoint):
    model = spark_model(spark, load_artifact(checkpoint()))
    texts.withColumn("s", model.column("text")).write.format("noop").mode("overwrite").save()
    assert model.tally.value.threads == int(spark.conf.get("spark.task.cpus", "1"))


def test_rows_gathered_over_several_arrow_batches_come_back_in_order(spark, texts, checkpoint, expected):
    before = spark.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch")
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "7")
    try:
        frame = bigfive_udf.score_dataframe(texts, checkpoint(), precision="fp32").toPandas().sort_values("id")
    finally:
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", before)
    np.testing.assert_allclose(frame[PROBABILITIES], expected[PROBABILITIES], atol=1e-5)


ENCRYPTED = """
import sys
import pyarrow as pa
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.spark.session import job_session
from bigfive_udf.spark.udf import spark_model

spark = job_session("encrypted")
model = spark_model(spark, load_artifact(sys.argv[1]), precision="fp32")
files = model.remote.files

def look(batches):
    for _ in batches:
        yield pa.RecordBatch.from_pylist([{"held": hasattr(files, "_value")}])

texts = spark.range(0, 64, 1, 8).selectExpr("concat('I like ', id) AS text")
print(texts.select(model.column("text").alias("s")).where("s.status = 'scored'").count())
print([held for held, in spark.range(0, 4, 1, 4).mapInArrow(look, "held boolean").collect()])
"""


@pytest.mark.parametrize("encrypted", ["true", "false"])
def test_no_worker_keeps_a_copy_of_the_model_beside_the_one_that_all_map(checkpoint, encrypted):
    """Where Spark encrypts, every worker is given the files as it starts, asked for or not."""
    conf = f"--conf spark.io.encryption.enabled={encrypted} --conf spark.ui.enabled=false"
    environment = clean_environment(
        PYSPARK_PYTHON=sys.executable, PYSPARK_SUBMIT_ARGS=f"--master local[2] {conf} pyspark-shell"
    )
    done = subprocess.run(
        [sys.executable, "-c", ENCRYPTED, str(checkpoint())], env=environment, capture_output=True, text=True,
        timeout=180,
    )  # fmt: skip
    assert done.stdout.split("\n")[:2] == ["64", str([False] * 4)], done.stderr


@pytest.mark.skipif(hardware.look().cpu_bf16, reason="this machine has bf16")
def test_a_machine_that_came_late_says_that_it_lacks_what_the_run_computes_with(spark, texts, checkpoint):
    artifact = load_artifact(checkpoint(seed=11))
    told = {}
    for precision in ("fp32", "bf16"):
        model = model_at(spark, artifact, Placement("cpu", precision), artifact.options())
        texts.withColumn("s", model.column("text")).write.format("noop").mode("overwrite").save()
        told[precision] = [note.message for note in model.tally.value.heard.times if "slow in it" in note.message]
    assert told["fp32"] == []
    assert len(told["bf16"]) == 1 and "no bf16 in hardware" in told["bf16"][0]


@pytest.mark.parametrize(("has_it", "warnings"), [(True, 0), (False, 1)])
def test_only_a_machine_without_bf16_is_slow_in_it(monkeypatch, caplog, has_it, warnings):
    """Of any machine that tests run on, by what it would be seen as."""
    monkeypatch.setattr(hardware, "look", lambda use_gpu: hardware.Hardware("late", cpu_bf16=has_it))
    check_machine(Placement("cpu", "bf16"))
    check_machine(Placement("cpu", "fp32"))
    assert len(caplog.records) == warnings


@pytest.mark.skipif(hardware.look().cuda, reason="this machine has a GPU")
def test_a_machine_without_a_gpu_that_came_late_is_told_with_the_cure(spark, texts, checkpoint):
    artifact = load_artifact(checkpoint(seed=12))
    model = model_at(spark, artifact, Placement("cuda", "fp32"), artifact.options())
    with pytest.raises(SettingsError, match="has no usable GPU; give it one or set auto or cpu"), spark_failures():
        texts.withColumn("s", model.column("text")).write.format("noop").mode("overwrite").save()


@pytest.mark.parametrize(("workers", "lines"), [(2, 0), (16, 1)])
def test_many_workers_on_one_gpu_are_warned_of_when_a_model_is_made(
    spark, checkpoint, monkeypatch, caplog, workers, lines
):
    monkeypatch.setattr(hardware, "look", lambda use_gpu=True: hardware.Hardware("here", True, cuda_bf16=True))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # there is no GPU in the tests
    monkeypatch.setattr(machines, "slots", lambda spark: workers)
    spark_model(spark, load_artifact(checkpoint())).close()
    assert len([r for r in caplog.records if "share 1 GPU" in r.message]) == lines


def test_a_worker_keeps_two_models_on_each_device(monkeypatch):
    """Spark may send a worker from one GPU to another: those of the first stay there."""
    keys = [(name, None, device) for device in ("cpu", "cuda:0") for name in "ab"]
    monkeypatch.setattr(worker, "_scorers", dict.fromkeys(keys))
    worker._make_room("cpu")
    assert list(worker._scorers) == keys[1:]
    worker._make_room("cpu")
    assert list(worker._scorers) == keys[1:], "there was room"


def test_score_udf_works_in_select(spark, texts, checkpoint, expected):
    score = bigfive_udf.score_udf(spark, checkpoint(), precision="fp32")
    rows = (
        texts.select("id", score("text").alias("scores")).select("id", "scores.prob_openness").orderBy("id").collect()
    )
    got = np.array([np.nan if r[1] is None else r[1] for r in rows])
    np.testing.assert_allclose(got, expected["prob_openness"].to_numpy(), atol=1e-5)


def test_a_missing_or_wrong_text_column_is_said_at_once(texts, checkpoint):
    with pytest.raises(InputError, match="no column body; the columns are id, text"):
        bigfive_udf.score_dataframe(texts, checkpoint(), text_column="body")
    with pytest.raises(InputError, match="text column id is of type int"):
        bigfive_udf.score_dataframe(texts, checkpoint(), text_column="id")


def test_a_column_that_scoring_adds_is_refused(texts, checkpoint):
    with pytest.raises(SettingsError, match="has a column status"):
        bigfive_udf.score_dataframe(texts.withColumn("Status", F.lit(1)), checkpoint())


def test_a_session_of_spark_connect_is_refused(checkpoint, tmp_path):
    """A real Connect session in a process of its own, since one process has either kind."""
    program = f"""
from pyspark.sql import SparkSession
import bigfive_udf
from bigfive_udf.errors import SettingsError
spark = SparkSession.builder.remote("local[1]").getOrCreate()
try:
    bigfive_udf.score_dataframe(spark.createDataFrame([("a",)], "text string"), {str(checkpoint())!r})
except SettingsError as error:
    print("refused:", error)
spark.stop()
"""
    pytest.importorskip("grpc", reason="pyspark[connect] is not installed")
    environment = clean_environment(PYSPARK_PYTHON=sys.executable)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=180
    )
    assert "refused: this is a Spark Connect session, which is not supported" in done.stdout, done.stderr
