"""The README's commands and code, run as they are printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from support.cluster import REPOSITORY, clean_environment
from support.corpora import write_corpus

README = (REPOSITORY / "README.md").read_text()


def block(heading: str, language: str) -> str:
    section = README[README.index(f"## {heading}") :]
    found = re.search(rf"^```{language}\n(.*?)^```", section, re.S | re.M)
    assert found is not None
    return found[1]


def test_the_notebook_example_runs(spark, checkpoint):
    code = block("In a notebook", "python").replace("models/default", str(checkpoint()))
    df = spark.createDataFrame([(1, "some text"), (2, None)], "id int, body string")
    names: dict[str, object] = {"spark": spark, "df": df}
    exec(code.replace("\ndf.select", "\nlast = df.select"), names)
    assert sorted(row["status"] for row in names["scores"].collect()) == ["empty", "scored"]
    assert sorted(row["status"] for row in names["last"].collect()) == ["empty", "scored"]


def test_the_commands_for_ones_own_table_run_in_a_clean_shell(checkpoint, tmp_path):
    """From a shell without anything set, through `source .venv/bin/activate`, as a user would."""
    corpus = write_corpus(tmp_path / "texts", days=1, rows=20)
    table = pq.read_table(corpus).drop_columns(["dt"]).rename_columns(["id", "author", "body"])
    pq.write_table(table, corpus / "dt=2026-01-05" / "part-0.parquet")
    commands = block("Score your own table", "")
    for printed, here in {
        "/data/texts": str(corpus),
        "/data/scores": str(tmp_path / "scores"),
        "models/default": str(checkpoint()),
        ".venv/bin/activate": str(Path(sys.prefix) / "bin" / "activate"),
    }.items():
        assert printed in commands
        commands = commands.replace(printed, here)
    environment = {k: v for k, v in clean_environment().items() if k not in ("PATH", "PYSPARK_PYTHON")}
    environment["PATH"] = "/usr/local/bin:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-e", "-c", commands], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert pq.read_table(tmp_path / "scores")["id"].to_pylist() == table["id"].to_pylist()
    assert "done: 20 documents in, 20 out: 20 scored" in done.stdout
    job = tmp_path / "scores.job"
    (record,) = [json.loads(path.read_text()) for path in (job / "runs").glob("*.json")]
    assert (record["exit_code"], record["documents_out"], record["documents_evaluated"]) == (0, 20, 20)
    assert record["documents_by_status"] == {"scored": 20, "empty": 0, "failed": 0}
    assert record["model_loads"] == record["workers"]
    assert record["settings"]["commit_every"] == {"partitions": 1000, "minutes": 10.0}
    assert record["partitions"]["dt=2026-01-05"]["scored"] == 20
    assert not (job / "running").exists()
    # What docs/operations.md asks of records where a run was slow.
    page = (REPOSITORY / "docs" / "operations.md").read_text()
    (query,) = re.findall(r"```sql\n(-- run in the tests, by DuckDB\n.*?)```", page, re.S)
    (row,) = duckdb.sql(query.replace("scores.job", str(job))).df().to_dict("records")
    assert row["cores"] == record["spark"]["cores"] and row["tokens_a_text"] > 1
    assert row["phase_seconds"].keys() == {"start", "plan", "model"}
    assert sum(row["phase_seconds"].values()) + row["scoring_seconds"] < row["seconds"]
