"""Score the new texts of a corpus: a table of Big Five probabilities and labels, one row per text.

spark-submit jobs/score.py --config conf/score.yaml --set input.path=... --set output.path=... --set model.path=...
"""

from __future__ import annotations

from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

from bigfive_udf.command_line import main, parser, positive
from bigfive_udf.errors import PartitionsFailedError
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.runs import Run
from bigfive_udf.settings.loading import load_settings
from bigfive_udf.settings.score import ScoreSettings
from bigfive_udf.spark.failures import spark_failures
from bigfive_udf.spark.job.estimate import rates_of
from bigfive_udf.spark.job.execution import carry_out
from bigfive_udf.spark.job.planning import planned, scoring_of
from bigfive_udf.spark.job.summary import (
    estimate_lines,
    failure_line,
    model_lines,
    plan_lines,
    plan_record,
    summary_lines,
    summary_of,
)
from bigfive_udf.spark.machines import about_session, wake_workers
from bigfive_udf.spark.output.catalog_table import catalog_table
from bigfive_udf.spark.session import job_session
from bigfive_udf.spark.storage import locate
from bigfive_udf.tables.opening import look_at, open_to_write
from bigfive_udf.tables.partitions import Selection
from bigfive_udf.tables.records import cleaned, keep_records
from bigfive_udf.tables.score_table import keep_apart

FLAGS = parser(__doc__ or "")
FLAGS.add_argument(
    "--partition", action="append", default=[], metavar="dt=2026-11-22", help="only this partition; may repeat"
)
FLAGS.add_argument("--since", metavar="dt=...", help="only partitions from this one on")
FLAGS.add_argument("--until", metavar="dt=...", help="only partitions up to this one, inclusive")
FLAGS.add_argument("--limit", type=positive, metavar="N", help="score at most N partitions, the first ones")
FLAGS.add_argument("--rescore", action="store_true", help="score them again, though the table has them")
FLAGS.add_argument("--prune", action="store_true", help="remove from the table what is gone from the input")
FLAGS.add_argument("--dry-run", action="store_true", help="print the plan and what it would cost, and do nothing")


@spark_failures()
def score(args: Namespace, run: Run) -> str:
    settings = load_settings(ScoreSettings, args.config, args.set)
    wanted = Selection(tuple(args.partition), args.since, args.until, args.limit, args.rescore, args.prune)
    artifact = load_artifact(settings.model.path, activation=settings.model.activation)
    run.result["settings"] = settings.for_record()
    run.log_texts, run.secrets = settings.log_texts, settings.output.catalog
    # Importing the model's libraries takes as long as starting Spark.
    with run.timed("start"), ThreadPoolExecutor(1) as aside:
        looking = aside.submit(scoring_of, settings, artifact)
        aside.submit(import_module, "bigfive_udf.model.bundle")
        spark = job_session("bigfive score", args.verbose, settings.log_texts, settings.needs_catalog)
    run.announce()
    scoring = looking.result()
    run.result |= {"spark": about_session(spark), **scoring.about()}
    fs, path = locate(spark, settings.output.path)
    if settings.input.path is not None:
        keep_apart(path, locate(spark, settings.input.path)[1])

    if args.dry_run:
        work = planned(spark, settings, scoring, look_at(fs, path, settings.output), wanted)
        lines = [*plan_lines(work, path), *estimate_lines(work, rates_of(spark, settings, work))]
        print(*lines, *model_lines(scoring.artifact), sep="\n")
        return "dry run: nothing was scored"

    with open_to_write(fs, path, settings.output, run) as table:
        keep_records(run, table)
        with cleaned(table, settings.retention):
            with run.timed("plan"):
                work = planned(spark, settings, scoring, table, wanted, ahead=lambda: wake_workers(spark))
            catalog = catalog_table(spark, settings, work, table, run)
            run.result |= {"plan": plan_record(work, wanted), "mended": table.mended}
            print(*table.mended, *plan_lines(work, path), *model_lines(scoring.artifact), sep="\n", flush=True)
            done = carry_out(spark, settings, work, table, run, catalog.catch_up)
            catalog.finish()
    run.result |= summary_of(done) | catalog.about() | {"spark": about_session(spark)}  # all executors have joined
    if not work.plan.empty:
        print(*summary_lines(run.result, path), *catalog.lines(), sep="\n")
    failure = failure_line(done.failed, work.plan.size) if done.failed else ""
    catalog.require_up_to_date(failure)
    if failure:
        raise PartitionsFailedError(failure)
    if work.plan.empty:
        return "nothing to do: the table is up to date"
    return ""


if __name__ == "__main__":
    main("score", FLAGS, score)
