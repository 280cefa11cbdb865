"""What whoever runs the job is given: property files that Spark understands, and a page that names what there is."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bigfive_udf import errors
from bigfive_udf.settings.reference import reference
from bigfive_udf.settings.score import ScoreSettings
from bigfive_udf.spark.failures import explained
from support.cluster import REPOSITORY, clean_environment
from support.jobs_here import load_job

PROPERTY_FILES = sorted((REPOSITORY / "conf" / "spark").glob("*.conf"))
PAGE = (REPOSITORY / "docs" / "operations.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.S | re.M)
COMMANDS = "\n".join(text for language, text in BLOCKS if language == "bash").replace("\\\n", " ")

# Entries of these objects are known from the moment that they are loaded.
REGISTRIES = (
    "org.apache.spark.internal.config.package$",
    "org.apache.spark.internal.config.History$",
    "org.apache.spark.internal.config.Network$",
    "org.apache.spark.internal.config.Python$",
    "org.apache.spark.internal.config.UI$",
    "org.apache.spark.internal.config.Deploy$",
    "org.apache.spark.sql.internal.SQLConf$",
    "org.apache.spark.deploy.k8s.Config$",
    "org.apache.spark.deploy.yarn.config.package$",
)
# Names that Spark puts together when it reads them, and the one that it asks for before it knows any.
COMPOSED = re.compile(
    r"spark\.(executor|driver|task|worker)\.resource\.gpu\.(amount|discoveryScript|vendor)|spark\.executorEnv\.\w+"
    r"|spark\.kubernetes\.(driver|executor)\.(volumes|secretKeyRef)\.\S+|spark\.master|spark\.local\.dir"
)


@pytest.fixture(scope="module")
def entry(spark):
    """Spark's own entry of a configuration key, which can convert its values; None where it knows no such key."""
    jvm = spark.sparkContext._jvm
    for name in REGISTRIES:
        jvm.java.lang.Class.forName(name)
    return jvm.org.apache.spark.internal.config.ConfigEntry.findEntry


def take(spark, entry, value: str) -> None:
    """Let Spark convert a value as it does when it reads it; what it makes of it stays there, Python lacks the types.

    Raises what Spark raises.
    """
    spark.sparkContext._jvm.scala.Option.apply(value).map(entry.valueConverter())


def keys_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.])spark(?:\.\w+)+", text))


def properties(file: Path) -> dict[str, str]:
    lines = [line.split(None, 1) for line in file.read_text().splitlines() if line.strip() and line[0] != "#"]
    assert len({key for key, _ in lines}) == len(lines), "a key stands there once"
    return {key: value.strip() for key, value in lines}


@pytest.mark.parametrize("file", PROPERTY_FILES, ids=lambda f: f.name)
def test_spark_knows_every_key_of_the_property_files_and_takes_its_value(spark, entry, file):
    found = properties(file)
    assert len(found) > 5
    for key, value in found.items():
        if COMPOSED.fullmatch(key):
            continue
        assert entry(key) is not None, f"{file.name}: Spark knows no {key}"
        take(spark, entry(key), value)


@pytest.mark.parametrize("file", PROPERTY_FILES, ids=lambda f: f.name)
def test_comments_name_only_keys_that_there_are(entry, file):
    comments = " ".join(line for line in file.read_text().splitlines() if line.startswith("#"))
    for key in keys_in(comments):
        assert COMPOSED.fullmatch(key) or entry(key) is not None or entry(f"{key}.enabled") is not None, key


def test_the_check_of_keys_can_fail(spark, entry):
    assert entry("spark.executor.memoryOverheat") is None
    assert not COMPOSED.fullmatch("spark.executor.resource.gpu.number")
    with pytest.raises(Exception, match=r"spark\.executor\.memory"):
        take(spark, entry("spark.executor.memory"), "4 gigs")


@pytest.mark.parametrize("file", PROPERTY_FILES, ids=lambda f: f.name)
def test_the_event_log_is_on_and_the_history_server_reads_where_it_is_written(file):
    found = properties(file)
    assert found["spark.eventLog.enabled"] == "true"
    assert found["spark.history.fs.logDirectory"] == found["spark.eventLog.dir"]


def test_tasks_fit_the_executors_of_the_cluster_files():
    for file in PROPERTY_FILES:
        found = properties(file)
        if file.name == "laptop.conf":
            continue
        tasks = int(found["spark.executor.cores"]) // int(found["spark.task.cpus"])
        if "spark.executor.resource.gpu.amount" in found:
            assert tasks == int(found["spark.executor.resource.gpu.amount"]) // int(
                found["spark.task.resource.gpu.amount"]
            )
            # From docs/scaling.md: a GPU may compute 3 million tokens a second, and a core tokenizes at most 300,000.
            assert int(found["spark.task.cpus"]) >= 10
        assert found["spark.authenticate"] == found["spark.io.encryption.enabled"] == "true"
        assert "spark.authenticate.secret" not in found, "a secret has no place in a file that everybody reads"


