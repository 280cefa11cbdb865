"""The seam to storage, on the local disk and over Hadoop: what one does, the other does too, and nothing by halves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyspark
import pytest

from bigfive_udf.tables import filesystem, hadoop
from bigfive_udf.tables.filesystem import FileSystem, LocalFileSystem, local_path
from bigfive_udf.tables.hadoop import HadoopFileSystem


@dataclass(frozen=True)
class Store:
    """A file system, and a directory in its form of path; `disk` is the same directory for `open` and `os`."""

    fs: FileSystem
    root: str
    disk: Path

    def at(self, name: str) -> str:
        return f"{self.root}/{name}"

    def tree(self, name: str = "") -> dict[str, str]:
        """Every file below, by its path there, read without the file system under test."""
        base = self.disk / name
        found = sorted(p for p in base.rglob("*") if p.is_file() and not p.name.endswith(".crc"))
        return {str(p.relative_to(base)): p.read_text() for p in found}

    def make(self, **directories: str) -> None:
        """Directories that each hold two files of one content."""
        for name, content in directories.items():
            (self.disk / name).mkdir(parents=True)
            for file in ("a", "b"):
                (self.disk / name / file).write_text(content)


@pytest.fixture(params=["local", "hadoop"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(LocalFileSystem(), str(tmp_path), tmp_path)
    spark = request.getfixturevalue("spark")
    return Store(HadoopFileSystem(spark._jvm, spark._jsc.hadoopConfiguration()), f"file:{tmp_path}", tmp_path)


@pytest.fixture(params=["exchange", "renames"])
def swap_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Both ways of the local file system: systems that can't exchange paths are rare, and not among those at hand."""
    if request.param == "renames":
        monkeypatch.setattr(filesystem, "_exchange", lambda a, b: False)
    return LocalFileSystem().swap_in


# --- small files ---


@pytest.mark.parametrize("content", ["", "one line\n", "naïve 東京 😀\r\n\x00\n", "x" * 300_000])
def test_a_file_is_read_as_it_was_put_even_where_its_directory_was_missing(store, content):
    store.fs.put(store.at("a/b c/record.json"), content)
    assert store.fs.read(store.at("a/b c/record.json")) == content
    assert (store.disk / "a/b c/record.json").read_bytes() == content.encode()


def test_a_file_is_replaced_and_nothing_is_left_beside_it(store):
    for content in ("a long first content", "short"):
        store.fs.put(store.at("runs/r.json"), content)
    assert store.tree() == {"runs/r.json": "short"}


def test_a_content_that_cannot_be_written_leaves_the_old_one(store):
    store.fs.put(store.at("r.json"), "old")
    with pytest.raises(UnicodeEncodeError):
        store.fs.put(store.at("r.json"), "new \ud800")
    assert store.tree() == {"r.json": "old"}


def test_a_file_that_the_disk_cannot_hold_leaves_the_old_one(tmp_path):
    path = tmp_path / "r.json"
    LocalFileSystem().put(str(path), "old")
    program = """
import resource, sys
from bigfive_udf.tables.filesystem import LocalFileSystem
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # as a full disk: the write fails in the middle
try:
    LocalFileSystem().put(sys.argv[1], "new" * 100_000)
except OSError as error:
    print(error.strerror)
"""
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"r.json": "old"}


def test_a_reader_and_a_killed_writer_leave_every_content_whole(tmp_path):
    path = tmp_path / "r.json"
    program = """
import sys
from bigfive_udf.tables.filesystem import LocalFileSystem
while True:
    for letter in "ab":
        LocalFileSystem().put(sys.argv[1], letter * 4_000_000)
"""
    seen = set()
    writer = subprocess.Popen([sys.executable, "-c", program, str(path)])
    try:
        started = time.monotonic()
        while (elapsed := time.monotonic() - started) < 1 or (len(seen) < 2 and elapsed < 20):
            if path.exists():
                seen.add(path.read_text())
    finally:
        writer.kill()
        writer.wait()
    assert seen == {"a" * 4_000_000, "b" * 4_000_000}
    assert path.read_text() in seen


