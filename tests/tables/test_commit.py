"""A process that dies anywhere in a commit: real processes, a real SIGKILL before every change they make to disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support import nights

# One process that forks a night for every change to disk, so that each dies one step later than the one before. What it
# prints: for each, whether it was killed, what a reader found then, and what was there after the next night.
PROGRAM = """
import json, os, shutil, signal, sys
from pathlib import Path
import pandas  # else every child imports it anew
import pyarrow.parquet as pq
from bigfive_udf.tables import filesystem
from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.tables.ledger import Ledger
from bigfive_udf.tables.parquet_table import ParquetTable
from support.nights import night

base, form = sys.argv[1:]
grouped, exchange = form == "groups", form != "renames"
columns = () if grouped else ("dt",)
name = lambda n: (f"group-{n:06d}",) if grouped else (str(n),)

def in_child(act):
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except BaseException:
            import traceback; traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert not (os.WIFEXITED(status) and os.WEXITSTATUS(status)), "the night failed"
    return os.WIFSIGNALED(status)

def killed_before(change, act):
    count = 0
    def counting(function):
        def wrapped(*args, **options):
            nonlocal count
            count += 1
            if count == change:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **options)
        return wrapped
    for module, functions in ((os, "rename replace makedirs unlink ftruncate"), (shutil, "rmtree")):
        for function in functions.split():
            setattr(module, function, counting(getattr(module, function)))
    filesystem._exchange = counting(filesystem._exchange if exchange else lambda a, b: False)
    act()

def found(path):
    rows = {}
    for file in sorted(Path(path).rglob("*.parquet")):
        key = file.stem if grouped else file.parent.name
        rows.setdefault(key, []).extend(pq.read_table(file, partitioning=None)["doc_id"].to_pylist())
    return rows

change = 0
while True:
    change += 1
    path = f"{base}/{change}/scores"
    in_child(lambda: night(path, columns, {name(n): [n, n * 10] for n in (1, 2, 3, 4)}))
    second = {name(2): [20, 21], name(3): [], name(4): None, name(5): [5]}
    killed = in_child(lambda: killed_before(change, lambda: night(path, columns, second, number=2)))
    seen = {"killed": killed}
    pid_file = f"{base}/{change}/seen"
    def third():
        seen["then"] = found(path)
        seen["mended"] = night(path, columns, {name(6): [6]}, number=3)
        seen["after"] = found(path)
        ledger = Ledger(LocalFileSystem(), path + ".job/ledger").committed
        seen["ledger"] = {k: [e.documents, len(e.files)] for k, e in ledger.items()}
        seen["damaged"] = sorted(ParquetTable(LocalFileSystem(), path, columns).damaged(ledger))
        job = Path(path + ".job")
        left = (job / "commit.json", *(job / "staging").iterdir())
        seen["left"] = [str(p.relative_to(job)) for p in left if p.exists()]
        Path(pid_file).write_text(json.dumps(seen))
    in_child(third)
    print(Path(pid_file).read_text())
    if not killed:
        break
"""


@pytest.mark.parametrize("form", ["exchange", "renames", "groups"])
def test_whatever_a_commit_is_killed_at_the_next_run_finishes_or_undoes_it(tmp_path, form):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), form],
        capture_output=True, text=True, check=False, env={"PYTHONPATH": str(Path(nights.__file__).parent.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(runs) > 10
    assert [run["killed"] for run in runs] == [True] * (len(runs) - 1) + [False]

    def key(n: int) -> str:
        return f"group-{n:06d}" if form == "groups" else f"dt={n}"

    before = {key(n): [n, n * 10] for n in (1, 2, 3, 4)}
    after = {key(1): [1, 10], key(2): [20, 21], key(5): [5]}
    outcomes = set()
    for run in runs:
        for name, rows in run["then"].items():
            assert rows in (before.get(name), after.get(name)), "a reader finds old rows or new ones"
        if form != "renames":  # between two renames a partition is away for a moment
            assert key(1) in run["then"]
            assert key(2) in run["then"]
        new = {k: v for k, v in run["after"].items() if k != key(6)}
        assert run["after"][key(6)] == [6]
        assert new in (before, after), "all of the commit or nothing of it"
        outcomes.add("after" if new == after else "before")
        documents = {k: n for k, (n, _) in run["ledger"].items() if n}
        assert documents == {k: len(v) for k, v in run["after"].items()}, "the table is what the ledger says"
        assert run["damaged"] == run["left"] == []
    assert outcomes == {"before", "after"}
    assert any("finished" in line for run in runs for line in run["mended"])
    assert any("threw away" in line for run in runs for line in run["mended"])
