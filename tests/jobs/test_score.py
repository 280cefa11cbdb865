"""The score job: every row there, columns as promised, scores as transformers', partitions whole."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
import pytest

from bigfive_udf.errors import InputError, OutputError, PartitionsFailedError, RefusedError, SettingsError
from bigfive_udf.model import hardware
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.model.evidence import evidence_of
from bigfive_udf.spark.job import steps
from bigfive_udf.spark.output.comments import probability_fields
from bigfive_udf.traits import TRAITS
from support.cluster import submit
from support.corpora import corrupt, write_corpus
from support.jobs_here import refused
from support.models import TRAINING_TEXT, overflowing
from support.oracle import Oracle
from support.scores import table_of

PROBABILITIES = [f"prob_{t}" for t in TRAITS]


def test_the_table_is_as_promised(score, basics, tmp_path, checkpoint):
    before = datetime.now(timezone.utc)
    run = score(basics | {"input.author_column": "author"})
    table = table_of(basics["output.path"])
    corpus = table_of(basics["input.path"])
    expected_types = {
        "doc_id": pa.string(),
        "author": pa.string(),
        **dict.fromkeys(PROBABILITIES, pa.float32()),
        **{f"label_{t}": pa.bool_() for t in TRAITS},
        "n_tokens": pa.int32(),
        "n_windows": pa.int32(),
        "truncated": pa.bool_(),
        "status": pa.string(),
        "status_reason": pa.string(),
        "model_id": pa.string(),
        "precision": pa.string(),
        "run_id": pa.string(),
        "scored_at": pa.timestamp("us", tz="UTC"),
        "dt": pa.string(),
    }
    assert table.schema.names == list(expected_types)
    for name, kind in expected_types.items():
        assert table.schema.field(name).type in (kind, pa.timestamp("us", "Etc/UTC")), name
    for column in ("doc_id", "author", "dt"):
        assert table[column].to_pylist() == corpus[column].to_pylist()

    oracle = Oracle(checkpoint())
    texts = corpus["text"].to_pylist()
    assert table["n_tokens"].to_pylist() == [oracle.n_tokens(text) for text in texts]
    probabilities = np.stack([table[c].to_numpy() for c in PROBABILITIES], axis=1)
    np.testing.assert_allclose(probabilities, [oracle.probabilities(text) for text in texts], atol=1e-5)
    assert set(table["run_id"].to_pylist()) == {run.run_id}
    (scored_at,) = set(table["scored_at"].to_pylist())
    assert before <= scored_at <= datetime.now(timezone.utc)


def test_only_the_table_lies_under_the_output_path(score, basics):
    run = score(basics)
    output = Path(basics["output.path"])
    files = {p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file()}
    assert all(f.startswith("dt=2026-01-0") for f in files)
    assert {f for f in files if f.endswith("_SUCCESS")} == {f"dt=2026-01-0{d}/_SUCCESS" for d in (5, 6, 7)}
    assert not list(Path(f"{output}.job/staging").iterdir())
    assert run.result["documents_in"] == run.result["documents_out"] == 120


def test_a_second_run_replaces_what_it_scores_and_nothing_else(score, basics):
    first = score(basics)
    second = score(basics, "--partition", "dt=2026-01-06", "--rescore")
    table = table_of(basics["output.path"])
    assert len(table) == 120
    by_day = {(r["dt"], r["run_id"]) for r in table.select(["dt", "run_id"]).to_pylist()}
    assert by_day == {
        ("2026-01-05", first.run_id),
        ("2026-01-06", second.run_id),
        ("2026-01-07", first.run_id),
    }


@pytest.mark.parametrize(
    ("flags", "days"),
    [
        (["--partition", "dt=2026-01-05", "--partition", "dt=2026-01-07"], {"05", "07"}),
        (["--since", "dt=2026-01-06"], {"06", "07"}),
        (["--until", "dt=2026-01-06"], {"05", "06"}),
        (["--limit", "1"], {"05"}),
    ],
)
def test_flags_narrow_a_run_to_partitions(score, basics, flags, days):
    score(basics, *flags)
    assert {d[-2:] for d in table_of(basics["output.path"])["dt"].to_pylist()} == days


def test_a_dry_run_prints_the_plan_and_writes_nothing(score, basics, capsys):
    score(basics, "--dry-run")
    printed = capsys.readouterr().out
    assert "3 partitions by dt to score, 120 documents" in printed
    assert "dt=2026-01-06" in printed
    assert not Path(basics["output.path"]).exists()
    assert not Path(basics["output.path"] + ".job").exists()


def test_a_corpus_without_partitions(score, basics, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    source = table_of(basics["input.path"]).drop_columns(["dt"])
    pq.write_table(source, flat / "a.parquet")
    for _ in range(2):
        score(basics | {"input.path": str(flat)})
    table = table_of(basics["output.path"])
    assert table["doc_id"].to_pylist() == source["doc_id"].to_pylist()
    assert "dt" not in table.schema.names


def test_a_text_that_is_there_often_is_scored_once(score, basics, tmp_path, checkpoint):
    often = "the same words, wherever they stand"
    texts = [often if i % 3 == 0 else f"words of their own, {i}" for i in range(600)]
    for day in range(2):
        folder = tmp_path / "repeats" / f"dt=2026-02-{day + 1:02d}"
        folder.mkdir(parents=True)
        for part in range(3):
            some = range(300 * day + part, 300 * (day + 1), 3)
            content = {"doc_id": [f"{i:03d}" for i in some], "author": ["a"] * 100, "text": [texts[i] for i in some]}
            pq.write_table(pa.table(content), folder / f"part-{part}.parquet")
    run = score(basics | {"input.path": str(tmp_path / "repeats")})
    assert run.result["repeats"] == 199
    assert run.result["documents_out"] == 600
    rows = table_of(basics["output.path"])
    oracle = Oracle(checkpoint())
    np.testing.assert_allclose(
        np.column_stack([rows[c].to_numpy() for c in PROBABILITIES])[[0, 1, 3, 303]],
        [oracle.probabilities(texts[i]) for i in (0, 1, 3, 303)],
        atol=1e-5,
    )


def test_wide_columns_beside_the_text_make_no_more_tasks(score, basics, tmp_path, monkeypatch):
    sizes = []
    real = steps.task_count
    monkeypatch.setattr(steps, "task_count", lambda rows, size, *more: sizes.append(size) or real(rows, size, *more))
    flat = tmp_path / "wide"
    flat.mkdir()
    noise = [os.urandom(3000) for _ in range(40)]
    pq.write_table(pa.table({"doc_id": list(range(40)), "text": ["a text"] * 40, "picture": noise}), flat / "a.parquet")
    score(basics | {"input.path": str(flat)})
    assert sizes[0] < 1000 < 120_000 < (flat / "a.parquet").stat().st_size


def test_partition_values_are_kept_to_the_letter(score, basics, tmp_path):
    values = ["0042", "2026-11", "a b%c=d:e", "ünï", "1e3"]
    root = tmp_path / "odd"
    from bigfive_udf.tables.partitions import partition_name

    for i, value in enumerate(values):
        folder = root / partition_name(("dt",), (value,)) / "hour=__HIVE_DEFAULT_PARTITION__"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"doc_id": [i], "text": ["one text"]}), folder / "p.parquet")
    run = score(basics | {"input.path": str(root)})
    assert run.result["documents_out"] == len(values)
    frame = table_of(basics["output.path"])
    written = sorted(p.relative_to(basics["output.path"]).as_posix() for p in Path(basics["output.path"]).glob("*/*"))
    assert written == sorted(p.relative_to(root).as_posix() for p in root.glob("*/*"))
    assert frame["hour"].to_pylist() == [None] * len(values)


def test_names_that_need_quotes_or_are_those_of_score_columns(score, basics, tmp_path):
    """A dotted partition column, an id with a backtick, and a text column with the name of a score column."""
    folder = tmp_path / "odd" / "date.day=2026-01-05"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"the `id`": [1, 2], "status": ["some text", None], "a.b": [3, 4]}), folder / "a.parquet")
    names = {"input.id_column": "the `id`", "input.text_column": "status", "input.keep_columns": ["a.b"]}
    score(basics | {"input.path": str(tmp_path / "odd")} | names, "--since", "date.day=2026-01-01")
    table = table_of(basics["output.path"], '"the `id`"')
    assert table["the `id`"].to_pylist() == [1, 2]
    assert table["a.b"].to_pylist() == [3, 4]
    assert table["status"].to_pylist() == ["scored", "empty"]
    assert set(table["date.day"].to_pylist()) == {"2026-01-05"}


def test_an_output_path_that_looks_like_a_glob(score, basics, tmp_path):
    output = tmp_path / "x[1]{a}" / "scores"
    run = score(basics | {"output.path": str(output)})
    assert run.result["documents_out"] == 120
    assert len(list(output.rglob("*.parquet"))) >= 3


def test_a_condition_that_empties_a_partition_empties_it_in_the_table(score, basics):
    score(basics)
    score(basics | {"input.where": "dt <> '2026-01-06'"}, "--rescore")
    assert set(table_of(basics["output.path"])["dt"].to_pylist()) == {"2026-01-05", "2026-01-07"}
    assert (Path(basics["output.path"]) / "dt=2026-01-06" / "_SUCCESS").exists()


def test_thresholds_of_the_settings_make_the_labels(score, basics):
    score(basics | {"labels.thresholds": {"E": 0.0, "neuroticism": 1.0}})
    table = table_of(basics["output.path"])
    assert set(table["label_extraversion"].to_pylist()) == {True}
    assert set(table["label_neuroticism"].to_pylist()) == {False}


def test_labels_without_evidence_stay_null_where_evidence_is_required(score, basics):
    score(basics | {"labels.require_evidence": True})
    table = table_of(basics["output.path"])
    assert set(table["label_extraversion"].to_pylist()) == {None}
    assert None not in table["prob_extraversion"].to_pylist()


def test_kept_columns_of_any_type_pass_through(score, basics, tmp_path):
    corpus = write_corpus(tmp_path / "kept", days=1, likes=7, tags=["a", "b"], place={"x": 1.5})
    score(basics | {"input.path": str(corpus), "input.keep_columns": ["likes", "tags", "place"]})
    table = pq.read_table(basics["output.path"])
    assert table.schema.names[:4] == ["doc_id", "likes", "tags", "place"]
    assert table["tags"].to_pylist()[0] == ["a", "b"]
    assert table["place"].to_pylist()[0] == {"x": 1.5}


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64(), pa.string()])
def test_every_awkward_text_gets_its_row_and_status(score, basics, tmp_path, kind, naughty_strings):
    texts: list[bytes | None] = [s.encode("utf-8", "surrogatepass") for s in naughty_strings]
    texts += [None, b"", b"   ", "\u00a0\u2003".encode(), b"\x00", b"nul \x00 inside", b"\xff\xfe no utf-8 \xc3("]
    texts += [(" ".join(TRAINING_TEXT) + " ").encode() * 9000]
    assert len(texts[-1] or b"") > 3_000_000
    ids = pa.array([str(i) if kind == pa.string() else i for i in range(len(texts))], kind)
    # A Parquet string with bytes that are no UTF-8, as careless writers leave them.
    raw = pa.array(texts, pa.binary())
    column = pa.StringArray.from_buffers(len(raw), *[raw.buffers()[i] for i in (1, 2, 0)], raw.null_count)
    root = tmp_path / "awkward"
    root.mkdir()
    pq.write_table(pa.table({"doc_id": ids, "text": column}), root / "a.parquet")

    run = score(basics | {"input.path": str(root), "text.max_windows": 20})
    table = pq.read_table(basics["output.path"])
    assert table.schema.field("doc_id").type == kind
    assert sorted(table["doc_id"].to_pylist()) == sorted(ids.to_pylist())
    assert run.result["documents_out"] == len(texts)
    by_id = {int(r["doc_id"]): r for r in table.to_pylist()}
    for i, text in enumerate(texts):
        blank = text is None or not text.decode("utf-8", "replace").strip()
        row = by_id[i]
        assert row["status"] in (("empty",) if blank else ("scored", "empty")), (i, text)
        assert (row["prob_openness"] is None) == (row["status"] != "scored")
    long = by_id[len(texts) - 1]
    assert (long["status"], long["truncated"], long["n_windows"]) == ("scored", True, 20)
    assert by_id[len(texts) - 2]["status"] == "scored", "bytes that are no UTF-8 are replaced, not fatal"


@pytest.fixture
def naughty_strings(request) -> list[str]:
    """The Big List of Naughty Strings where BIGFIVE_TEXTS names a folder that has it, else a few of our own."""
    file = Path(os.environ.get("BIGFIVE_TEXTS", "nowhere")) / "blns.json"
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    return [
        "\u202eright to left",
        "Z\u0351\u036b\u0343a\u0329l\u0348g\u032eo",
        "\x01\x02\x7f",
        "<script>alert(1)</script>",
        "'; DROP TABLE scores; --",
        "\ufeff",
        "\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308",
        "\ud7ff\ue000",
        "/dev/null; rm -rf ~",
        "\u7530\u4e2d\u3055\u3093",
    ]


# --- what can be wrong with the input and the output -----------------------------------------------------------------


def test_a_missing_or_empty_input(score, basics, tmp_path):
    refused(score, basics | {"input.path": str(tmp_path / "nowhere")}, InputError, "nowhere", "is not there")
    (tmp_path / "empty").mkdir()
    refused(score, basics | {"input.path": str(tmp_path / "empty")}, InputError, "empty", "no data files")


def test_a_partition_that_is_not_there(score, basics):
    refused(
        score,
        basics,
        InputError,
        "dt=2026-02-01",
        "dt=2026-01-05 to dt=2026-01-07",
        flags=["--partition", "dt=2026-02-01"],
    )
    refused(score, basics, SettingsError, "month=1", "column=value", flags=["--since", "month=1"])


def test_columns_that_are_missing_or_of_the_wrong_type(score, basics):
    refused(score, basics | {"input.text_column": "body"}, InputError, "no column body", "doc_id, author, text")
    refused(score, basics | {"input.id_column": "key"}, InputError, "no column key")


def test_a_text_column_of_numbers(score, basics, tmp_path):
    corpus = write_corpus(tmp_path / "numbers", number=3)
    settings = basics | {"input.path": str(corpus), "input.text_column": "number"}
    refused(score, settings, InputError, "number", "bigint", "string")


def test_one_file_without_the_text_column(score, basics, corpus):
    odd = corpus / "dt=2026-01-06" / "part-1.parquet"
    pq.write_table(pa.table({"doc_id": ["x"], "author": ["y"], "body": ["z"]}), odd)
    refused(score, basics, PartitionsFailedError, "1 of 3 partitions failed: dt=2026-01-06", str(odd), "no column text")
    assert set(table_of(basics["output.path"])["dt"].to_pylist()) == {"2026-01-05", "2026-01-07"}


def test_a_corrupt_file_is_named(score, basics, corpus):
    broken = corpus / "dt=2026-01-07" / "part-0.parquet"
    broken.write_bytes(broken.read_bytes()[:-200])
    refused(score, basics, PartitionsFailedError, "1 of 3 partitions failed: dt=2026-01-07", str(broken))
    assert set(table_of(basics["output.path"])["dt"].to_pylist()) == {"2026-01-05", "2026-01-06"}


def test_a_file_corrupt_behind_a_whole_footer_is_named(score, basics, corpus):
    broken = corpus / "dt=2026-01-07" / "part-0.parquet"
    corrupt(broken)
    refused(score, basics, PartitionsFailedError, "1 of 3 partitions failed: dt=2026-01-07", broken.name)
    assert set(table_of(basics["output.path"])["dt"].to_pylist()) == {"2026-01-05", "2026-01-06"}


def test_a_partition_column_with_the_name_of_a_score_column(score, basics, tmp_path):
    corpus = write_corpus(tmp_path / "clash", days=1)
    (corpus / "dt=2026-01-05").rename(corpus / "precision=2026-01-05")
    refused(score, basics | {"input.path": str(corpus)}, SettingsError, "partition column precision")


def test_an_output_that_would_harm_something(score, basics, corpus, tmp_path):
    refused(score, basics | {"output.path": str(corpus / "scores")}, SettingsError, "lie in one another")
    refused(score, basics | {"output.path": str(corpus)}, SettingsError, "lie in one another")
    foreign = write_corpus(tmp_path / "foreign", days=1)
    refused(score, basics | {"output.path": str(foreign)}, OutputError, "has not written")
    assert len(table_of(foreign)) == 40


def test_another_partitioning_is_refused(score, basics, tmp_path):
    score(basics)
    flat = tmp_path / "flat"
    flat.mkdir()
    pq.write_table(pa.table({"doc_id": ["x"], "text": ["z"]}), flat / "a.parquet")
    refused(score, basics | {"input.path": str(flat)}, RefusedError, "partitioned by dt", "nothing")
    assert len(table_of(basics["output.path"])) == 120


def test_a_bad_condition(score, basics):
    refused(score, basics | {"input.where": "no_such_column > 3"}, SettingsError, "no_such_column")
    if pyspark.__version__ >= "4":  # before, Spark made nulls of what it could not cast
        refused(score, basics | {"input.where": "dt >= 2026"}, SettingsError, "input.where", "quoted values")


def test_what_the_executors_lack_is_told_before_the_table_is_begun(score, basics, monkeypatch):
    monkeypatch.setattr(hardware, "_cpu_has_bf16", lambda: False)
    output = Path(basics["output.path"])
    with pytest.raises(SettingsError, match="bf16"):
        score(basics | {"model.precision": "bf16"})
    assert not output.exists()
    assert not Path(f"{output}.job", "table.json").exists()
    score(basics | {"input.partition_columns": []})  # so another run may begin the table as it likes
    assert len(list(output.rglob("*.parquet"))) == 1


def test_nothing_is_removed_by_a_run_that_the_executors_can_not_carry_out(score, basics, corpus, monkeypatch):
    score(basics)
    before = sorted(Path(basics["output.path"]).rglob("*.parquet"))
    shutil.rmtree(corpus / "dt=2026-01-05")
    (corpus / "dt=2026-01-09").mkdir()
    shutil.copy(next((corpus / "dt=2026-01-06").glob("*.parquet")), corpus / "dt=2026-01-09")
    monkeypatch.setattr(hardware, "_cpu_has_bf16", lambda: False)
    with pytest.raises(SettingsError, match="bf16"):
        score(basics | {"model.precision": "bf16"}, "--prune", "--rescore")
    assert sorted(Path(basics["output.path"]).rglob("*.parquet")) == before


def test_a_partition_with_too_many_failed_rows_is_not_published(score, basics, tmp_path, checkpoint):
    """A word whose embedding is as large as a float can be makes real rows overflow in the real model."""
    path = overflowing(checkpoint(), tmp_path / "narrow", "like")
    with pytest.raises(PartitionsFailedError, match=r"3 of 3 partitions failed.*max_failed_share"):
        score(basics | {"model.path": str(path)})
    assert not list(Path(basics["output.path"]).rglob("*.parquet"))
    run = score(basics | {"model.path": str(path), "max_failed_share": 1.0})
    assert run.result["documents_by_status"]["failed"] > 0
    reasons = {r for r in table_of(basics["output.path"])["status_reason"].to_pylist() if r}
    assert reasons
    assert reasons == {"model: a value that is not a finite number"}
    # The workers warned of it, and the driver's log says so: once, with the run and the worker, without a text.
    log = Path(f"{basics['output.path']}.job/runs/{run.run_id}.log").read_text()
    (warned,) = [e for e in map(json.loads, log.splitlines()) if e["event"] == "worker warned"]
    assert warned["run_id"] == run.run_id
    assert warned["message"] == "a text can't be scored: model: a value that is not a finite number"
    host, _, pid = warned["first_worker"].rpartition(":")
    assert (host, pid.isdigit(), int(pid) != os.getpid()) == (platform.node(), True, True)
    (counted,) = run.result["worker_warnings"]
    assert 1 <= counted["times"] <= run.result["documents_by_status"]["failed"], "texts that are the same count once"
    assert "like" not in log


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_leaves_the_table_as_it_was(score, basics, small_disk):
    settings = basics | {"output.path": str(small_disk / "scores")}
    score(settings)
    before = table_of(small_disk / "scores")
    free = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(b"x" * (free.f_bavail * free.f_frsize - 12_000))
    refused(score, settings, OutputError, "full", "free space", flags=["--rescore"])
    assert table_of(small_disk / "scores").equals(before)
    (small_disk / "filler").unlink()
    score(settings, "--rescore")
    assert len(table_of(small_disk / "scores")) == 120


# --- as a user runs it: spark-submit in a process of its own ----------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"model.precision": "fp31"}, 2, "model.precision 'fp31'"),
        ({"model.path": "/no/such/model"}, 4, "/no/such/model"),
    ],
)
def test_a_failure_is_one_line_and_its_exit_code(basics, tmp_path, changes, code, words):
    done = submit(basics | changes, directory=tmp_path)
    assert done.code == code, done.err
    assert words in done.error
    assert "Traceback" not in done.out + done.err
    assert done.result["exit_code"] == code
    assert words in done.result["message"]


def test_two_umasks_keep_a_table_and_what_lies_beside_it_to_the_group(basics, tmp_path):
    """The account's umask and Hadoop's: Spark's JVM sets the modes of its files by Hadoop's alone."""
    before = os.umask(0o027)
    try:
        done = submit(basics, directory=tmp_path, conf=["spark.hadoop.fs.permissions.umask-mode=027"])
    finally:
        os.umask(before)
    assert done.code == 0, done.err
    written = [path for name in ("scores", "scores.job") for path in (tmp_path / name).rglob("*")]
    assert any(path.suffix == ".parquet" for path in written)
    assert [str(path) for path in written if path.stat().st_mode & 0o007] == []


def test_an_output_that_can_not_be_made_is_told(score, basics):
    with pytest.raises(OutputError, match=r"/proc/scores") as told:
        score(basics | {"output.path": "/proc/scores"})
    assert told.value.exit_code == 7


def test_a_trait_whose_evaluation_could_not_tell_is_neither_praised_nor_called_useless(score, basics, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(basics["model.path"], model)
    known = {"roc_auc": 0.7, "roc_auc_ci": [0.6, 0.8], "roc_auc_ci_corrected": [0.55, 0.85]}
    better = {"better_than_chance": True, "better_than_chance_corrected": True}
    worse = dict.fromkeys(better, False)
    traits = dict.fromkeys(TRAITS, known | better)
    traits |= {"openness": known | worse, "neuroticism": known | worse | {"roc_auc_ci_corrected": None}}
    (model / "evaluation.json").write_text(json.dumps({"split": "author", "traits": traits}))
    score(basics | {"model.path": str(model), "labels.require_evidence": True})
    printed = capsys.readouterr().out
    assert "warning: by its evaluation no better than chance for openness\n" in printed
    assert "warning: its evaluation does not tell whether it is better than chance for neuroticism\n" in printed
    assert "no evaluation.json" not in printed
    rows = table_of(basics["output.path"])
    null = {t: rows[f"label_{t}"].null_count == rows.num_rows for t in TRAITS}
    assert null == dict.fromkeys(TRAITS, False) | {"openness": True, "neuroticism": True}
    about = {f.name: f.comment for f in probability_fields([evidence_of(load_artifact(model))])}
    assert about["prob_openness"].endswith("; by its evaluation NO better than chance")
    assert about["prob_neuroticism"].endswith("; not known whether better than chance")
    assert "chance" not in about["prob_extraversion"]