@pytest.mark.parametrize("what", ["put", "make_directory", "read", "files"])
def test_a_path_below_a_file_is_an_os_error(store, what):
    (store.disk / "file").write_text("content")
    calls: dict[str, Callable[[str], Any]] = {
        "put": lambda path: store.fs.put(path, "new"),
        "make_directory": store.fs.make_directory,
        "read": store.fs.read,
        "files": lambda path: list(store.fs.files(path)),
    }
    with pytest.raises(OSError) as failed:
        calls[what](store.at("file/below"))
    assert failed.value.strerror, "the message of the job is made of it"
    assert store.tree() == {"file": "content"}


def test_a_file_put_in_the_place_of_a_directory_is_an_os_error(store):
    store.make(directory="x")
    with pytest.raises(OSError):
        store.fs.put(store.at("directory"), "new")
    assert store.tree() == {"directory/a": "x", "directory/b": "x"}


def test_a_missing_file_is_file_not_found(store):
    with pytest.raises(FileNotFoundError):
        store.fs.read(store.at("missing"))
    with pytest.raises(FileNotFoundError):
        list(store.fs.files(store.at("missing")))


# --- directories ---


def test_making_a_directory_makes_those_above_and_again_is_fine(store):
    for _ in range(2):
        store.fs.make_directory(store.at("a/b/c"))
    assert (store.disk / "a/b/c").is_dir()
    assert store.fs.exists(store.at("a/b"))
    assert not store.fs.exists(store.at("a/x"))


def test_deleting_takes_a_file_or_a_tree_and_nothing_there_is_fine(store):
    store.make(**{"tree/deep": "x", "kept": "y"})
    store.fs.delete(store.at("tree"))
    store.fs.delete(store.at("kept/a"))
    store.fs.delete(store.at("missing"))
    assert store.tree() == {"kept/b": "y"}
    assert not (store.disk / "tree").exists()


def test_deleting_a_link_to_a_directory_keeps_what_it_leads_to(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    LocalFileSystem().delete(str(tmp_path / "link"))
    assert os.listdir(tmp_path) == ["precious"]
    assert os.listdir(tmp_path / "precious") == ["file"]


def test_files_are_those_that_find_finds_with_size_and_time(store):
    for i, name in enumerate(["a", "dt=1/b.parquet", "dt=1/_x/c", "dt=1/.hidden", "dt=%2F é/d e", "z/z/z"]):
        file = store.disk / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x" * i)
        os.utime(file, (1.7e9 + i, 1.7e9 + i))
    (store.disk / "empty").mkdir()
    found = subprocess.run(
        ["find", str(store.disk), "-type", "f", "-printf", "%P|%s|%T@\n"], capture_output=True, text=True, check=True
    )
    expected = {(p, int(size), float(time)) for p, size, time in (r.split("|") for r in found.stdout.splitlines())}
    files = list(store.fs.files(store.root))
    assert len(files) == 6
    assert {(f.path.removeprefix(store.root + "/"), f.size, f.modified) for f in files} == expected


def test_what_others_remove_while_it_is_listed_is_no_error(store):
    """As the _temporary of an upstream job is, a directory with files in it at a time."""
    store.make(**{f"dt={i}": "row" for i in range(30)})
    ended = threading.Event()

    def upstream() -> None:
        while not ended.wait(0.1):
            attempt = store.disk / "_temporary" / "0" / "attempt"
            attempt.mkdir(parents=True)
            for i in range(20):
                (attempt / str(i)).write_text("half a row")
            shutil.rmtree(store.disk / "_temporary")

    thread = threading.Thread(target=upstream)
    thread.start()
    try:
        for _ in range(100):
            found = [f.path for f in store.fs.files(store.root) if "_temporary" not in f.path]
            assert len(found) == 60
    finally:
        ended.set()
        thread.join()
    with pytest.raises(FileNotFoundError):
        list(store.fs.files(store.at("nowhere")))


def test_a_data_file_that_is_gone_when_it_is_asked_for_is_not_passed_over(tmp_path):
    """As one of a directory that is being replaced, or a link to nothing."""
    (tmp_path / "a.parquet").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        list(LocalFileSystem().files(str(tmp_path)))


def test_the_files_of_a_file_are_itself(store):
    (store.disk / "one").write_text("123")
    (info,) = store.fs.files(store.at("one"))
    assert (info.path, info.size) == (store.at("one"), 3)


def test_links_are_followed_and_a_loop_of_links_ends(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("123")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "dt=1").symlink_to(tmp_path / "real")
    assert [(f.path, f.size) for f in LocalFileSystem().files(f"{tmp_path}/corpus")] == [
        (f"{tmp_path}/corpus/dt=1/file", 3)
    ]
    (tmp_path / "corpus" / "loop").symlink_to(tmp_path / "corpus")
    with pytest.raises(OSError):
        list(LocalFileSystem().files(f"{tmp_path}/corpus"))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("c/dt=1", ["c/dt=1"]),
        ("c/*", ["c/dt=1", "c/dt=2", "c/dt=30"]),
        ("c/dt=?", ["c/dt=1", "c/dt=2"]),
        ("c/dt=[2-3]*", ["c/dt=2", "c/dt=30"]),
        ("c/dt=[^1]", ["c/dt=2"]),
        ("c/dt={1,30}", ["c/dt=1", "c/dt=30"]),
        ("{c,d}/dt=1", ["c/dt=1", "d/dt=1"]),
        ("*/dt=1", ["c/dt=1", "d/dt=1"]),
        ("c/dt=9", []),
        ("nothing/*", []),
        ("x/[draft]", ["x/[draft]"]),
        ("x/{a,b}", ["x/{a,b}"]),
    ],
)
def test_a_glob_names_the_same_paths_on_every_file_system(store, pattern, expected):
    for name in ("c/dt=1", "c/dt=2", "c/dt=30", "d/dt=1", "x/[draft]", "x/{a,b}"):
        (store.disk / name).mkdir(parents=True)
    assert store.fs.expand(store.at(pattern)) == [store.at(name) for name in expected]


