"""The copy of a bundle that all processes of a machine share: with real processes, signals and files."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from bigfive_udf.errors import OutputError
from bigfive_udf.model import node_cache

DAY = 24 * 3600
CURE = "free space or set TMPDIR, on a cluster spark.executorEnv.TMPDIR"
FILES = {"bundle.json": b"{}", "model.safetensors": bytes(range(256)) * 4096}

# A worker of the tests: waits for the others, then unpacks, and tells what it finds in the directory.
WORKER = """
import hashlib, json, os, sys, time
from bigfive_udf.model import node_cache
digest, log, go, slow = sys.argv[1:]

def files():
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(float(slow))  # a broadcast takes a while, and the others wait for it
    return {"bundle.json": b"{}", "model.safetensors": bytes(range(256)) * 4096}

print("ready", flush=True)
while not os.path.exists(go):
    time.sleep(0.001)
directory = node_cache.unpacked(digest, files)
print(json.dumps({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in directory.iterdir()}))
"""
WHOLE = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the caches, in a directory for temporary files of this test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # where Python keeps what it has read
    return tmp_path / f"bigfive_udf-{os.getuid()}"


def must_not_be_called() -> dict[str, bytes]:
    pytest.fail("the machine has a copy already")


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)


# --- many processes ---


def test_eight_processes_at_once_write_it_once_and_all_find_it_whole(root, tmp_path):
    log, go = tmp_path / "log", tmp_path / "go"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, "abc-bf16", str(log), str(go), "0.3"], stdout=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    assert all(w.stdout is not None and w.stdout.readline() == "ready\n" for w in workers)
    go.touch()
    found = [json.loads(w.communicate(timeout=60)[0]) for w in workers]
    assert [w.returncode for w in workers] == [0] * 8
    assert found == [WHOLE] * 8
    assert len(log.read_text().splitlines()) == 1, "only one process unpickles the broadcast"
    assert sorted(p.name for p in root.iterdir()) == [".abc-bf16.files", "abc-bf16", "lock"]


def test_different_bundles_do_not_wait_for_each_others_sake_in_vain(root, tmp_path):
    log, go = tmp_path / "log", tmp_path / "go"
    go.touch()
    for digest in ("one", "two", "one"):
        assert json.loads(run(WORKER, digest, str(log), str(go), "0").stdout.splitlines()[1]) == WHOLE
    assert len(log.read_text().splitlines()) == 2


def test_a_process_killed_while_it_writes_leaves_nothing_that_another_would_take(root, tmp_path):
    program = """
import os, signal, sys
from bigfive_udf.model import node_cache

class Killed(dict):
    def items(self):
        yield "bundle.json", b"{}"
        yield "model.safetensors", b"the first half"
        os.kill(os.getpid(), signal.SIGKILL)

node_cache.unpacked(sys.argv[1], Killed)
"""
    assert run(program, "abc").returncode == -9
    assert not (root / "abc").exists()
    assert [p.name for p in root.iterdir() if p.name.startswith(".writing-")], "it was in the middle of it"
    started = time.monotonic()
    directory = node_cache.unpacked("abc", lambda: FILES)
    assert {p.name: p.read_bytes() for p in directory.iterdir()} == FILES
    assert time.monotonic() - started < 5, "the lock of the dead is free"


def test_a_half_written_copy_is_never_seen(root, tmp_path):
    watcher = """
import os, sys, time
directory, stop = sys.argv[1:]
print("ready", flush=True)
while not os.path.exists(stop):
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        continue
    sizes = [os.path.getsize(os.path.join(directory, n)) for n in names]
    print(sorted(zip(names, sizes)))
    break
"""
    stop = tmp_path / "stop"
    many = {f"part-{i}": bytes(1 << 20) for i in range(30)}
    process = subprocess.Popen(
        [sys.executable, "-c", watcher, str(root / "abc"), str(stop)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    node_cache.unpacked("abc", lambda: many)
    time.sleep(0.2)
    stop.touch()
    out, _ = process.communicate(timeout=20)
    assert out.strip() == str(sorted((name, 1 << 20) for name in many))


def test_a_copy_that_is_there_is_taken_as_it_is(root):
    first = node_cache.unpacked("abc", lambda: FILES)
    assert node_cache.unpacked("abc", must_not_be_called) == first == root / "abc"


def test_files_are_asked_for_again_after_they_could_not_be_had(root):
    def broken() -> dict[str, bytes]:
        raise ConnectionError("the driver is gone")

    with pytest.raises(ConnectionError):
        node_cache.unpacked("abc", broken)
    assert {p.name: p.read_bytes() for p in node_cache.unpacked("abc", lambda: FILES).iterdir()} == FILES


def test_a_full_disk_is_told_with_the_size_and_leaves_nothing(root):
    program = """
