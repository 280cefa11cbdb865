"""The model card: README.md of an artifact, with its pictures. Generated from the measurements, not edited by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bigfive_udf.errors import SettingsError
from bigfive_udf.settings.train import TrainSettings
from bigfive_udf.training.base_models import public_name
from bigfive_udf.training.data import LabelledTexts, table_lines
from bigfive_udf.training.evaluation import origin

if TYPE_CHECKING:
    from bigfive_udf.training.procedure import TrainingOutcome

ROC, CALIBRATION, TRAINING = "roc.png", "calibration.png", "training.png"

_MISUSE = """\
## What it is for, and what not

For research on texts like those it was trained on, in aggregates over many authors, by people who have read its
figures above. **Not for**:

- decisions about people: hiring, credit, insurance, schooling, policing, targeting, or any other;
- inferring the personality of a real person, with or without their consent;
- texts of another kind or language than those it was trained on, and no text in place of a psychological test.

A score is a guess about the wording of a text. It is no diagnosis and no measurement of a person. Read
docs/responsible-use.md of bigfive-udf before scoring texts of real people.
"""


def write_card(
    directory: Path,
    settings: TrainSettings,
    labelled: LabelledTexts,
    evaluation: Mapping[str, Any],
    outcome: TrainingOutcome,
) -> None:
    """Write README.md and its pictures into `directory`."""
    from bigfive_udf.training import pictures  # importing matplotlib takes seconds, and only this function needs it

    pictures.draw_roc(directory / ROC, outcome.reported, evaluation["traits"])
    pictures.draw_calibration(directory / CALIBRATION, outcome.reported, outcome.uncalibrated)
    pictures.draw_training(directory / TRAINING, outcome.curves)
    parts = [
        _front_matter(settings),
        f"# {Path(settings.output.path).name}\n",
        "Five probabilities for a text, one per Big Five trait, each independent of the others. Model "
        f"`{evaluation['model_id']}`, made by bigfive-udf.\n",
        _verdict(evaluation),
        _notes(settings),
        _figures(evaluation),
        _against(evaluation),
        _training(settings, labelled, evaluation),
        _MISUSE,
        _use(),
    ]
    (directory / "README.md").write_text("\n".join(part for part in parts if part), encoding="utf-8")


def _front_matter(settings: TrainSettings) -> str:
    content: dict[str, Any] = {
        "base_model": public_name(settings.model.base),
        "pipeline_tag": "text-classification",
        "library_name": "bigfive-udf",
    }
    if settings.model.languages:
        content["language"] = settings.model.languages
    if settings.output.license is not None:
        content["license"] = settings.output.license
    return f"---\n{yaml.safe_dump(content, sort_keys=True)}---\n"


def check_notes(path: str | None) -> None:
    """Refuse a file of notes that can't be read, before hours of training.

    Raises:
        SettingsError: why.
    """
    try:
        if path is not None:
            Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"output.notes {path} can't be read: {why}; give a Markdown file") from None


def _notes(settings: TrainSettings) -> str:
    if settings.output.notes is None:
        return ""
    return Path(settings.output.notes).read_text(encoding="utf-8").strip() + "\n"


def _verdict(evaluation: Mapping[str, Any]) -> str:
    verdict = evaluation["verdict"]
    lines = [f"**Verdict: {verdict['summary']}.** From {origin(evaluation)}.\n"]
    lines += [f"- {said['text']}." for said in verdict["traits"].values()]
    lines.append(
        f"\nThe ranges in brackets hold for all {verdict['corrected_for_traits']} traits together (95 %)."
        if verdict["corrected_for_traits"] > 1
        else ""
    )
    if evaluation["split"] == "random":
        lines.append(
            "**The split was random.** If authors have several texts, these figures may show that the model knows "
            "authors, not traits. They are no evidence until they hold under a split by author."
        )
    return "\n".join([*lines, ""])


def _figures(evaluation: Mapping[str, Any]) -> str:
    columns = {
        "ROC AUC": "roc_auc",
        "balanced accuracy": "balanced_accuracy",
        "F1": "f1",
        "MCC": "mcc",
        "Brier": "brier",
        "calibration error": "ece",
    }
    rows = [_row(["", "positives", *columns]), _row(["---"] * (2 + len(columns)))]
    for name, measured in [*evaluation["traits"].items(), ("mean of traits", evaluation["macro"])]:
        positives = "" if name == "mean of traits" or measured["positives"] is None else f"{measured['positives']:.0f}"
        rows.append(_row([name, positives, *(_with_interval(measured, key) for key in columns.values())]))
    return "\n".join(
        [
            "## Figures\n",
            f"![ROC curves by trait]({ROC})\n",
            f"Intervals in brackets: {evaluation['intervals']}.\n",
            *rows,
            f"\n![Calibration by trait]({CALIBRATION})\n",
            "A point on the diagonal: of the texts with that probability, that share is high (bars: 95 %, authors "
            "not allowed for). `evaluation.json` has every figure.\n",
        ]
    )


def _against(evaluation: Mapping[str, Any]) -> str:
    rows = [
        _row(["", "accuracy", "always the more frequent label", "authors: ROC AUC of their mean"]),
        _row(["---"] * 4),
    ]
    by_author = (evaluation.get("author_level") or {}).get("traits") or {}
    for trait, measured in evaluation["traits"].items():
        whole = by_author.get(trait) or {}
        author = _with_interval(whole, "roc_auc")
        if whole.get("pearson_r") is not None:
            author += f", Pearson's r {_with_interval(whole, 'pearson_r')}"
        majority = "-" if measured["majority_accuracy"] is None else f"{measured['majority_accuracy']:.3f}"
        rows.append(_row([trait, _with_interval(measured, "accuracy"), majority, author]))
    keras = evaluation.get("categorical_accuracy")
    said = (
        f"\nKeras with `metrics=['acc']` would report {keras['value']:.3f} for this model. That is *categorical* "
        f"accuracy and no accuracy of this task: the base rates alone give {keras['base_rates_alone']:.3f} when the "
        f"columns stand in the order {', '.join(keras['column_order'])}.\n"
        if keras is not None
        else ""
    )
    return "\n".join(["## What to hold them against\n", *rows, said])


def _training(settings: TrainSettings, labelled: LabelledTexts, evaluation: Mapping[str, Any]) -> str:
    train, model = settings.train, settings.model
    by = "by author (no author on two sides)" if evaluation["split"] == "author" else "at random"
    how = (
        f"{evaluation['folds']} folds, split {by}: {evaluation['folds']} models predicted the rows that they had not "
        "seen; calibration and thresholds come from these predictions"
        + ("" if "test" in evaluation["rows"] else ", and so do the figures, each fold's with those of the others")
        + ". This model was then trained on all rows"
        if evaluation["folds"]
        else f"one split {by}: " + ", ".join(f"{n:,} {name}" for name, n in evaluation["rows"].items())
    )
    cut = ", ".join(f"{trait} at {cut}" for trait, cut in labelled.cuts.items())
    thresholds = ", ".join(f"{trait} {value:.3f}" for trait, value in evaluation["thresholds"].items())
    settings_rows = {
        "base": public_name(model.base),
        "head, pooling": f"{model.head}, {model.pooling}",
        "epochs, batch size, learning rate": f"{train.epochs}, {train.batch_size}, {train.learning_rate:g}",
        "positive weights, frozen layers": f"{train.positive_weights}, {train.frozen_layers}",
        "early stopping, seed": f"{train.early_stopping}, {train.seed}",
        f"thresholds (by {settings.labels.thresholds})": thresholds,
    }
    seeds = evaluation.get("seeds")
    counted = [line.strip() for line in table_lines("labelled table", labelled)]
    return "\n".join(
        [
            "## Data and training\n",
            f"![Loss by epoch]({TRAINING})\n",
            *(f"- {line}" for line in counted),
            f"- {how}.",
            *([f"- scores were cut into labels: {cut}"] if cut else []),
            *(
                [f"- macro ROC AUC by seed: {', '.join(f'{s} {v:.3f}' for s, v in seeds['macro_roc_auc'].items())}"]
                if seeds
                else []
            ),
            "",
            _row(["setting", "value"]),
            _row(["---"] * 2),
            *(_row([key, str(value)]) for key, value in settings_rows.items()),
            "",
        ]
    )


def _use() -> str:
    return (
        "## How to use it\n\n```python\nimport bigfive_udf\n\n"
        'bigfive_udf.load_artifact("PATH").predict(["a text", "another"])\n```\n'
    )


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _with_interval(measured: Mapping[str, Any], key: str) -> str:
    if measured.get(key) is None or measured.get(f"{key}_ci") is None:
        return "-"
    low, high = measured[f"{key}_ci"]
    return f"{measured[key]:.3f} ({low:.3f} to {high:.3f})"