# --- swapping in ---


def test_a_directory_is_put_where_nothing_was(store):
    store.make(new="x")
    store.fs.swap_in(store.at("new"), store.at("table/dt=1"))
    assert store.tree() == {"table/dt=1/a": "x", "table/dt=1/b": "x"}


def test_a_directory_takes_the_place_of_another_which_then_lies_where_it_was(store):
    store.make(new="x", **{"table/dt=1": "y"})
    store.fs.swap_in(store.at("new"), store.at("table/dt=1"))
    assert store.tree() == {"new/a": "y", "new/b": "y", "table/dt=1/a": "x", "table/dt=1/b": "x"}
    assert sorted(os.listdir(store.disk)) == ["new", "table"]


def test_a_directory_that_is_not_there_takes_nobodys_place(store):
    store.make(table="y")
    with pytest.raises(OSError):
        store.fs.swap_in(store.at("missing"), store.at("table"))
    assert store.tree() == {"table/a": "y", "table/b": "y"}


def test_a_system_that_cannot_exchange_ends_the_same(tmp_path, swap_in):
    store = Store(LocalFileSystem(), str(tmp_path), tmp_path)
    store.make(new="x", table="y")
    swap_in(store.at("new"), store.at("table"))
    assert store.tree() == {"new/a": "y", "new/b": "y", "table/a": "x", "table/b": "x"}
    with pytest.raises(OSError):
        swap_in(store.at("missing"), store.at("table"))
    assert store.tree("table") == {"a": "x", "b": "x"}
    assert sorted(os.listdir(tmp_path)) == ["new", "table"]


def test_a_directory_of_another_disk_is_refused_and_both_stay(tmp_path, swap_in):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    store = Store(LocalFileSystem(), str(tmp_path), tmp_path)
    store.make(table="y")
    with _directory(other / f"bigfive-test-{os.getpid()}") as new:
        (new / "a").write_text("x")
        with pytest.raises(OSError, match="Invalid cross-device link"):
            swap_in(str(new), store.at("table"))
        with pytest.raises(OSError, match="Invalid cross-device link"):
            swap_in(str(new), store.at("not yet there"))
        assert (new / "a").read_text() == "x"
    assert store.tree() == {"table/a": "y", "table/b": "y"}


@contextmanager
def _directory(path: Path) -> Iterator[Path]:
    path.mkdir()
    try:
        yield path
    finally:
        LocalFileSystem().delete(str(path))


