"""Score a corpus: a Parquet table of Big Five probabilities and labels, one row per text.

spark-submit jobs/score.py --config conf/score.yaml --set input.path=... --set output.path=... --set model.path=...
"""

from __future__ import annotations

import time
from argparse import Namespace
from functools import partial

from bigfive_udf.command_line import main, parser, positive
from bigfive_udf.errors import PartitionsFailedError
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.runs import Run
from bigfive_udf.settings.loading import load_settings
from bigfive_udf.settings.score import ScoreSettings
from bigfive_udf.spark.corpus import open_corpus
from bigfive_udf.spark.failures import spark_failures
from bigfive_udf.spark.progress import Progress
from bigfive_udf.spark.scoring import failed_partitions, score_table, staged_counts, write_staged
from bigfive_udf.spark.session import job_session
from bigfive_udf.spark.storage import as_pattern, as_uri, locate
from bigfive_udf.spark.summary import model_lines, plan_lines, plan_of, summary_lines, summary_of
from bigfive_udf.spark.udf import spark_model
from bigfive_udf.tables.parquet_table import ParquetTable
from bigfive_udf.tables.partitions import Selection

FLAGS = parser(__doc__ or "")
FLAGS.add_argument(
    "--partition", action="append", default=[], metavar="dt=2026-11-22", help="only this partition; may repeat"
)
FLAGS.add_argument("--since", metavar="dt=...", help="only partitions from this one on")
FLAGS.add_argument("--until", metavar="dt=...", help="only partitions up to this one, inclusive")
FLAGS.add_argument("--limit", type=positive, metavar="N", help="at most N partitions, the first ones")
FLAGS.add_argument("--dry-run", action="store_true", help="print the plan and do nothing")


@spark_failures()
def score(args: Namespace, run: Run) -> str:
    settings = load_settings(ScoreSettings, args.config, args.set)
    selection = Selection(tuple(args.partition), args.since, args.until, args.limit)
    artifact = load_artifact(settings.model.path, activation=settings.model.activation)
    thresholds = artifact.label_thresholds(settings.labels.thresholds, settings.labels.require_evidence)
    options = artifact.options(
        max_length=settings.text.max_length,
        window_overlap=settings.text.window_overlap,
        max_windows=settings.text.windows_limit,
        max_batch_tokens=settings.batching.max_batch_tokens,
    )
    run.result |= {"settings": settings.model_dump(), "model_id": artifact.model_id, "thresholds": thresholds}

    spark = job_session("bigfive score", verbose=args.verbose)
    corpus = open_corpus(spark, settings.input).selected(selection)
    rows = corpus.count()
    columns = corpus.layout.columns
    run.result |= {"plan": plan_of(corpus.layout, rows)}
    print(*plan_lines(corpus.layout, rows, settings.input.source, settings.output.path), sep="\n")
    print(*model_lines(artifact), sep="\n", flush=True)
    if args.dry_run:
        return "dry run: nothing was scored"

    table = ParquetTable(*locate(spark, settings.output.path))
    table.prepare(columns, corpus.source)
    run.keep_record = partial(table.write_record, run.run_id)
    model = spark_model(
        spark, artifact, options=options, device=settings.model.device, precision=settings.model.precision
    )
    run.result |= {"precision": model.placement.precision, "device": model.placement.device}
    with table.staging(run.run_id) as staging:
        started = time.monotonic()
        with Progress(model.tally, sum(rows.values())):
            scores = score_table(corpus, model, settings, thresholds, sum(rows.values()), run)
            write_staged(scores, columns, as_uri(table.fs, staging), settings.output)
        seconds = time.monotonic() - started
        counts = staged_counts(spark, as_pattern(table.fs, staging), columns)
        failed = failed_partitions(columns, rows, counts, settings.max_failed_share)
        for partition in corpus.layout.partitions:
            if partition.values not in failed:
                table.publish(staging, columns, partition.values)
    model.close()

    run.result |= summary_of(columns, rows, counts, model.tally.value, seconds) | {
        "failed_partitions": list(failed.values())
    }
    print(*summary_lines(run.result, settings.output.path), sep="\n")
    if failed:
        raise PartitionsFailedError(
            f"{len(failed)} of {len(rows)} partitions were not published: {'; '.join(failed.values())}"
        )
    return ""


if __name__ == "__main__":
    main("score", FLAGS, score)
