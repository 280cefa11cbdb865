"""A JDBC client asks Spark's Thrift server in a loop while nights of the job add and replace partitions.

Three processes and a database, as on a cluster: the job, the server and the client know of each other by the metastore
in PostgreSQL alone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
from py4j.protocol import Py4JJavaError

from chaos.ten_nights import FIRST, rows_of
from support.cluster import REPOSITORY, SPARK_HOME, clean_environment, free_port
from support.postgres import PASSWORD, USER, postgres_server

pytestmark = pytest.mark.chaos

NIGHTS = 10
DRIVER = Path("/usr/share/java/postgresql.jar")
SERVER = "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"
# As docs/sql.md has them.
METASTORE = {
    "spark.driver.extraClassPath": str(DRIVER),
    "spark.hadoop.javax.jdo.option.ConnectionDriverName": "org.postgresql.Driver",
    "spark.hadoop.javax.jdo.option.ConnectionUserName": USER,
    "spark.hadoop.javax.jdo.option.ConnectionPassword": PASSWORD,
    "spark.hadoop.hive.metastore.schema.verification": "false",
    "spark.hadoop.datanucleus.schema.autoCreateTables": "true",
    "spark.hadoop.datanucleus.schema.autoCreateColumns": "true",
    "spark.hadoop.datanucleus.schema.autoCreateConstraints": "false",
}
FRESH = {
    "spark.sql.hive.filesourcePartitionFileCacheSize": "0",
    "spark.sql.filesourceTableRelationCacheSize": "0",
}
QUERY = "SELECT dt, doc_id, run_id FROM scores"
# FAILED_READ_FILE.FILE_NOT_EXIST where a listed file is gone when it is opened, NO_HINT with a cause where it goes
# between two looks of one task.
GONE = ("FILE_NOT_EXIST", "NoSuchFileException", "FileNotFoundException")


@dataclass
class Sight:
    """What the client saw."""

    reads: int = 0
    attempts: Counter[int] = field(default_factory=Counter)
    """reads by the number of attempts that each took"""
    first_seen: dict[str, float] = field(default_factory=dict)
    """when a partition was first in an answer"""
    versions: set[tuple[str, str]] = field(default_factory=set)
    """partitions, and the nights that wrote what was seen of them"""
    wrong: list[str] = field(default_factory=list)

    def look(self, rows: list[tuple[str, str, str]]) -> None:
        """Check an answer: each partition whole, once, of one night and one run, and none that was there is gone."""
        by_day: dict[str, list[tuple[str, str]]] = {}
        for day, document, run_id in rows:
            by_day.setdefault(day, []).append((document, run_id))
        for day in self.first_seen.keys() - by_day.keys():
            self.wrong.append(f"{day} was there before and is absent")
        for day, found in by_day.items():
            self.first_seen.setdefault(day, time.time())
            number, night = day.removeprefix("2026-03-"), found[0][0].split(" ")[1]
            expected = rows_of(int(number), int(night.removeprefix("night-")))
            whole = {f"{number} {night} {i} of {expected}" for i in range(expected)}
            documents = [document for document, _ in found]
            if len(documents) != expected or set(documents) != whole or len({run for _, run in found}) != 1:
                self.wrong.append(f"{day} is partial, doubled or mixed: {sorted(found)}")
            self.versions.add((day, night))
        self.reads += 1


@pytest.fixture(scope="module")
def metastore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A property file that names a metastore in PostgreSQL."""
    if not DRIVER.exists():
        pytest.skip(f"there is no {DRIVER}: apt-get install libpostgresql-jdbc-java")
    file = tmp_path_factory.mktemp("metastore") / "metastore.conf"
    with postgres_server() as (address, _):
        url = {"spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:postgresql://{address}/postgres"}
        conf = METASTORE | url | {"spark.ui.enabled": "false", "spark.master": "local[2]", "spark.log.level": "ERROR"}
        file.write_text("".join(f"{key} {value}\n" for key, value in conf.items()))
        yield file


@contextmanager
def thrift_server(metastore: Path, directory: Path, conf: dict[str, str]) -> Iterator[str]:
    """Spark's Thrift server as docs/sql.md starts it; yields its JDBC address."""
    port = free_port()
    flags = [f for key, value in conf.items() for f in ("--conf", f"{key}={value}")]
    command = ["spark-submit", "--class", SERVER, "--properties-file", str(metastore), *flags]
    command += ["--conf", f"spark.hadoop.hive.server2.thrift.port={port}", "spark-internal"]
    with (directory / "thrift.log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=directory, env=clean_environment(), stdout=log, stderr=log, start_new_session=True
        )
        try:
            for _ in range(1200):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                assert server.poll() is None, (directory / "thrift.log").read_text()
                time.sleep(0.1)
            yield f"jdbc:hive2://127.0.0.1:{port}/default"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)