READER = """
import json, os, sys
target, stop = sys.argv[1:]
reads, seen, trouble = 0, set(), []
print("ready", flush=True)
while not os.path.exists(stop):
    try:
        directory = os.open(target, os.O_RDONLY | os.O_DIRECTORY)  # what is open stays what it is
        names = sorted(os.listdir(directory))
        contents = set()
        for name in names:
            with open(os.open(name, os.O_RDONLY, dir_fd=directory)) as file:
                contents.add(file.read())
        os.close(directory)
    except OSError as error:
        trouble.append(str(error))
        continue
    reads += 1
    seen |= contents
    if names != ["a", "b"] or len(contents) != 1:
        trouble.append(f"{names} {contents}")
print(json.dumps([reads, sorted(seen), trouble[:5]]))
"""


def test_a_reader_always_finds_one_whole_version_while_versions_are_swapped(tmp_path):
    store = Store(LocalFileSystem(), str(tmp_path), tmp_path)
    store.make(table="one", new="two")
    stop = tmp_path / "stop"
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, store.at("table"), str(stop)], stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "ready\n"
    swaps, deadline = 0, time.monotonic() + 1.5
    while time.monotonic() < deadline:
        store.fs.swap_in(store.at("new"), store.at("table"))
        swaps += 1
        time.sleep(0.0002 * (swaps % 5))  # else the reader may always meet the same half of the beat
    stop.touch()
    out, _ = reader.communicate(timeout=20)
    reads, seen, trouble = json.loads(out)
    assert trouble == []
    assert swaps > 100
    assert reads > 100
    assert seen == ["one", "two"]


# --- names ---


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/a/b", "/a/b"),
        ("file:/a/b", "/a/b"),
        ("file:///a/b c", "/a/b c"),
        ("s3a://bucket/a", None),
        ("hdfs:///a", None),
        ("a/b", None),
    ],
)
def test_a_local_uri_has_a_plain_path_and_no_other_has(uri, expected):
    assert local_path(uri) == expected


# --- many at once ---


def test_each_item_is_done_once_and_some_at_once_where_that_is_worth_it(store):
    done, together, meet = [], [], threading.Barrier(8)

    def work(item: int) -> None:
        if isinstance(store.fs, HadoopFileSystem) and item < 8:
            together.append(meet.wait(timeout=20))
        done.append(item)

    store.fs.each(work, range(40))
    assert sorted(done) == list(range(40))
    if isinstance(store.fs, LocalFileSystem):
        assert done == list(range(40))
    else:
        assert len(together) == 8


def test_the_first_error_is_raised_once_what_had_begun_has_ended_and_the_rest_is_left(store):
    begun, ended = [], []

    def work(item: int) -> None:
        begun.append(item)
        if item == 3:
            raise OSError("no more")
        time.sleep(0.01)
        ended.append(item)

    with pytest.raises(OSError, match="no more"):
        store.fs.each(work, range(500))
    assert sorted([*ended, 3]) == sorted(begun)
    assert {0, 1, 2} < set(begun) and len(begun) < 500
    after = list(begun)
    time.sleep(0.1)
    assert begun == after


def test_the_end_of_a_file_is_read_without_the_rest(store):
    (store.disk / "file").write_bytes(bytes(range(200)))
    assert store.fs.tail(store.at("file"), 3) == bytes([197, 198, 199])
    assert store.fs.tail(store.at("file"), 1000) == bytes(range(200))
    with pytest.raises(FileNotFoundError):
        store.fs.tail(store.at("missing"), 3)


# --- names, moves, locks ---


def test_names_are_those_of_the_directory_and_none_where_it_is_missing(store):
    store.make(b="x", a="y")
    assert store.fs.names(store.root) == ["a", "b"]
    assert [n for n in store.fs.names(store.at("a")) if not n.startswith(".")] == ["a", "b"]
    assert store.fs.names(store.at("missing")) == []


def test_a_file_is_moved_over_another_and_a_directory_to_a_new_place(store):
    store.make(new="x", old="y")
    store.fs.move(store.at("new/a"), store.at("old/a"))
    store.fs.move(store.at("old"), store.at("deep/down/old"))
    assert store.tree() == {"deep/down/old/a": "x", "deep/down/old/b": "y", "new/b": "x"}


def test_a_move_of_what_is_not_there_is_an_os_error(store):
    with pytest.raises(OSError):
        store.fs.move(store.at("missing"), store.at("target"))


