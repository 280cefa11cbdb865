"""The job where the package is not installed, and on a real standalone cluster of processes of their own."""

from __future__ import annotations

import os
import platform
import re
import site
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from bigfive_udf.spark.output.shared_path import machines_without
from bigfive_udf.traits import TRAITS
from support.cluster import ALONE, REPOSITORY, Finished, standalone_cluster, submit, tasks_by_worker
from support.corpora import write_corpus

SECRET = {
    "spark.authenticate": "true",
    "spark.authenticate.secret": "the-same-for-all",
    "spark.network.crypto.enabled": "true",
}
PROBABILITIES = [f"prob_{t}" for t in TRAITS]


@pytest.fixture(scope="module")
def big_corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "c", days=4, rows=700)


@pytest.mark.slow
def test_a_cluster_gives_the_same_table_as_one_machine(big_corpus, checkpoint, tmp_path):
    basics = {"input.path": str(big_corpus), "model.path": str(checkpoint()), "model.precision": "fp32"}
    here = submit(basics | {"output.path": str(tmp_path / "local")}, directory=tmp_path)
    assert here.code == 0, here.err
    # With the shipped property file, its secret, and the sizes of these machines.
    properties = tmp_path / "my-cluster.conf"
    shipped = (REPOSITORY / "conf" / "spark" / "cpu-cluster.conf").read_text()
    properties.write_text(f"{shipped}spark.authenticate.secret  {SECRET['spark.authenticate.secret']}\n")
    with standalone_cluster(tmp_path, java_options=" ".join(f"-D{k}={v}" for k, v in SECRET.items())) as master:
        there = submit(
            basics | {"output.path": str(tmp_path / "cluster")},
            directory=tmp_path,
            master=master,
            properties=properties,
            conf=["spark.executor.cores=1", "spark.executor.memory=1g", "spark.driver.memory=1g"],
        )
    assert there.code == 0, there.out + there.err
    assert there.result["spark"]["application_id"] in next((tmp_path / "spark-events").iterdir()).name
    assert there.result["spark"]["master"] == master
    assert min(tasks_by_worker(tmp_path)) > 0, "both executors worked"
    assert there.result["workers"] == 2
    assert there.result["model_loads"] == 2
    tables = [pq.read_table(tmp_path / name).sort_by("doc_id") for name in ("local", "cluster")]
    one, two = tables
    assert one.schema == two.schema
    assert len(one) == len(two) == 2800
    for column in one.schema.names:
        if column in PROBABILITIES:
            np.testing.assert_allclose(one[column].to_numpy(), two[column].to_numpy(), atol=1e-5)
        elif column not in ("run_id", "scored_at"):
            assert one[column].equals(two[column]), column


@pytest.mark.slow
def test_a_table_on_a_disk_that_executors_do_not_see_is_refused_before_anything_is_scored(
    big_corpus, checkpoint, tmp_path
):
    (disk := tmp_path / "disk").mkdir()
    if subprocess.run([*ALONE, str(disk), "true"], capture_output=True).returncode:
        pytest.skip("needs to give a process a disk of its own")
    settings = {"input.path": str(big_corpus), "model.path": str(checkpoint()), "output.path": f"{disk}/scores"}
    with standalone_cluster(tmp_path, own_disk=disk) as master:
        done = submit(settings, directory=tmp_path, master=master)
    assert done.code == 2, done.out + done.err
    assert re.search(rf"output\.path {disk}/scores is a directory of .*, and executors on .* don't see it", done.error)
    assert "workers" not in done.result, "nothing was scored"
    assert not list(Path(f"{disk}/scores.job").glob("seen-*"))


def test_machines_are_asked_whether_they_see_a_file(spark, tmp_path):
    (tmp_path / "here").touch()
    assert machines_without(spark, str(tmp_path / "here")) == []
    assert machines_without(spark, str(tmp_path / "elsewhere")) == [platform.node()]


@pytest.fixture(scope="module")
def python_without_the_package(tmp_path_factory) -> Path:
    """An interpreter with all requirements but not this package, as a cluster's is before --py-files."""
    directory = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory)], check=True)
    (packages,) = [p for p in site.getsitepackages() if p.endswith("site-packages")]
    # A directory named in a .pth file is searched, but its own .pth files, the editable install among them, are not.
    target = next(directory.glob("lib/python*/site-packages"))
    (target / "requirements.pth").write_text(packages + "\n")
    python = directory / "bin" / "python"
    missing = subprocess.run([python, "-c", "import bigfive_udf"], capture_output=True, text=True, cwd=directory)
    assert "No module named 'bigfive_udf'" in missing.stderr
    return python


@dataclass(frozen=True)
class Dist:
    """What make dist makes of a clone."""

    directory: Path

    @property
    def archive(self) -> Path:
        return next(self.directory.glob("*.zip"))

    @property
    def wheel(self) -> Path:
        return next(self.directory.glob("*.whl"))


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Dist:
    checkout = tmp_path_factory.mktemp("dist") / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(checkout)], check=True)
    subprocess.run(["scripts/dist.sh", sys.executable], cwd=checkout, check=True, capture_output=True)
    return Dist(checkout / "dist")


def run_dist(dist: Dist, python: Path, settings: dict[str, Any], directory: Path, master: str) -> Finished:
    """Its job and its zip, by an interpreter that does not know the package."""
    return submit(
        settings | {"output.path": str(directory / "scores")},
        directory=directory,
        master=master,
        conf=[f"spark.submit.pyFiles={dist.archive}"],
        job=dist.directory / "jobs" / "score.py",
        PYSPARK_PYTHON=str(python),
        PATH=f"{python.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    )


def test_what_make_dist_makes_runs_where_the_package_is_not_installed(
    dist, corpus, checkpoint, tmp_path, python_without_the_package
):
    contents = [set(zipfile.ZipFile(file).namelist()) for file in (dist.archive, dist.wheel)]
    for names in contents:
        assert {"bigfive_udf/__init__.py", "bigfive_udf/demo/statements/openness.csv"} <= names
    settings = {"input.path": str(corpus), "model.path": str(checkpoint())}
    done = run_dist(dist, python_without_the_package, settings, tmp_path, "local[1]")
    assert done.code == 0, done.out + done.err
    assert done.result["documents_out"] == 120


@pytest.mark.slow
def test_what_make_dist_makes_runs_on_a_cluster(dist, big_corpus, checkpoint, tmp_path, python_without_the_package):
    settings = {"input.path": str(big_corpus), "model.path": str(checkpoint())}
    with standalone_cluster(tmp_path) as master:
        done = run_dist(dist, python_without_the_package, settings, tmp_path, master)
    assert done.code == 0, done.out + done.err
    assert done.result["documents_out"] == 2800
    assert min(tasks_by_worker(tmp_path)) > 0
    assert done.result["workers"] == 2
