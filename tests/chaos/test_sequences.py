"""Random sequences of what happens to a corpus and to runs: the table is always what the ledger says of it.

A killed run is emulated here, in this process: from the chosen operation on, every operation of that run raises what no
handler catches, so that nothing of it can tidy up, and the kernel's part, giving the lock back, is done by closing it.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from bigfive_udf.errors import InputError, RefusedError
from bigfive_udf.runs import Run
from bigfive_udf.spark.input import files as files_module
from bigfive_udf.tables.filesystem import FileInfo
from bigfive_udf.tables.fingerprint import input_digest
from bigfive_udf.tables.ledger import Entry
from bigfive_udf.tables.partitions import Partition
from chaos.killed_at import AFTER, ANY, BEFORE, Order, Watch, watch_files, watch_iceberg, watch_spark
from chaos.tables import Seen, check_labels, check_ledger_is_last, check_whole
from support.models import TRAINING_TEXT

CHANGES = st.sampled_from(["add", "add", "change", "change", "touch", "delete", "empty", "remove"])
KILLS = st.tuples(st.integers(2, 40), st.sampled_from([BEFORE, AFTER]))
"""At which operation of the run, whatever it is but the first, which takes the lock: nobody would give it back."""
COLUMNS: dict[str, tuple[str, ...]] = {"by day": ("dt",), "in groups": ()}


SHOWN = {
    "sequences by day / in groups of files": ["by day", "in groups"],
    "changes of the corpus: add / change / delete": ["add", "change", "delete"],
    "touch / empty a partition / remove one": ["touch", "empty", "remove"],
    "runs that ended / were refused / were killed": ["ended", "refused", "killed"],
    "that scored / relabelled / pruned / named some gone": ["score", "relabel", "prune", "gone"],
}


class Killed(BaseException):
    """Raised by every operation of a run from the one on at which it was killed."""


@dataclass
class World:
    """Where sequences take place, and what they have in common."""

    kind: str
    directory: Path
    models: tuple[Path, Path]
    score_here: Callable[..., Run]
    begun: int = 0
    seen: Counter[str] = field(default_factory=Counter)


class Corpus:
    """Files with a few documents each, and what they held whenever somebody looked."""

    def __init__(self, root: Path, columns: tuple[str, ...]) -> None:
        self.root = root
        self._columns = columns
        self._clock = 1_700_000_000
        self.documents: dict[str, list[str]] = {}
        """ids by file, relative to the root"""
        root.mkdir(parents=True)

    def put(self, file: str, rows: int) -> None:
        self._clock += 1
        ids = [f"{self._clock}-{i}" for i in range(rows)]
        kept = self.documents.get(file, [])[1:]  # a document that was there before has the same id
        self.documents[file] = ids = [*kept, *ids]
        path = self.root / file
        path.parent.mkdir(exist_ok=True)
        texts = [" ".join(TRAINING_TEXT[i % 5].split()[: 1 + (i + self._clock) % 7]) for i in range(len(ids))]
        pq.write_table(pa.table({"doc_id": ids, "text": texts}), path)
        self.touch(file)

    def touch(self, file: str) -> None:
        self._clock += 1
        os.utime(self.root / file, (self._clock, self._clock))

    def add(self, day: int, rows: int) -> None:
        self._clock += 1
        self.put(
            f"dt=2026-06-{day:02d}/part-{self._clock}.parquet" if self._columns else f"part-{self._clock}.parquet", rows
        )

    def delete(self, file: str) -> None:
        (self.root / file).unlink()
        del self.documents[file]

    def empty(self, partition: str) -> None:
        for file in [f for f in self.documents if f.startswith(f"{partition}/")]:
            self.delete(file)

    def remove(self, partition: str) -> None:
        self.empty(partition)
        shutil.rmtree(self.root / partition)

    @property
    def partitions(self) -> list[str]:
        return sorted(p.name for p in self.root.iterdir() if p.is_dir())

    def input_of(self, entry: Entry) -> tuple[str, list[str]] | None:
        """The digest of what an entry was or would be made from now, and the ids in it; None where that is gone."""
        files = sorted(self.documents)
        mine = [f for f in files if (f.startswith(f"{entry.partition}/") if self._columns else f in entry.group)]
        if not mine and not (self._columns and (self.root / entry.partition).is_dir()):
            return None
        found = [(str(self.root / f), os.stat(self.root / f)) for f in mine]
        infos = tuple(FileInfo(path, s.st_size, s.st_mtime) for path, s in found)
        ids = [i for f in mine for i in self.documents[f]]
        return input_digest(Partition(tuple(entry.values.values()), infos), str(self.root)), sorted(ids)


class Sequences(RuleBasedStateMachine):
    """One sequence: a corpus, a table, and all that may happen to them."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        world.begun += 1
        self.place = world.directory / f"sequence-{world.begun}"
        self.model = 0
        self.threshold = 0.5
        self.made_from: dict[tuple[str, str], list[str]] = {}
        """the ids of which a partition was made, by commit and partition"""

    @initialize(divided=st.sampled_from(sorted(COLUMNS)), rows=st.integers(1, 3))
    def begin(self, divided: str, rows: int) -> None:
        self.world.seen[divided] += 1
        self.columns = COLUMNS[divided]
        self.corpus = Corpus(self.place / "corpus", self.columns)
        self.table = Seen(self.world.kind, self.place / "scores", self.columns)
        for day in (1, 2, 3):
            self.corpus.add(day, rows)

    @rule(
        changes=st.lists(st.tuples(CHANGES, st.integers(0, 11), st.integers(1, 3)), max_size=3),
        model=st.sampled_from([None, None, 0, 1]),
        threshold=st.sampled_from([None, None, None, 0.3, 0.5]),
        policy=st.sampled_from(["rescore", "rescore", "only_new", "refuse"]),
        share=st.sampled_from([1.0, 1.0, 1.0, 0.2]),
        flags=st.sampled_from([(), (), ("--prune",), ("--prune",), ("--rescore",), ("--limit", "1")]),
        killed=st.one_of(KILLS, KILLS, st.none()),
    )
    def a_day_and_a_night(
        self,
        changes: list[tuple[str, int, int]],
        model: int | None,
        threshold: float | None,
        policy: str,
        share: float,
        flags: tuple[str, ...],
        killed: tuple[int, str] | None,
    ) -> None:
        for what, which, rows in changes:
            self._change(what, which, rows)
        self.model = self.model if model is None else model
        self.threshold = self.threshold if threshold is None else threshold
        if killed is None:
            self._run(policy, share, flags)
        else:
            self._killed_run(policy, share, flags, *killed)

    def _change(self, what: str, which: int, rows: int) -> None:
        self.world.seen[what] += 1
        files, partitions = sorted(self.corpus.documents), self.corpus.partitions
        if what == "add":
            self.corpus.add(1 + which % 6, rows)
        elif what in ("empty", "remove") and partitions:
            getattr(self.corpus, what)(partitions[which % len(partitions)])
        elif files:
            file = files[which % len(files)]
            if what == "change":
                self.corpus.put(file, rows)
            elif what == "touch":
                self.corpus.touch(file)
            else:
                self.corpus.delete(file)

    def _killed_run(self, policy: str, share: float, flags: tuple[str, ...], nth: int, moment: str) -> None:
        order = Order((), str(self.place), str(self.table.output), ANY, nth, moment)
        with pytest.MonkeyPatch.context() as patched:
            watch = Watch(order, _killed, patched.setattr)
            watch_files(watch, order.output)
            watch_spark(watch, order)
            watch_iceberg(watch, order.output)
            try:
                self._run(policy, share, flags)
            except Killed:
                self.world.seen["killed"] += 1
                check_ledger_is_last(self.table)
                self._remember()

    def teardown(self) -> None:
        """One more night, and the table is the corpus; and another, that finds nothing to do."""
        if self.corpus.documents:
            run = self._run("rescore", 1.0, ("--prune",))
            assert run is not None
            everything = sorted(i for ids in self.corpus.documents.values() for i in ids)
            assert sorted(self.table.rows()["doc_id"].to_pylist()) == everything
            again = self._run("refuse", 0.0, ("--prune",))
            assert again is not None
            plan = again.result["plan"]
            assert not (plan["score"] or plan["relabel"] or plan["remove"] or plan["gone"])
        shutil.rmtree(self.place)

    def _run(self, policy: str, share: float, flags: tuple[str, ...]) -> Run | None:
        """A run that ends, and what must hold then."""
        chosen = {
            "input.path": str(self.corpus.root),
            "model.path": str(self.world.models[self.model]),
            "model.precision": "fp32",
            "on_model_change": policy,
            "plan.max_rescored_share": share,
            "labels.thresholds": {"openness": self.threshold},
            "commit_every.partitions": 2,
            "retention.trash_days": 0,
        }
        run: Run | None = None
        try:
            run = self.world.score_here(self.table.settings | chosen, *flags)
            self.world.seen["ended"] += 1
            for name, figure in {"score": "score", "relabel": "relabel", "remove": "prune", "gone": "gone"}.items():
                self.world.seen[figure] += bool(run.result["plan"][name])
        except RefusedError:
            self.world.seen["refused"] += 1
        except InputError as error:
            assert not self.corpus.documents, error
        self._remember()
        self._check(run)
        return run

    def _remember(self) -> None:
        """Compare every entry that is new with the input as it is, and keep what it was made from."""
        promised = self.table.journal()
        for entry in (*self.table.entries().values(), *(promised.entries if promised else ())):
            if (entry.commit, entry.partition) in self.made_from or entry.state != "committed":
                continue
            found = self.corpus.input_of(entry)
            assert found is not None, f"{entry.partition} was scored, and is not in the input"
            assert entry.input == found[0], f"{entry.partition} was scored from something else"
            self.made_from[entry.commit, entry.partition] = found[1]

    def _check(self, run: Run | None) -> None:
        check_whole(self.table)
        entries, rows = self.table.entries(), self.table.rows()
        check_labels(rows, entries)
        for name, entry in entries.items():
            files = [self._path_of(entry, file) for file, _ in entry.files]
            some = pa.concat_tables([pq.read_table(f, partitioning=None) for f in files]) if files else None
            ids = some["doc_id"].to_pylist() if some else []
            assert sorted(ids) == self.made_from[entry.commit, name]
            assert set(some["model_id"].to_pylist() if some else []) <= {entry.model_id}
        if run is not None:
            self._check_reported(run, entries)

    def _check_reported(self, run: Run, entries: dict[str, Entry]) -> None:
        """What is not as the corpus and the settings are now is named by the run's plan."""
        plan = run.result["plan"]
        if plan["later"]:
            return
        for name, entry in entries.items():
            found = self.corpus.input_of(entry)
            if found is None:
                assert self.columns, f"{name} is in the table, and its files are gone"
                assert name in plan["gone"], f"{name} is gone from the input, and nothing says so"
            else:
                assert entry.input == found[0], f"{name} is stale after a run"
                stale = entry.model_id != run.result["model_id"]
                assert not stale or name in plan["kept"], f"{name} has another model's scores, and nothing says so"
        documented = {task["partition"] for task in plan["score"]}
        assert documented <= entries.keys()

    def _path_of(self, entry: Entry, file: str) -> Path:
        below = entry.partition if self.columns and self.world.kind == "parquet" else ""
        return self.table.output / below / file


def _killed() -> None:
    raise Killed


def run_sequences(world: World, number: int, steps: int, same: bool) -> None:
    """Run `number` sequences of at most `steps`; `same`: the same ones every time."""
    run_state_machine_as_test(
        partial(Sequences, world),
        settings=settings(
            max_examples=number,
            stateful_step_count=steps,
            derandomize=same,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


@pytest.mark.parametrize("kind", ["parquet", "iceberg"])
@pytest.mark.parametrize("number", [2, pytest.param(50, marks=pytest.mark.chaos)])
def test_after_any_sequence_the_table_is_what_the_ledger_says(
    kind, number, tmp_path, models_to_change, score_here, short_runs, figures, monkeypatch
):
    monkeypatch.setattr(files_module, "grouped", partial(files_module.grouped, max_files=2))
    world = World(kind, tmp_path, models_to_change, score_here)
    short = number < 50
    run_sequences(world, number + 1, 4 if short else 10, same=short)  # the first one is always the shortest
    for name, parts in SHOWN.items():
        figures.add("random sequences", f"{kind}: {name}", " / ".join(f"{world.seen[part]:,}" for part in parts))
