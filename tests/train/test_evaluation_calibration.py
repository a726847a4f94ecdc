"""Temperatures: a model whose confidence was distorted by a known one gets it back."""

import numpy as np
import pytest

from aerial_train.evaluation.calibration import (
    MIN_FIT,
    calibrate,
    expected_error,
    fit_temperature,
    heated,
    reliability,
    two_classes,
)


def honest(count=6000, classes=5, seed=0):
    """Probabilities that are right as often as they say, and labels drawn by them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    draws = rng.random((count, 1))
    return probabilities, (probabilities.cumsum(axis=1) < draws).sum(axis=1)


@pytest.mark.parametrize("distortion", [0.4, 1.0, 2.5])
def test_the_temperature_undoes_a_distortion(distortion):
    probabilities, labels = honest()
    assert fit_temperature(heated(probabilities, distortion), labels) == pytest.approx(1 / distortion, rel=0.06)


def test_heating_keeps_the_answer_and_flattens():
    warm = heated(np.array([[0.7, 0.2, 0.1]]), 3.0)
    assert warm.argmax() == 0 and warm.max() < 0.5 and warm.sum() == pytest.approx(1)
    np.testing.assert_allclose(heated(np.array([[1.0, 0.0]]), 1.0), [[1, 0]], atol=1e-20)


def test_the_error_is_measured_on_the_other_half():
    probabilities, labels = honest()
    found = calibrate("letter", heated(probabilities, 0.4), labels)
    assert found.fitted_on == found.measured_on == 3000
    assert found.temperature == pytest.approx(2.5, rel=0.1)
    assert found.ece > 0.1 > 0.04 > found.ece_after
    assert sum(item.count for item in found.bins) == 3000


def test_halves_are_apart():
    """What the measured half holds makes no difference to the temperature."""
    probabilities, labels = honest(200)
    other = labels.copy()
    other[1::2] = 0
    first, second = calibrate("x", probabilities, labels), calibrate("x", probabilities, other)
    assert first.temperature == second.temperature and first.ece != second.ece


def test_the_fitted_half_is_not_measured():
    probabilities, labels = honest(200)
    other = labels.copy()
    other[::2] = 0
    assert calibrate("x", probabilities, labels).ece == calibrate("x", probabilities, other).ece


def test_too_few_labels_give_no_temperature():
    probabilities, labels = honest(2 * MIN_FIT - 2)
    found = calibrate("x", probabilities, labels)
    assert found.temperature is None and found.ece_after is None and found.ece > 0
    assert calibrate("x", probabilities, np.full(len(labels), -1)) is None


def test_expected_error_by_hand():
    bins = reliability(np.array([0.95, 0.95, 0.55, 1.0]), np.array([True, False, True, True]))
    # 0.95 x2 and 1.0 share the last bin: mean confidence 0.9667, right 2 of 3
    assert expected_error(bins) == pytest.approx((3 * (2.9 / 3 - 2 / 3) + 0.45) / 4)


def test_a_saturated_sigmoid_stays_finite():
    assert np.isfinite(heated(two_classes(np.array([1.0, 0.0], np.float32)), 2.0)).all()