def test_a_lock_is_held_by_one_and_free_again_afterwards(store):
    held = store.fs.hold(store.at("job/lock"), "first\n")
    assert held is not None
    with held as ours:
        assert ours()
        assert store.fs.hold(store.at("job/lock"), "second\n") is None
        assert store.fs.read(store.at("job/lock")).startswith("first\n")
    again = store.fs.hold(store.at("job/lock"), "third\n")
    assert again is not None
    with again:
        assert store.fs.read(store.at("job/lock")).startswith("third\n")


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path):
    program = """
import sys, time
from bigfive_udf.tables.filesystem import LocalFileSystem
with LocalFileSystem().hold(sys.argv[1], "me\\n"):
    print("held", flush=True)
    time.sleep(60)
"""
    path = str(tmp_path / "lock")
    holder = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert LocalFileSystem().hold(path, "other\n") is None
    holder.kill()
    holder.wait()
    held = LocalFileSystem().hold(path, "other\n")
    assert held is not None
    with held:
        assert Path(path).read_text() == "other\n"


@pytest.fixture
def lease(spark, tmp_path, monkeypatch) -> tuple[HadoopFileSystem, str]:
    """A lease that is that of a dead run after eight seconds, renewed four times a second."""
    monkeypatch.setattr(hadoop, "_LEASE_SECONDS", 8.0)
    monkeypatch.setattr(hadoop, "_RENEW_SECONDS", 0.25)
    return HadoopFileSystem(spark._jvm, spark._jsc.hadoopConfiguration()), f"file:{tmp_path}/lock"


def test_a_lease_is_renewed_for_as_long_as_it_is_held(lease):
    fs, path = lease
    held = fs.hold(path, "first\n")
    assert held is not None
    with held as ours:
        deadline = time.monotonic() + 12
        while time.monotonic() < deadline:
            assert fs.hold(path, "second\n") is None
            time.sleep(0.5)
        assert ours()
    assert not fs.exists(path)


def test_a_lease_that_could_not_be_read_once_is_renewed_the_next_time(lease, monkeypatch):
    fs, path = lease
    held = fs.hold(path, "first\n")
    assert held is not None
    real, failures = fs.read, [OSError("the network is down")] * 3

    def read(asked: str) -> str:
        if asked == path and failures:
            raise failures.pop()
        return real(asked)

    with held as ours:
        monkeypatch.setattr(fs, "read", read)
        assert ours(), "one failure is no answer"
        deadline = time.monotonic() + 12
        while time.monotonic() < deadline:
            assert HadoopFileSystem(fs._jvm, fs._configuration).hold(path, "second\n") is None
            time.sleep(0.5)
        assert not failures
        assert ours()
        monkeypatch.setattr(hadoop, "_PAUSES", (0.0, 0.0))
        failures += [OSError("the network is down")] * 1000
        with pytest.raises(OSError, match="the network is down"):
            ours()
        failures.clear()
        assert ours()
    assert not fs.exists(path)


def test_a_lease_is_never_without_its_file_while_it_is_renewed(lease, monkeypatch):
    fs, path = lease
    monkeypatch.setattr(hadoop, "_RENEW_SECONDS", 0.0)
    held = fs.hold(path, "first\n")
    assert held is not None
    local = path.removeprefix("file:")
    with held as ours:
        was = os.stat(local).st_mtime_ns
        absent = renewed = 0
        deadline = time.monotonic() + 60
        while renewed < 200 and time.monotonic() < deadline:
            try:
                now = os.stat(local).st_mtime_ns
            except FileNotFoundError:
                absent += 1
                continue
            renewed += now != was
            was = now
        assert (absent, renewed) == (0, 200)
        assert ours()


def test_the_lease_of_a_dead_run_is_taken_over_and_a_run_that_slept_through_it_knows(lease):
    fs, path = lease
    held = fs.hold(path, "sleeper\n")
    assert held is not None
    with held as ours:
        # As a machine that stands still: nothing is renewed, and the file grows old.
        fs.put(path, "stolen")
        local = path.removeprefix("file:")
        os.utime(local, (time.time() - 60, time.time() - 60))
        assert not ours()
        other = fs.hold(path, "other\n")
        assert other is not None
        with other as theirs:
            assert theirs()
            assert not ours()
        assert not fs.exists(path)


