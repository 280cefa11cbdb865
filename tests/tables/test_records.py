"""What every run deletes at its end: trash by the time of its commit, and at once if nothing is to be kept."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from bigfive_udf.runs import Run
from bigfive_udf.settings.score import OutputSettings, RetentionSettings
from bigfive_udf.tables.by_author import directory_of
from bigfive_udf.tables.filesystem import LocalFileSystem
from bigfive_udf.tables.opening import open_to_write
from bigfive_udf.tables.records import cleaned
from support.nights import night

DT = ("dt",)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "scores")


def end_of_a_run(path: str, trash_days: float) -> None:
    """A run that has nothing to do."""
    with (
        open_to_write(LocalFileSystem(), path, OutputSettings(path=path), Run("score")) as table,
        cleaned(table, RetentionSettings(trash_days=trash_days)),
    ):
        pass


def ago(**age: float) -> str:
    return (datetime.now(timezone.utc) - timedelta(**age)).isoformat(timespec="milliseconds")


def trash(path: str) -> list[str]:
    return os.listdir(f"{path}.job/trash")


def test_what_a_long_run_replaced_lately_stays_though_the_run_began_long_ago(path):
    night(path, DT, {("1",): [1]}, committed_at=ago(days=9))
    night(path, DT, {("1",): [2]}, number=2, committed_at=ago(hours=1))
    end_of_a_run(path, trash_days=2)
    assert trash(path) == ["20260101T000002Z-abcdef-0001"]
    end_of_a_run(path, trash_days=0.04)
    assert trash(path) == []


def test_files_of_the_view_by_author_go_by_what_replaced_them_whatever_made_them(path):
    """By the numbers of commits: here the clock of the second machine is behind that of the first."""
    folder = Path(f"{path}.job/by_author")
    names = ["0000000001-20260102T000000Z-abcdef", "0000000002-20260101T000000Z-abcdef"]
    for number, name in enumerate(names, 1):
        night(path, DT, {("1",): [number]}, number=number)
        (folder / name).mkdir(parents=True)
    end_of_a_run(path, trash_days=2)
    assert [p.name for p in folder.rglob("*")] == [*sorted(os.listdir(folder)), "_REPLACED"]
    (mark,) = folder.rglob("_REPLACED")
    assert mark.parent.name == names[0], "the later one is that of the table as it is"
    noted = mark.read_text()
    end_of_a_run(path, trash_days=2)
    assert mark.read_text() == noted
    mark.write_text(ago(days=3))
    end_of_a_run(path, trash_days=2)
    assert os.listdir(folder) == names[1:]
    end_of_a_run(path, trash_days=0)
    assert os.listdir(folder) == names[1:], "nobody is in it who is not in the table"
    night(path, DT, {("1",): None}, number=3)
    end_of_a_run(path, trash_days=2)
    assert os.listdir(folder)
    end_of_a_run(path, trash_days=0)
    assert not os.listdir(folder)


def test_files_by_author_of_an_earlier_version_are_the_oldest(path):
    folder = Path(f"{path}.job/by_author")
    night(path, DT, {("1",): [1]})
    (folder / "20260101T000001Z-abcdef").mkdir(parents=True)
    (folder / directory_of(1, "20260101T000001Z-abcdef")).mkdir()
    end_of_a_run(path, trash_days=0)
    assert os.listdir(folder) == ["0000000001-20260101T000001Z-abcdef"]


def test_at_once_is_at_once_though_the_clock_of_the_commit_was_ahead(path):
    night(path, DT, {("1",): [1]})
    night(path, DT, {("1",): [2]}, number=2, committed_at=ago(hours=-1))
    end_of_a_run(path, trash_days=2)
    assert trash(path)
    end_of_a_run(path, trash_days=0)
    assert trash(path) == []
