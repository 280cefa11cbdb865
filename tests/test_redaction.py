"""What is told of an error of Spark's that quotes a row."""

from __future__ import annotations

from pyspark.errors import PySparkException

from bigfive_udf.redaction import told, trace_of

SAID = """An error occurred while calling o12.count.
: org.apache.spark.SparkException: [FAILED_READ_FILE.NO_HINT] Encountered an error while reading my secret.
\tat org.apache.spark.sql.errors.QueryExecutionErrors$.cannotRead(QueryExecutionErrors.scala:856)
Caused by: org.apache.spark.SparkRuntimeException: [MALFORMED_RECORD_IN_PARSING] Malformed: [1,a secret
   at the end of my secret,2].
\t... 24 more
  File "/opt/bigfive_udf/spark/workers/worker.py", line 46, in score_batches
    secret = 3"""


def test_kinds_conditions_and_frames_are_told_and_no_words():
    text = told(PySparkException(SAID))
    assert "secret" not in text
    for kept in ("[MALFORMED_RECORD_IN_PARSING]", "SparkRuntimeException", "scala:856)", "worker.py", "... 24 more"):
        assert kept in text


def test_errors_of_others_and_their_causes_keep_their_words():
    try:
        try:
            raise PySparkException(SAID)
        except PySparkException as error:
            raise ValueError("the thing, its value, the cure") from error
    except ValueError as error:
        trace = trace_of(error)
    assert "secret" not in trace
    assert trace.endswith("ValueError: the thing, its value, the cure\n")
    assert "[MALFORMED_RECORD_IN_PARSING]" in trace.split("from which came:")[0]
