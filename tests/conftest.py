"""Shared fixtures: one Spark session, and checkpoints that are made once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
import transformers

from support import models

TESTS = Path(__file__).resolve().parent

# On a busy machine a single example may take any time.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")
# The tests are about CPUs, and mean them where they say "auto".
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# The models are tiny: a second thread gains them nothing, and waits for its core where that is busy. The same goes for
# the processes that tests start, since tests run side by side.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
# A JVM that lives for seconds: compile quickly, and collect garbage without threads of its own. Room for all compiled
# code, or those that live for minutes spend a quarter of their time on sweeping it out and compiling it again.
# With an archive of its classes (scripts/class_archive.sh), if there is one, it needs a third less to start.
CLASSES = Path(sys.prefix) / "spark.jsa"
os.environ["SPARK_SUBMIT_OPTS"] = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC" + (
    f" -XX:SharedArchiveFile={CLASSES} -Xlog:cds=off -Xlog:cds+dynamic=off" if CLASSES.exists() else ""
)
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


# The files that take longest, first: where files are shared out among processes, the short ones fill what is left.
LONGEST = (
    "demo/test_default_model.py",
    "jobs/test_train.py",
    "chaos",
    "jobs/test_nightly.py",
    "jobs/test_missing.py",
    "tables/test_iceberg_table.py",
    "jobs/test_catalog_table.py",
    "jobs/test_score.py",
    "jobs/test_cluster.py",
    "jobs/test_evaluate.py",
    "spark",
    "test_readme.py",
    "model/test_memory.py",
    "demo",
    "training/test_metrics.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return next((i for i, part in enumerate(LONGEST) if item.path.is_relative_to(TESTS / part)), len(LONGEST))

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def own_temporary_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Node caches and Spark's scratch of this test run, apart from any other."""
    import tempfile

    directory = tmp_path_factory.mktemp("tmp")
    os.environ["TMPDIR"] = tempfile.tempdir = str(directory)
    yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a checkpoint of `models.save_checkpoint`, once for the same arguments. Read-only: copy it to damage it."""
    made: dict[str, Path] = {}

    def make(architecture: str = "distilbert", **options: Any) -> Path:
        key = repr((architecture, sorted(options.items())))
        if key not in made:
            made[key] = models.save_checkpoint(tmp_path_factory.mktemp("model") / "m", architecture, **options)
        return made[key]

    return make


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A session that can keep tables: its metastore is made when a test first asks for a table, and is in memory."""
    from bigfive_udf.spark.session import job_session

    os.environ["PYSPARK_PYTHON"] = sys.executable
    conf = {
        "spark.ui.enabled": "false",
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
        "spark.hadoop.javax.jdo.option.ConnectionURL": "jdbc:derby:memory:metastore;create=true",
    }
    flags = " ".join(f"--conf '{key}={value}'" for key, value in conf.items())
    os.environ.setdefault("PYSPARK_SUBMIT_ARGS", f"--master local[2] {flags} pyspark-shell")
    session = job_session("tests", catalog=True)
    yield session
    session.stop()
