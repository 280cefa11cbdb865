"""Python workers are forked from a process that has imported what they need."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bigfive_udf.spark import daemon
from support.cluster import clean_environment

LOOK = """
import json, os, sys
from pathlib import Path
from bigfive_udf.spark.session import job_session

def look(_):
    imported = ("torch", "pandas", "tokenizers", "bigfive_udf.spark.workers.worker")
    had = [name for name in imported if name in sys.modules]
    cuda = "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized()
    import pandas, tokenizers, torch
    import bigfive_udf.spark.workers.worker
    sizes = [line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]]
    private = sum(int(size[1]) for size in sizes if size[0].startswith("Private_"))
    return [had, cuda, len(os.listdir("/proc/self/task")), private // 1024]

spark = job_session("look")
print(json.dumps(spark.sparkContext.parallelize(range(2), 2).map(look).collect()))
"""


def looked(tmp_path: Path, *conf: str, program: str = LOOK) -> list[list]:
    script = tmp_path / "look.py"
    script.write_text(program)
    command = ["spark-submit", "--master", "local[2]", "--conf", "spark.ui.enabled=false", *conf, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), timeout=180)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from Linux's /proc")
def test_workers_share_what_they_import(tmp_path):
    ours = looked(tmp_path)
    theirs = looked(tmp_path, "--conf", "spark.python.daemon.module=pyspark.daemon")
    assert [had for had, *_ in theirs] == [[], []]
    assert [had for had, *_ in ours] == [["torch", "pandas", "tokenizers", "bigfive_udf.spark.workers.worker"]] * 2
    assert [cuda for _, cuda, *_ in ours] == [False, False]
    assert [threads for *_, threads, _ in ours] == [1, 1], "a thread would not survive the fork"
    private, before = (max(row[-1] for row in rows) for rows in (ours, theirs))
    print(f"private memory of a worker: {before} MB, forked with its imports {private} MB")
    assert private < before / 2


WAKE = """
import json, os, threading
from collections.abc import Iterator
from pathlib import Path
import pandas as pd
from pyspark.sql import functions as F
from bigfive_udf.spark.local_rows import local_rows
from bigfive_udf.spark.machines import wake_workers
from bigfive_udf.spark.session import job_session

def daemons():
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        if b"bigfive_udf.spark.daemon" in (process / "cmdline").read_bytes() and parent == java:
            found.append(int(process.name))
    return found

spark = job_session("wake")
java = spark.sparkContext._jvm.ProcessHandle.current().pid()
asleep = daemons()
wake_workers(spark)
for thread in threading.enumerate():
    if thread.name == "wake workers":
        thread.join(60)
awake = daemons()

@F.pandas_udf("long")
def parent(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
    for batch in batches:
        yield batch * 0 + os.getppid()

sample = local_rows(spark, [(i, None if i else "a text") for i in range(4)], {"id": "long", "text": "string"})
parents = sample.repartition(2).where("id > 0 or text = 'a text'").select(parent("id")).distinct().collect()
print(json.dumps([asleep, awake, [row[0] for row in parents], daemons()]))
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are read from Linux's /proc")
def test_woken_workers_are_those_that_score(tmp_path):
    asleep, awake, parents, all_of_them = looked(tmp_path, program=WAKE)
    assert asleep == []
    assert awake == parents == all_of_them and len(parents) == 1


def test_what_cannot_be_imported_is_left_to_the_worker(monkeypatch):
    monkeypatch.setattr(daemon, "_PRELOADED", ("json", "there_is_no_such_module", "decimal"))
    monkeypatch.delitem(sys.modules, "decimal", raising=False)
    try:
        daemon.preload()
    finally:
        gc.unfreeze()  # this process goes on
    assert "decimal" in sys.modules