import resource, sys
from bigfive_udf.errors import OutputError
from bigfive_udf.model import node_cache
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # as a full disk: the write fails in the middle
try:
    node_cache.unpacked("abc", lambda: {"small": b"x", "large": bytes(5 << 20)})
except OutputError as error:
    print(error)
"""
    told = run(program).stdout
    assert told == f"{root}: 5 MB of model can't be written (File too large); {CURE}\n"
    assert [p.name for p in root.iterdir()] == ["lock"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user whom a directory is closed to")
def test_a_directory_that_cannot_be_written_is_told_in_one_line(root, tmp_path):
    for directory in tmp_path.parents:  # those that pytest made, which only their owner enters
        if directory.stat().st_mode & stat.S_IXOTH:
            break
        directory.chmod(0o755)
    tmp_path.chmod(0o1777)
    own = root.with_name("bigfive_udf-65534")
    own.mkdir(mode=0o500)
    os.chown(own, 65534, 65534)
    program = """
import os
from bigfive_udf.errors import OutputError
from bigfive_udf.model import node_cache
os.setuid(65534)
try:
    node_cache.unpacked("abc", lambda: {"mine": b"1"})
except OutputError as error:
    print(error)
"""
    assert run(program).stdout == f"{own}/lock can't be opened (Permission denied); {CURE}\n"


def test_a_machine_without_any_directory_for_temporary_files_is_told_in_one_line(root):
    program = """
import resource
from bigfive_udf.errors import OutputError
from bigfive_udf.model import node_cache
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # nothing can be written anywhere
try:
    node_cache.unpacked("abc", lambda: {"mine": b"1"})
except OutputError as error:
    print(error)
"""
    told = re.escape("no directory for temporary files can be made (No usable temporary directory found in [")
    assert re.fullmatch(
        rf"{told}.*{root.parent}.*\); {CURE}\n",
        run(program).stdout,
    )


# --- whose it is ---


def test_the_copy_is_the_users_alone_whatever_the_umask(root):
    before = os.umask(0)
    try:
        directory = node_cache.unpacked("abc", lambda: FILES)
    finally:
        os.umask(before)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert root.stat().st_uid == os.getuid()


def refusal(root: Path) -> str:
    with pytest.raises(OutputError) as refused:
        node_cache.unpacked("abc", must_not_be_called)
    assert str(refused.value) == (
        f"{root} is not a directory of this user alone: remove it, or set TMPDIR, on a cluster "
        "spark.executorEnv.TMPDIR, to another directory"
    )
    return str(refused.value)


@pytest.mark.parametrize("mode", [0o755, 0o701, 0o770, 0o1777])
def test_a_directory_that_others_can_enter_is_refused(root, mode):
    root.mkdir()
    root.chmod(mode)
    refusal(root)
    assert list(root.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_refused(root):
    root.mkdir(mode=0o700)
    os.chown(root, 65534, 65534)
    refusal(root)


def test_a_link_to_a_directory_is_refused_even_to_ones_own(root, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    root.symlink_to(tmp_path / "elsewhere")
    refusal(root)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("make", [Path.touch, lambda root: root.symlink_to("/nowhere/at/all")], ids=["file", "link"])
def test_what_is_no_directory_at_all_is_refused(root, make):
    make(root)
    refusal(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can plant what another user would trust")
def test_each_user_has_a_copy_of_their_own(root, tmp_path):
    node_cache.unpacked("abc", lambda: FILES)
    for directory in tmp_path.parents:  # those that pytest made, which only their owner enters
        if directory.stat().st_mode & stat.S_IXOTH:
            break
        directory.chmod(0o755)
    tmp_path.chmod(0o1777)
    program = """
