"""What is said beside the figures: authors instead of texts, what Keras would report, and the verdict in words."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import roc_auc_score

from bigfive_udf.training.data import LabelledTexts
from bigfive_udf.training.evaluation import categorical_accuracy, evaluation_lines, evaluation_of, table, verdict
from bigfive_udf.training.metrics import Predictions, evaluate
from bigfive_udf.traits import TRAITS

HALF = np.full(5, 0.5)


def found_of(values: np.ndarray, authors: np.ndarray | None, **more: object) -> LabelledTexts:
    about: dict[str, object] = {"cuts": {}, "column_order": TRAITS} | more
    return LabelledTexts([f"text {i}" for i in range(len(values))], authors, values, **about)  # type: ignore[arg-type]


def several(authors: int = 60, texts: int = 8, strength: float = 1.0) -> tuple[Predictions, LabelledTexts]:
    rng = np.random.default_rng(0)
    scores = np.repeat(rng.normal(3, 1, (authors, 5)), texts, axis=0)
    said = 1 / (1 + np.exp(-(strength * (scores - 3) + 2 * rng.normal(size=scores.shape))))
    names = np.repeat([f"a{i}" for i in range(authors)], texts)
    labels = (scores >= 3).astype(float)
    return Predictions(labels, said, HALF, names), found_of(scores, names, cuts=dict.fromkeys(TRAITS[:2], 3.0))


def test_authors_are_evaluated_by_the_mean_of_their_texts() -> None:
    predictions, found = several()
    by_author = evaluation_of(predictions, found, resamples=100)["author_level"]
    said = predictions.probabilities.reshape(60, 8, 5).mean(1)
    labels = predictions.labels[::8]
    for i, trait in enumerate(TRAITS):
        measured = by_author["traits"][trait]
        assert measured["roc_auc"] == pytest.approx(roc_auc_score(labels[:, i], said[:, i]), abs=1e-4)
        assert measured["accuracy"] == pytest.approx(((said[:, i] >= 0.5) == labels[:, i]).mean(), abs=1e-4)
    assert by_author["authors"] == 60
    assert by_author["macro"]["roc_auc"] > evaluate(predictions, resamples=100)["macro"]["roc_auc"]


def test_where_the_label_was_a_score_authors_have_a_correlation() -> None:
    predictions, found = several()
    by_author = evaluation_of(predictions, found, resamples=100)["author_level"]["traits"]
    said, scores = predictions.probabilities.reshape(60, 8, 5).mean(1), found.values[::8]
    expected = pearsonr(said[:, 1], scores[:, 1])
    assert by_author[TRAITS[1]]["pearson_r"] == pytest.approx(expected.statistic, abs=1e-4)
    interval = expected.confidence_interval()
    assert by_author[TRAITS[1]]["pearson_r_ci"] == pytest.approx([interval.low, interval.high], abs=1e-4)
    assert "pearson_r" not in by_author[TRAITS[2]], "its label was none"


def test_a_correlation_over_folds_is_that_within_them_with_an_interval_as_wide_as_the_others() -> None:
    """Scores without any signal, each fold's at a level of its own: pooled, they look related."""
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        folds = np.arange(100) % 5
        scores = np.repeat(rng.normal(3, 1, (100, 5)) + folds[:, None], 2, axis=0)
        said = 1 / (1 + np.exp(-np.repeat(rng.normal(size=(100, 5)) + folds[:, None], 2, axis=0)))
        names = np.repeat([f"a{i}" for i in range(100)], 2)
        labels = (scores >= 3).astype(float)
        about = Predictions(labels, said, HALF, names, folds=np.repeat(folds, 2), cross_validated=True)
        table = found_of(scores, names, cuts={TRAITS[0]: 3.0})
        found.append(evaluation_of(about, table, resamples=5)["author_level"]["traits"][TRAITS[0]])
    within = [np.arctanh(pearsonr(said[::2][folds == f, 0], scores[::2][folds == f, 0]).statistic) for f in range(5)]
    assert found[-1]["pearson_r"] == pytest.approx(np.tanh(np.mean(within)), abs=1e-4)
    assert pearsonr(said[::2, 0], scores[::2, 0]).statistic > 0.5 > abs(np.mean([one["pearson_r"] for one in found]))
    z = [np.arctanh(one["pearson_r_ci"]) for one in found]
    assert np.mean([high - low for low, high in z]) == pytest.approx(2 * 1.96 * np.sqrt(2 / (5 * 17)), rel=0.01)


