"""Carrying out a plan: remove partitions that are gone, compute labels again, score new and changed partitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from pyspark.sql import SparkSession

from bigfive_udf.runs import Run
from bigfive_udf.settings.score import ScoreSettings
from bigfive_udf.spark.input.readable import Readable
from bigfive_udf.spark.job.estimate import remembered
from bigfive_udf.spark.job.fidelity import check_relabelling, faithful_model, fidelity_lines
from bigfive_udf.spark.job.planning import Planned
from bigfive_udf.spark.job.progress import Progress
from bigfive_udf.spark.job.steps import Outcome, Steps, Work
from bigfive_udf.spark.machines import cores
from bigfive_udf.spark.output.shared_path import require_shared
from bigfive_udf.spark.udf import SparkModel, spark_model
from bigfive_udf.tables.opening import OpenTable
from bigfive_udf.tables.plan import Task


def carry_out(
    spark: SparkSession,
    settings: ScoreSettings,
    work: Planned,
    table: OpenTable,
    run: Run,
    committed: Callable[[], None] = lambda: None,
) -> Outcome:
    """Carry out the whole plan in several commits; `committed` is called after each of them.

    The outcome names each failed partition with the reason; the other partitions are committed.

    Raises:
        OutputError: the table can't be written.
        SettingsError: the table is on a disk that executors don't see.
        RefusedError: labels would be computed again from probabilities that are not exact enough.
        TableLockedError: another run has taken the table over.
    """
    if work.plan.empty:
        return Outcome(failed=dict(work.plan.unclear))
    tasks = [task for task in work.plan.score if task.partition.values in work.rows]
    # Before any change: if the executors can't see the table's disk, or can't run the model, the table stays as it was,
    # or is not begun.
    if tasks or work.plan.relabel:
        require_shared(spark, table.fs, table.path)
    if work.plan.relabel:
        run.result["fidelity_of_labels"] = [asdict(f) for f in check_relabelling(spark, settings, work)]
    with run.timed("model"):  # it travels, and is compared with itself in fp32
        model = _chosen(spark, settings, work, run) if tasks else None
    try:
        committer = table.committer(work.table)
        steps = Steps(
            spark, settings, run, work.scoring, work.corpus, work.table, table.ledger, committer, committed=committed
        )
        steps.outcome.failed |= work.plan.unclear
        if not work.plan.together:
            steps.remove(work.plan.remove)
        steps.relabel(work.plan.relabel)
        if work.readable is not None:
            names = {task.partition.values: task.name for task in work.plan.score}
            for values, reason in work.readable.unfit.items():
                steps.fail(names[values], f"{names[values]}: {reason}")
            if model is not None:
                _score(steps, tasks, work, work.readable, model)
        return steps.outcome
    finally:
        if model is not None:
            model.close()


def _chosen(spark: SparkSession, settings: ScoreSettings, work: Planned, run: Run) -> SparkModel:
    """The model with the run's device and precision; warnings are printed, the choice and its reasons recorded."""
    asked, scoring = settings.model, work.scoring
    model = spark_model(
        spark,
        scoring.artifact,
        options=scoring.options,
        device=asked.device,
        precision=asked.precision,
        log_texts=settings.log_texts,
    )
    model, fidelity = faithful_model(spark, settings, work, model)
    used = model.placement
    run.result |= {"precision": used.precision, "device": used.device, "fidelity": [asdict(f) for f in fidelity]}
    for line in fidelity_lines(fidelity, settings, used.precision):
        print(line, flush=True)
        run.log(line)
    return model


def _score(steps: Steps, tasks: Sequence[Task], work: Planned, readable: Readable, model: SparkModel) -> None:
    rates = remembered(work.entries, work.scoring.recipe, model.placement, cores(steps.spark))
    try:
        with Progress(model.tally, steps.outcome, work.documents, len(work.plan.score)):
            rate = rates.documents_per_second if rates else None
            steps.score(tasks, Work(readable, work.rows, model), rate, work.plan)
    finally:
        steps.outcome.tally = model.tally.value
        for excerpt in model.tally.value.excerpts:
            steps.run.log("text that can't be scored", excerpt=excerpt)