import os, sys
from bigfive_udf.model import node_cache
os.setuid(65534)
directory = node_cache.unpacked("abc", lambda: {"mine": b"1"})
print(directory, *os.listdir(directory), end="")
"""
    assert run(program).stdout == f"{tmp_path}/bigfive_udf-65534/abc mine"


# --- old copies ---


def age(path: Path, days: float) -> None:
    os.utime(path, (time.time() - days * DAY,) * 2)


def test_copies_that_no_run_has_used_for_a_week_go_when_another_is_written(root):
    for name in ("old", "recent", "used"):
        node_cache.unpacked(name, lambda: FILES)
    (root / ".writing-killed").mkdir()
    for name, days in {"old": 7.1, "recent": 6.9, "used": 30, ".writing-killed": 8}.items():
        age(root / name, days)
    node_cache.unpacked("used", must_not_be_called)
    assert (root / "old").exists(), "nothing goes while nothing is written"
    node_cache.unpacked("new", lambda: FILES)
    assert sorted(p.name for p in root.iterdir() if p.name[0] != ".") == ["lock", "new", "recent", "used"]


def test_an_old_copy_is_taken_before_or_after_others_prune_but_not_meanwhile(root):
    """Or it would be looked at, removed, and then opened."""
    age(node_cache.unpacked("old", lambda: FILES), 30)
    with (root / "lock").open("w") as lock, ThreadPoolExecutor(1) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        taken = pool.submit(node_cache.unpacked, "old", must_not_be_called)
        assert wait([taken], timeout=0.3).not_done == {taken}
        assert (root / "old").stat().st_mtime < time.time() - 29 * DAY
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert taken.result(timeout=10) == root / "old"
    assert (root / "old").stat().st_mtime > time.time() - DAY


def test_a_copy_that_goes_stays_with_the_process_that_maps_it(root, tmp_path):
    program = """
import hashlib, sys
import torch
from bigfive_udf.model import node_cache
from safetensors import safe_open

def must_not_be_called():
    raise AssertionError

directory = node_cache.unpacked("old", must_not_be_called)
with safe_open(directory / "model.safetensors", framework="pt") as file:
    weight = file.get_tensor("weight")
print("mapped", "(deleted)" in open("/proc/self/maps").read(), flush=True)
sys.stdin.readline()
print(int(weight.double().sum()), any("model.safetensors (deleted)" in line for line in open("/proc/self/maps")))
"""
    import torch
    from safetensors.torch import save

    weight = torch.arange(3_000_000, dtype=torch.float32)
    node_cache.unpacked("old", lambda: {"model.safetensors": save({"weight": weight})})
    worker = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "mapped False\n"
    age(root / "old", 8)
    node_cache.unpacked("new", lambda: FILES)
    assert not (root / "old").exists()
    out, _ = worker.communicate("go on\n", timeout=60)
    assert out == f"{int(weight.double().sum())} True\n"
    assert worker.returncode == 0


def test_a_link_or_file_among_the_copies_does_no_harm(root, tmp_path):
    node_cache.unpacked("abc", lambda: FILES)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    age(tmp_path / "precious", 30)
    (root / "link").symlink_to(tmp_path / "precious")
    (root / "file").write_text("")
    age(root / "file", 30)
    node_cache.unpacked("new", lambda: FILES)
    assert (tmp_path / "precious" / "file").read_text() == "x"


def test_the_caches_are_where_temporary_files_are(root, tmp_path, monkeypatch):
    made: Callable[[], Path] = lambda: node_cache.unpacked("abc", lambda: FILES)  # noqa: E731
    assert made() == tmp_path / f"bigfive_udf-{os.getuid()}" / "abc"
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "other"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert made() == tmp_path / "other" / f"bigfive_udf-{os.getuid()}" / "abc"


@pytest.mark.parametrize("harm", [Path.unlink, lambda file: os.truncate(file, 0)], ids=["gone", "without content"])
def test_a_copy_of_which_a_file_was_lost_is_written_again(root, caplog, harm):
    files = {"a": b"1", "b": b"2"}
    target = node_cache.unpacked("abc", lambda: files)
    harm(target / "b")
    assert node_cache.unpacked("abc", lambda: files) == target
    assert (target / "b").read_bytes() == b"2"
    assert caplog.messages == ["this machine's copy of the model was not whole, it is written again"]


def test_a_copy_whose_list_was_lost_is_written_again(root):
    target = node_cache.unpacked("abc", lambda: FILES)
    (root / ".abc.files").write_text("")
    (target / "bundle.json").write_text("of another")
    assert {p.name: p.read_bytes() for p in node_cache.unpacked("abc", lambda: FILES).iterdir()} == FILES
