"""Calibration makes probabilities mean what they say, is folded into the model, and does not change the order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from bigfive_udf.training.calibration import LEAST_SLOPE, Calibration, fit, last_layer, thresholds
from bigfive_udf.training.metrics import Predictions, evaluate
from bigfive_udf.traits import TRAITS


def known(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are right, (n, 5), and labels drawn by them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 5)) * 1.5
    return logits, (rng.random((n, 5)) < 1 / (1 + np.exp(-logits))).astype(float)


def ece(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return evaluate(Predictions(labels, probabilities, np.full(5, 0.5)), resamples=100)["macro"]["ece"]


def test_what_was_distorted_is_put_right() -> None:
    logits, labels = known()
    found = fit(3 * logits + 1, labels)
    np.testing.assert_allclose(found.slope * 3, 1, atol=0.1)
    np.testing.assert_allclose(found.intercept + found.slope, 0, atol=0.1)


def test_calibration_error_falls_on_an_overconfident_model_and_stays_on_a_good_one() -> None:
    (logits, labels), (held_logits, held) = known(seed=1), known(seed=2)
    for factor, falls in ((4.0, True), (1.0, False)):
        before = ece(Calibration.none().probabilities(factor * held_logits), held)
        after = ece(fit(factor * logits, labels).probabilities(factor * held_logits), held)
        assert after < before / 3 if falls else after < before + 0.01


def test_it_undoes_positive_weights() -> None:
    """A loss that weighs positives w times as much adds log w to the logits of a perfect model."""
    logits, labels = known()
    found = fit(logits + np.log(5), labels)
    np.testing.assert_allclose(found.probabilities(logits + np.log(5)).mean(0), labels.mean(0), atol=0.01)


def test_missing_labels_and_failed_texts_do_not_count() -> None:
    logits, labels = known(500)
    expected = fit(logits[100:], labels[100:])
    labels[:50] = np.nan
    logits[50:100] = np.nan
    found = fit(logits, labels)
    np.testing.assert_allclose(found.slope, expected.slope)


def test_perfect_separation_has_a_finite_slope_and_one_class_changes_nothing() -> None:
    logits = np.repeat(np.array([-2.0, -1.0, 1.0, 2.0])[:, None], 5, axis=1)
    labels = (logits > 0).astype(float)
    labels[:, 1] = 1
    found = fit(logits, labels)
    assert 0 < found.slope[0] < 5
    assert (found.slope[1], found.intercept[1]) == (1, 0)


@given(seed=st.integers(0, 50), flip=st.booleans())
def test_the_order_of_scores_never_turns_round(seed: int, flip: bool) -> None:
    """Not even where the held-out part says that the model has it the wrong way round."""
    logits, labels = known(80, seed)
    labels = 1 - labels if flip else labels
    found = fit(logits, labels)
    assert (found.slope >= LEAST_SLOPE).all()
    for i in range(5):
        if len(np.unique(labels[:, i])) == 2:
            said = found.probabilities(logits)[:, i]
            assert roc_auc_score(labels[:, i], said) == pytest.approx(roc_auc_score(labels[:, i], logits[:, i]))
            assert abs(said.mean() - labels[:, i].mean()) < 0.1


@pytest.mark.parametrize(("architecture", "head", "pooling"), [
    ("distilbert", "linear", "cls"), ("bert", "linear", "cls"), ("roberta", "linear", "cls"),
    ("bert", "linear", "mean"), ("distilbert", "mlp", "cls"),
])  # fmt: skip
def test_the_model_itself_gives_the_calibrated_probabilities(checkpoint, architecture, head, pooling) -> None:
    from transformers import AutoModelForSequenceClassification

    from bigfive_udf.model.modeling import BigFiveForSequenceClassification

    own = (head, pooling) != ("linear", "cls")
    kind = BigFiveForSequenceClassification if own else AutoModelForSequenceClassification
    model = kind.from_pretrained(checkpoint(architecture, head=head, pooling=pooling)).eval()
    ids = torch.randint(5, 30, (4, 12))
    chosen = Calibration(np.array([0.5, 1, 2, 0.1, 3]), np.array([0.1, -1, 0, 2, -0.3]))
    with torch.inference_mode():
        before = model(input_ids=ids).logits.double().numpy()
        chosen.fold_into(model)
        after = torch.sigmoid(model(input_ids=ids).logits).numpy()
    np.testing.assert_allclose(after, chosen.probabilities(before), atol=1e-6)
    assert last_layer(model).out_features == len(TRAITS)


# --- thresholds ---


@pytest.mark.parametrize(("by", "score"), [("balanced_accuracy", balanced_accuracy_score), ("f1", f1_score)])
def test_no_other_threshold_is_better(by, score) -> None:
    logits, labels = known(200)
    probabilities = (1 / (1 + np.exp(-logits))).round(2)  # ties
    found = thresholds(probabilities, labels, by)
    for i in range(5):
        y, p = labels[:, i], probabilities[:, i]
        best = max(score(y, p >= t) for t in np.unique(p))
        assert score(y, p >= found[i]) == pytest.approx(best)


def test_a_fixed_threshold_is_one_half_and_so_is_that_of_one_class() -> None:
    logits, labels = known(50)
    assert thresholds(logits, labels, "fixed").tolist() == [0.5] * 5
    labels[:, 2] = 1
    assert thresholds(1 / (1 + np.exp(-logits)), labels, "f1")[2] == 0.5


def test_a_threshold_stands_clear_of_the_probabilities_that_were_seen() -> None:
    probabilities = np.repeat(np.array([0.2, 0.3, 0.6, 0.8])[:, None], 5, axis=1)
    labels = np.repeat(np.array([0.0, 0, 1, 1])[:, None], 5, axis=1)
    np.testing.assert_allclose(thresholds(probabilities, labels, "balanced_accuracy"), 0.45)
