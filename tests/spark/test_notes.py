"""What real Python workers warn of reaches the driver, each message once and no more of them than is bearable."""

from __future__ import annotations

import logging
import os
import platform

from bigfive_udf.spark.workers.notes import MOST, Heard, Note, listening
from bigfive_udf.spark.workers.tally import Tally, tally_accumulator


def test_warnings_of_workers_reach_the_driver(spark):
    tally = tally_accumulator(spark.sparkContext)

    def task(numbers):
        import warnings

        from bigfive_udf.spark.workers.notes import listening

        with listening() as listener:
            logging.getLogger("some.library").warning("said by every task\n  twice")
            logging.getLogger("some.library").warning("said by every task\n  twice")
            logging.getLogger("some.library").info("not worth a word")
            warnings.warn("Python's own kind", stacklevel=1)
            tally.add(Tally(heard=listener.taken()))
        return [len(logging.getLogger().handlers) for _ in numbers]

    left = spark.sparkContext.parallelize(range(4), 4).mapPartitions(task).collect()
    heard = tally.value.heard
    assert heard.times[Note("WARNING", "some.library", "said by every task twice")] == 8
    (other,) = [note for note in heard.times if note.logger == "py.warnings"]
    assert "UserWarning: Python's own kind" in other.message
    assert len(heard.times) == 2
    hosts_and_pids = {worker.rpartition(":")[::2] for worker in heard.worker.values()}
    assert {host for host, _ in hosts_and_pids} == {platform.node()}
    assert str(os.getpid()) not in {pid for _, pid in hosts_and_pids}
    assert left == [0] * 4, "a worker is left as it was found"


def test_libraries_that_keep_their_messages_to_themselves_are_heard_too(spark):
    tally = tally_accumulator(spark.sparkContext)

    def task(numbers):
        from transformers.utils import logging as of_transformers

        of_transformers.get_logger("transformers.models").warning("before anybody listens")
        with listening() as listener:
            of_transformers.get_logger("transformers.models").warning("the library's own logger")
            tally.add(Tally(heard=listener.taken()))
            root = logging.getLogger("transformers")
            root.propagate = True  # as before it has set up its own
            of_transformers.get_logger("transformers.models").warning("both loggers")
            root.propagate = False
            tally.add(Tally(heard=listener.taken()))
        return []

    spark.sparkContext.parallelize(range(2), 2).mapPartitions(task).collect()
    assert tally.value.heard.times == {
        Note("WARNING", "transformers.models", "the library's own logger"): 2,
        Note("WARNING", "transformers.models", "both loggers"): 2,
    }


def test_they_are_bounded_in_number_and_length(spark):
    tally = tally_accumulator(spark.sparkContext)

    def task(numbers):
        from bigfive_udf.spark.workers.notes import listening

        with listening() as listener:
            for number in numbers:
                logging.getLogger("endless").warning("%d %s", number, "x" * 10_000)
                tally.add(Tally(heard=listener.taken()))
        return []

    spark.sparkContext.parallelize(range(3 * MOST), 3).mapPartitions(task).collect()
    heard = tally.value.heard
    assert len(heard.times) == MOST
    assert heard.left_out == 2 * MOST
    assert max(len(note.message) for note in heard.times) == 300
    assert [about["times"] for about in heard.about()] == [1] * MOST


def test_who_said_it_first_is_remembered():
    heard, note = Heard(), Note("WARNING", "a", "b")
    heard += Heard({note: 2}, {note: "one:1"})
    heard += Heard({note: 3}, {note: "two:2"}, left_out=4)
    about = {"level": "WARNING", "logger": "a", "message": "b", "times": 5, "first_worker": "one:1"}
    assert heard.about() == [about]
    assert heard.left_out == 4


def test_a_warning_that_can_not_be_written_fails_nothing(capsys):
    with listening() as listener:
        for message, arguments in (("%d texts", ("many",)), ("and another", ())):
            listener.emit(logging.LogRecord("a.library", logging.WARNING, "", 0, message, arguments, None))
    assert [note.message for note in listener.taken().times] == ["and another"]
    assert "--- Logging error ---" in capsys.readouterr().err