def test_a_cluster_runs_the_job_once_on_the_executors_that_the_file_names():
    """The file's keys override the cluster's own defaults, which --load-spark-defaults adds."""
    for file in PROPERTY_FILES:
        if file.name != "laptop.conf":
            found = properties(file)
            assert found["spark.yarn.maxAppAttempts"] == "1", "another attempt would write over --result"
            assert found["spark.dynamicAllocation.enabled"] == "false"


def test_spark_understands_what_the_discovery_script_says(spark, tmp_path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 0\necho 1\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    script = REPOSITORY / "conf" / "spark" / "gpus.sh"
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    said = subprocess.run([script], env=environment, capture_output=True, text=True, check=True).stdout
    found = spark.sparkContext._jvm.org.apache.spark.resource.ResourceInformation.parseJson(said)
    assert (found.name(), list(found.addresses())) == ("gpu", ["0", "1"])


def test_an_event_log_without_a_directory_is_the_settings_fault(spark):
    """Spark's own words for it, from its own class."""
    context = spark.sparkContext
    jvm = context._jvm
    conf = context._jsc.sc().conf().clone().set("spark.eventLog.enabled", "true")
    writers = jvm.org.apache.spark.deploy.history.EventLogFileWriter
    where = jvm.java.net.URI("file:/no/such/directory")
    with pytest.raises(Exception, match="no/such") as refused:
        writers.apply("app", jvm.scala.Option.empty(), where, conf, context._jsc.hadoopConfiguration()).start()
    meant = explained(refused.value)
    assert isinstance(meant, errors.SettingsError)
    assert "/no/such/directory" in str(meant)
    assert "spark.eventLog.dir" in str(meant)


# --- docs/operations.md ---


def test_each_block_of_commands_says_whether_it_was_run():
    assert len(BLOCKS) > 10
    for _, text in BLOCKS:
        line = text.splitlines()[0]
        assert re.match(r"(#|--) (run|not run|run in the tests|read by)\b", line), line


def test_the_page_names_only_keys_that_spark_knows(entry):
    for key in keys_in(PAGE):
        assert COMPOSED.fullmatch(key) or entry(key) is not None or key.startswith("spark.sql.catalog."), key


def test_the_page_names_only_settings_flags_and_files_that_there_are():
    sections = "|".join(
        name for name, field in ScoreSettings.model_fields.items() if isinstance(field.annotation, type)
    )
    named = re.findall(r"--set ([\w.]+)=", PAGE) + re.findall(rf"`((?:{sections})\.\w+)", PAGE)
    assert len(named) > 10
    for key in named:
        assert f"`{key}`" in reference(), key
    ours = {o for job in ("score", "train", "evaluate") for a in load_job(job).FLAGS._actions for o in a.option_strings}
    usage = subprocess.run(["spark-submit", "--help"], capture_output=True, text=True, env=clean_environment())
    theirs = set(re.findall(r"--[a-z][a-z-]+", usage.stdout + usage.stderr))
    assert "--archives" in theirs
    commands = [line for line in COMMANDS.splitlines() if "jobs/" in line or "spark-submit" in line]
    assert len(commands) > 5
    for flag in re.findall(r"(?<!\S)(--[a-z][a-z-]+)", " ".join(commands)):
        assert flag in ours | theirs, flag
    for flag in re.findall(r"`(--[a-z-]+)", PAGE):
        assert flag in ours | theirs, flag
    for file in set(re.findall(r"\b(?:conf|docs|jobs|scripts)/[\w./-]*\w", PAGE)):
        assert (REPOSITORY / file).exists(), file
    for module in set(re.findall(r"\bbigfive_udf(?:\.[a-z_]+)+", PAGE)):
        assert importlib.util.find_spec(module) is not None, module


def test_every_exit_code_asks_something_of_somebody():
    table = dict(re.findall(r"^\| (\d+) \| (.+?) \|", PAGE, re.M))
    known = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type)}
    assert {int(code) for code in table} == known | {0, 130, 143}


def test_commands_and_programs_can_be_read():
    for number, (language, text) in enumerate(BLOCKS):
        if language == "python":
            compile(text, f"block {number}", "exec")
        elif language == "bash":
            subprocess.run(["bash", "-n"], input=text, text=True, check=True)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path):
    names = []
    for language, text in BLOCKS:
        if language == "ini":
            name = re.search(r"/(bigfive-score\.\w+)$", text.splitlines()[0])
            assert name is not None
            content = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", text, flags=re.M)
            content = re.sub(r"^(User|WorkingDirectory)=.*\n", "", content, flags=re.M)
            (tmp_path / name[1]).write_text(content)
            names.append(str(tmp_path / name[1]))
    assert [Path(n).suffix for n in names] == [".service", ".timer"]
    done = subprocess.run(["systemd-analyze", "verify", *names], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "bigfive-score" in line]
    assert ours == [], done.stderr
    assert done.returncode == 0, done.stderr
