"""Making a plan from settings, model, corpus and ledger, before the score job scores anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import SparkSession

from bigfive_udf.errors import InputError, RefusedError
from bigfive_udf.model.artifact import Artifact
from bigfive_udf.model.scores import ScoringOptions
from bigfive_udf.pseudonyms import key_fingerprint, key_of_environment
from bigfive_udf.settings.score import ScoreSettings
from bigfive_udf.spark.input.columns import TableColumns
from bigfive_udf.spark.input.corpus import Corpus
from bigfive_udf.spark.input.files import find_files
from bigfive_udf.spark.input.readable import Readable
from bigfive_udf.spark.input.table import find_table
from bigfive_udf.tables.fingerprint import ScoreRecipe
from bigfive_udf.tables.ledger import Entry
from bigfive_udf.tables.opening import OpenTable
from bigfive_udf.tables.partitions import Selection, Values
from bigfive_udf.tables.plan import Plan, Policies, make_plan
from bigfive_udf.tables.score_table import ScoreTable


@dataclass(frozen=True)
class Scoring:
    """How a run scores: the model, the settings for texts, and everything that decides the scores."""

    artifact: Artifact
    options: ScoringOptions
    recipe: ScoreRecipe
    pseudonym_key: bytes | None = field(default=None, repr=False)
    """None where no column is pseudonymised"""

    def about(self) -> dict[str, Any]:
        """The fields for the run record."""
        about = {"model_id": self.recipe.model_id, "thresholds": dict(self.recipe.thresholds)}
        return about | ({"pseudonyms": dict(self.recipe.pseudonyms)} if self.recipe.pseudonyms else {})


@dataclass(frozen=True)
class Planned:
    """A plan, and everything that is needed to carry it out or to report it."""

    scoring: Scoring
    corpus: Corpus
    table: ScoreTable
    entries: Mapping[str, Entry]
    """the ledger entries of the partitions in the table, by name"""
    plan: Plan
    readable: Readable | None
    """the partitions to score; None where there are none"""
    rows: Mapping[Values, int]
    """number of documents of each fit partition to score"""

    @property
    def documents(self) -> int:
        return sum(self.rows.values())


def scoring_of(settings: ScoreSettings, artifact: Artifact) -> Scoring:
    """How a run with these settings scores with a model.

    Raises:
        SettingsError: the settings ask for more than the model can do, or for pseudonyms without a good key.
    """
    hashed = settings.input.pseudonymised_columns
    key = key_of_environment(settings.input.pseudonym_key) if hashed else None
    if settings.model.precision == "int8":
        artifact.check_int8(settings.max_label_flips)
    options = artifact.options(
        max_length=settings.text.max_length,
        window_overlap=settings.text.window_overlap,
        max_windows=settings.text.windows_limit,
        max_batch_tokens=settings.batching.max_batch_tokens,
        weights=settings.model.weights,
    )
    recipe = ScoreRecipe(
        artifact.model_id,
        settings.that_change_scores(options.max_length),
        tuple(settings.input.carried_columns),
        artifact.label_thresholds(settings.labels.thresholds, settings.labels.require_evidence),
        dict.fromkeys(hashed, key_fingerprint(key)) if key else {},
    )
    return Scoring(artifact, options, recipe, key)


def planned(
    spark: SparkSession,
    settings: ScoreSettings,
    scoring: Scoring,
    opened: OpenTable,
    wanted: Selection,
    ahead: Callable[[], object] | None = None,
) -> Planned:
    """Compare the corpus with the ledger, and look at the files of the partitions to score.

    `ahead` is called as soon as it is known that there is something to score.

    Raises:
        InputError: the corpus can't be read, or a partition named on the command line is not there.
        RefusedError: the run would mix models or schemas, or score more again than allowed.
    """
    find = find_files if settings.input.table is None else find_table
    corpus = find(spark, settings.input, opened.ledger.groups)
    table = opened.shaped(corpus.layout.columns)
    damaged = opened.damaged(table)  # before `committed` is read: this may read the ledger again
    entries = opened.ledger.committed
    policies = Policies(
        settings.on_model_change,
        settings.on_schema_change,
        settings.plan.max_rescored_share,
        wanted.rescore,
        wanted.prune,
        wanted.limit,
        check_labels=settings.max_label_flips < 1,
    )
    found = corpus.found(wanted, entries)
    plan = make_plan(found, entries, scoring.recipe, policies, damaged)
    if not plan.score:
        return Planned(scoring, corpus, table, entries, plan, None, {})
    if ahead is not None:
        ahead()
    # The last committed entry with these columns gives their types; entries that are replaced anyway don't count.
    replaced = {task.name for task in plan.score}
    staying = [e for name, e in entries.items() if tuple(e.columns) == scoring.recipe.columns and name not in replaced]
    types = max(staying, key=lambda e: e.sequence).columns if staying else None
    # Iceberg keeps a column's type for good, whatever the settings say.
    strict = settings.on_schema_change == "refuse" or settings.output.format == "iceberg"
    readable = corpus.examine([task.partition for task in plan.score], TableColumns(types, strict))
    if settings.output.format == "iceberg":
        _refuse_other_types(settings.output.path, readable.columns, scoring.recipe, entries)
    readable, rows = readable.counted()
    _refuse_two_names(plan, readable, scoring.recipe)
    if readable.unfit and not rows and types is None:
        raise InputError(next(iter(readable.unfit.values())))
    return Planned(scoring, corpus, table, entries, plan, readable, rows)


def _refuse_two_names(plan: Plan, readable: Readable, recipe: ScoreRecipe) -> None:
    """Refuse to change pseudonyms where a partition can't be read and would keep its old ones."""
    for task in plan.score:
        reason = readable.unfit.get(task.partition.values)
        if reason is not None and task.entry is not None and task.entry.pseudonyms != recipe.pseudonyms:
            raise RefusedError(
                f"{task.name} can't be scored ({reason}) and would keep its other pseudonyms, and nobody may have two "
                "names: restore its files, or remove them and take --prune"
            )


def _refuse_other_types(
    output: str, columns: Mapping[str, str], recipe: ScoreRecipe, entries: Mapping[str, Entry]
) -> None:
    """Refuse what Iceberg could not commit: pseudonyms in a column of numbers, or numbers in a column of pseudonyms."""
    for entry in entries.values():
        for name, kind in columns.items():
            had = entry.columns.get(name, kind)
            if had != kind and (name in entry.pseudonyms) != (name in recipe.pseudonyms):
                raise RefusedError(
                    f"{output} has column {name} as {had}, the settings make it {kind}, and a column of Iceberg keeps "
                    "its type: choose another output.path"
                )
