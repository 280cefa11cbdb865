"""Report on one page about a table of scores: what ran, what failed, what has drifted, how good the model is.

python jobs/report.py --config conf/report.yaml --set table.path=... --set output.path=report.html
"""

from __future__ import annotations

import json
from argparse import Namespace
from datetime import datetime, timezone

from bigfive_udf.command_line import main, parser
from bigfive_udf.reporting.figures import ReportInputs, figures_of
from bigfive_udf.reporting.history import failures, last_settings, read_history
from bigfive_udf.reporting.reference import read_reference
from bigfive_udf.reporting.standing import find_model, standing
from bigfive_udf.reporting.stretch import ARTIFACT, choose
from bigfive_udf.reporting.writing import open_to_read, page_maker, write_report
from bigfive_udf.runs import Run
from bigfive_udf.settings.loading import load_settings
from bigfive_udf.settings.report import ReportSettings
from bigfive_udf.spark.failures import spark_failures
from bigfive_udf.spark.output.counting import count_rows
from bigfive_udf.spark.session import job_session
from bigfive_udf.spark.storage import locate

FLAGS = parser(__doc__ or "")


@spark_failures()
def report(args: Namespace, run: Run) -> str:
    settings = load_settings(ReportSettings, args.config, args.set)
    run.result |= {"settings": settings.model_dump()}
    page_of = page_maker()
    spark = job_session("bigfive report", verbose=args.verbose)
    run.announce()
    fs, path = locate(spark, settings.table.path)
    table, ledger = open_to_read(fs, path)
    stretch = choose(ledger.committed, table.columns, settings.partitions, settings.reference)
    records = read_history(fs, table.job_path, stretch, settings.partitions.run)
    scored_with = last_settings(fs, table.job_path)

    # On a large table this takes minutes, without any other output.
    print(f"counting {sum(entry.documents for entry in stretch.counted):,} documents of {path}", flush=True)
    author_column = settings.table.author_column or (scored_with.get("input") or {}).get("author_column")
    counts = count_rows(
        spark, table, stretch.counted, (stretch.reference, stretch.current), stretch.shown, author_column
    )
    model_path = settings.model.path or (scored_with.get("model") or {}).get("path")
    directory, why = find_model(model_path, stretch.model_id)
    figures = figures_of(
        ReportInputs(
            name=path.rstrip("/").rpartition("/")[2],
            stretch=stretch,
            counts=counts,
            stored=read_reference(directory) if directory is not None and stretch.kind == ARTIFACT else None,
            records=records,
            failures=failures(records, ledger.committed),
            standing=standing(directory, why, stretch.model_id),
            cost=settings.cost,
            made_at=datetime.now(timezone.utc),
        )
    )
    run.result |= {"figures": figures}
    target_fs, target = locate(spark, settings.output.path)
    page, numbers = write_report(target_fs, target, page_of(figures), json.dumps(figures, indent=1) + "\n")
    print(f"report: {page} ({numbers})")
    return ""


if __name__ == "__main__":
    main("report", FLAGS, report)