@pytest.fixture(scope="module")
def jdbc() -> Iterator[Callable[[str], Any]]:
    """Open a JDBC connection with Hive's driver, in a Java machine that has nothing of Spark's running."""
    (jar,) = (SPARK_HOME / "jars").glob("py4j*.jar")
    port = launch_gateway(jarpath=str(jar), classpath=f"{SPARK_HOME}/jars/*", die_on_exit=True)
    gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auto_convert=True))
    gateway.jvm.java.lang.Class.forName("org.apache.hive.jdbc.HiveDriver")
    yield lambda url: gateway.jvm.java.sql.DriverManager.getConnection(url, "analyst", "")
    gateway.shutdown()


def asked(connection: Any, query: str) -> list[tuple[str, ...]]:
    statement = connection.createStatement()
    try:
        answer, rows = statement.executeQuery(query), []
        width = answer.getMetaData().getColumnCount()
        while answer.next():
            rows.append(tuple(answer.getString(i + 1) for i in range(width)))
        return rows
    finally:
        statement.close()


def read(connection: Any, sight: Sight) -> None:
    """One read of the whole table, again where a file that the query had listed was gone when it came to open it."""
    for attempt in range(1, 6):
        try:
            rows = asked(connection, QUERY)
        except Py4JJavaError as error:
            if not any(word in str(error) for word in GONE):  # with the trace of the server
                raise
            continue
        sight.attempts[attempt] += 1
        sight.look(rows)
        return
    raise AssertionError("five attempts at one read met a file that was gone")


def test_a_jdbc_client_reads_on_while_ten_nights_commit(metastore, jdbc, checkpoint, tmp_path, figures):
    settings = {
        "input.path": str(tmp_path / "corpus"),
        "output.path": str(tmp_path / "scores"),
        "output.table": "scores",
        "model.path": str(checkpoint()),
        "model.precision": "fp32",
        "commit_every.partitions": 3,
        "plan.max_rescored_share": 1.0,
        "retention.trash_days": 0,
    }
    environment = clean_environment(
        PYTHONPATH=f"{REPOSITORY}:{REPOSITORY / 'tests'}",
        PYSPARK_SUBMIT_ARGS=f"--properties-file {metastore} pyspark-shell",
    )
    command = [sys.executable, "-m", "chaos.ten_nights", json.dumps(settings), settings["input.path"], str(NIGHTS)]
    with thrift_server(metastore, tmp_path, FRESH) as url, (tmp_path / "nights.log").open("w") as log:
        nights = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            ended: dict[str, float] = {}
            assert nights.stdout is not None
            first = next((line for line in nights.stdout if line.startswith("{")), "{}")
            assert json.loads(first).get("night") == 0, (tmp_path / "nights.log").read_text()
            connection, sight = jdbc(url), Sight()
            read(connection, sight)
            assert len(sight.first_seen) >= FIRST

            def listen() -> None:
                for line in nights.stdout or ():
                    if line.startswith("{"):
                        ended[json.loads(line)["days"][-1].removeprefix("dt=")] = time.time()

            listener = threading.Thread(target=listen)
            listener.start()
            while nights.poll() is None:
                read(connection, sight)
            listener.join()
            assert nights.returncode == 0, (tmp_path / "nights.log").read_text()
            read(connection, sight)
            assert sight.wrong == []
            assert len(ended) == NIGHTS
            assert len(sight.first_seen) == FIRST + NIGHTS, "all new partitions were found, without a REFRESH"
            per_day = "SELECT dt, count(*), round(avg(prob_openness), 6) FROM {} GROUP BY dt ORDER BY dt"
            files = f"read_parquet('{settings['output.path']}/**/*.parquet', hive_types_autocast=false)"
            in_files = [tuple(map(str, row)) for row in duckdb.sql(per_day.format(files)).fetchall()]
            assert [(d, n, str(float(p))) for d, n, p in asked(connection, per_day.format("scores"))] == in_files
            connection.close()
        finally:
            if nights.poll() is None:
                os.killpg(nights.pid, signal.SIGKILL)
            nights.wait(30)
        beeline = subprocess.run(
            ["beeline", "-u", url, "--outputformat=csv2", "--silent=true", "-e", "SELECT count(*) FROM scores"],
            cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        assert beeline.stdout.split()[-1] == str(sum(int(n) for _, n, _ in in_files))
    late = [max(0.0, sight.first_seen[day] - when) for day, when in ended.items()]
    heading = f"a JDBC client of Spark's Thrift server, {NIGHTS} nights"
    figures.add(heading, "reads of the whole table", sight.reads)
    figures.add(heading, "... partial, doubled or absent partitions", len(sight.wrong))
    figures.add(heading, "partitions and versions of them that were seen", len(sight.versions))
    figures.add(heading, "reads by the attempts that they took", dict(sorted(sight.attempts.items())))
    figures.add(heading, "retries, for a listed file was gone", sum((a - 1) * n for a, n in sight.attempts.items()))
    figures.add(heading, "seconds after a night's end until its partition was seen, at most", f"{max(late):.1f}")