def test_a_lease_that_another_took_over_since_it_was_found_dead_is_left_to_that_one(lease, monkeypatch):
    fs, path = lease
    fs.put(path, "dead")
    os.utime(path.removeprefix("file:"), (time.time() - 60, time.time() - 60))
    taken = []
    is_dead = fs._is_dead

    def found_dead_and_then_somebody_was_faster(asked: str) -> bool:
        found = is_dead(asked)
        if not taken:
            taken.append(None)
            taken[0] = HadoopFileSystem(fs._jvm, fs._configuration).hold(path, "faster\n")
        return found

    monkeypatch.setattr(fs, "_is_dead", found_dead_and_then_somebody_was_faster)
    assert fs.hold(path, "slower\n") is None
    with taken[0] as ours:
        assert ours()
    assert fs.names(path.rpartition("/")[0]) == []


# --- a lock on S3 ---


@pytest.fixture(scope="module")
def s3a_class(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A class loader with s3a/ConditionalStore.java: PySpark brings no S3A, and there is no store for it to talk to."""
    if shutil.which("javac") is None:
        pytest.skip("needs a Java compiler")
    classes = tmp_path_factory.mktemp("classes")
    jars = f"{Path(pyspark.__file__).parent}/jars/*"
    source = Path(__file__).parent / "s3a" / "ConditionalStore.java"
    subprocess.run(["javac", "-d", str(classes), "-cp", jars, str(source)], check=True, capture_output=True)
    jvm, gateway = spark._jvm, spark.sparkContext._gateway
    urls = gateway.new_array(jvm.java.net.URL, 1)
    urls[0] = jvm.java.net.URL(f"file:{classes}/")
    return jvm.java.net.URLClassLoader(urls, jvm.java.lang.Thread.currentThread().getContextClassLoader())


@pytest.fixture(params=["", "create"], ids=["looks first", "performance.flags=create"])
def s3a(request: pytest.FixtureRequest, spark: Any, s3a_class: Any) -> HadoopFileSystem:
    configuration = spark._jvm.org.apache.hadoop.conf.Configuration(spark._jsc.hadoopConfiguration())
    configuration.setClassLoader(s3a_class)
    configuration.set("fs.s3a.impl", "ConditionalStore")
    configuration.setBoolean("fs.s3a.impl.disable.cache", True)
    configuration.set("fs.s3a.performance.flags", request.param)
    return HadoopFileSystem(spark._jvm, configuration)


def test_a_lock_on_s3_is_held_by_one_and_that_of_a_killed_run_is_taken_over(s3a, tmp_path, monkeypatch):
    path = f"s3a://{tmp_path}/lock"
    held = s3a.hold(path, "first\n")
    assert held is not None
    with held as ours:
        assert s3a.hold(path, "second\n") is None
        assert ours()
    (tmp_path / "lock").write_text("killed\n")
    assert s3a.hold(path, "third\n") is None, "it may be alive"
    os.utime(tmp_path / "lock", (time.time() - 600, time.time() - 600))
    again = s3a.hold(path, "third\n")
    assert again is not None
    with again as ours:
        assert ours()
    assert os.listdir(tmp_path) == []


def test_of_two_that_find_no_lock_on_s3_at_the_same_moment_one_gets_it(s3a, tmp_path):
    fs, location = s3a._at(f"s3a://{tmp_path}/lock")
    first, second = hadoop._new_file(fs, location), hadoop._new_file(fs, location)
    first.write(bytearray(b"first"))
    first.close()
    with pytest.raises(Exception, match="RemoteFileChangedException") as late:
        second.close()
    assert hadoop._is_taken(late.value.java_exception)
    assert (tmp_path / "lock").read_text() == "first"


def test_the_option_of_s3_is_nothing_to_other_file_systems(spark, tmp_path):
    """Another store, or a Hadoop that is too old for the option, behaves as without it."""
    fs, location = HadoopFileSystem(spark._jvm, spark._jsc.hadoopConfiguration())._at(f"file:{tmp_path}/lock")

    def created() -> Any:
        return fs.createFile(location).overwrite(False).recursive().opt(hadoop._ONLY_NEW, True).build()

    created().close()
    with pytest.raises(Exception, match="FileAlreadyExists") as refused:
        created()
    assert hadoop._is_taken(refused.value.java_exception)