def test_authors_of_several_folds_are_ranked_within_theirs() -> None:
    """Each fold's model at a level of its own, and right in the order within it."""
    folds = np.arange(40) % 4
    labels = np.repeat(((np.arange(40) // 4) % 2).astype(float)[:, None], 5, axis=1)
    said = 0.1 + 0.2 * folds[:, None] + 0.1 * labels
    names = np.repeat([f"a{i}" for i in range(40)], 2)
    about = Predictions(
        np.repeat(labels, 2, axis=0), np.repeat(said, 2, axis=0), HALF, names, np.repeat(folds, 2), cross_validated=True
    )
    found = evaluation_of(about, found_of(np.repeat(labels, 2, axis=0), names), resamples=20)
    assert found["traits"][TRAITS[0]]["roc_auc"] == found["author_level"]["traits"][TRAITS[0]]["roc_auc"] == 1


def test_without_authors_there_is_no_author_level() -> None:
    predictions, found = several()
    alone = Predictions(predictions.labels, predictions.probabilities, HALF)
    assert "author_level" not in evaluation_of(alone, found, resamples=100)


def keras_accuracy(labels: np.ndarray, said: np.ndarray) -> float:
    """keras.metrics.categorical_accuracy, by its definition: mean(equal(argmax(y_true, -1), argmax(y_pred, -1)))."""
    return float(np.mean(np.argmax(labels, axis=-1) == np.argmax(said, axis=-1)))


@pytest.mark.parametrize("order", [TRAITS, TRAITS[::-1], ("agreeableness", "openness", "extraversion")])
def test_what_keras_calls_accuracy_depends_on_the_order_of_the_columns(order: tuple[str, ...]) -> None:
    predictions, _ = several()
    index = [TRAITS.index(trait) for trait in order]
    labels, said = predictions.labels[:, index], predictions.probabilities[:, index]
    found = categorical_accuracy(predictions, order)
    assert found is not None
    assert found["value"] == pytest.approx(keras_accuracy(labels, said), abs=1e-4)
    always = np.tile(labels.mean(0), (len(labels), 1))
    assert found["base_rates_alone"] == pytest.approx(keras_accuracy(labels, always), abs=1e-4)
    assert found["column_order"] == list(order)


def test_rows_that_lack_a_label_have_no_categorical_accuracy() -> None:
    predictions, _ = several()
    predictions.labels[:, 3] = np.nan
    assert categorical_accuracy(predictions, TRAITS) is None
    assert categorical_accuracy(predictions, [t for t in TRAITS if t != "conscientiousness"]) is not None


def test_the_verdict_says_which_traits_are_better_than_chance_and_by_how_much() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, (400, 5)).astype(float)
    said = rng.random((400, 5))
    said[:, 0] = 0.3 * said[:, 0] + 0.5 * labels[:, 0]
    labels[:, 4] = np.nan
    found = verdict(evaluate(Predictions(labels, said, HALF), resamples=200)["traits"])
    assert found["summary"] == (
        "better than chance for extraversion; no better than chance for neuroticism, agreeableness, conscientiousness"
    )
    assert found["corrected_for_traits"] == 4
    assert found["traits"]["openness"]["verdict"] == "not known"
    said_of = found["traits"]["extraversion"]["text"]
    assert said_of.startswith("extraversion: better than chance. It ranks 100 of 100 pairs")
    assert "guessing ranks 50" in said_of and "always answering the more frequent label gets 0.5" in said_of


def test_the_verdict_of_noise_is_no_better_than_chance() -> None:
    predictions, _ = several(strength=0)
    assert (
        verdict(evaluate(predictions, resamples=200)["traits"])["summary"]
        == "no better than chance for any of 5 traits"
    )


def test_the_lines_have_the_figures_the_verdict_and_a_warning_where_the_split_was_random() -> None:
    predictions, found = several()
    measured = evaluation_of(predictions, found, resamples=100)
    evaluation = measured | {"split": "random", "folds": 5, "rows": {"out_of_fold": 480}}
    lines = evaluation_lines(evaluation)
    text = "\n".join(lines)
    assert "480 texts, each predicted by a model that did not see it" in text
    assert table(evaluation) in text
    assert f"verdict: {measured['verdict']['summary']}" in lines
    assert f"Keras would call {measured['categorical_accuracy']['value']:.3f} its accuracy" in text
    assert "warning: a random split" in text
    by_author = evaluation | {"split": "author", "authors": {"out_of_fold": 60}, "author_column": "who"}
    text = "\n".join(evaluation_lines(by_author))
    assert "480 texts by 60 authors (column who), each predicted by a model that saw neither it nor its author" in text
    assert "warning" not in text
