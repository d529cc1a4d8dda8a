"""Probabilities against numbers worked out by hand, scikit-learn's curve, and a head calibrated by construction."""

import numpy as np
import pytest
import sklearn.metrics
from sklearn.calibration import calibration_curve

from sentifuse.fuse.measure.calibration import calibrate, expected_calibration_error, reliability

#                   three negative, one neutral, two positive
LABELS = np.array([0, 0, 0, 1, 2, 2])
PROBABILITIES = np.array(
    [
        [0.9, 0.05, 0.05],  # right
        [0.7, 0.2, 0.1],  # right
        [0.1, 0.3, 0.6],  # wrong
        [0.0, 0.4, 0.6],  # wrong
        [0.0, 0.0, 1.0],  # right
        [0.5, 0.25, 0.25],  # wrong; 0.5 is the edge of two of four bins and belongs to the one below
    ]
)


def test_every_number_by_hand() -> None:
    found = calibrate(LABELS, PROBABILITIES, bins=4)
    # (0.25, 0.5]: one pair, confidence 0.5, wrong. (0.5, 0.75]: 0.7 0.6 0.6, one right. (0.75, 1]: 0.9 1.0, both right
    assert found["reliability"] == [
        {"low": 0.0, "high": 0.25, "n": 0, "confidence": None, "accuracy": None},
        {"low": 0.25, "high": 0.5, "n": 1, "confidence": 0.5, "accuracy": 0.0},
        {"low": 0.5, "high": 0.75, "n": 3, "confidence": pytest.approx(1.9 / 3), "accuracy": pytest.approx(1 / 3)},
        {"low": 0.75, "high": 1.0, "n": 2, "confidence": pytest.approx(0.95), "accuracy": 1.0},
    ]
    assert found["ece"] == pytest.approx((0.5 + (1.9 - 1) + (2 - 1.9)) / 6)
    assert found["nll"] == pytest.approx(-np.log([0.9, 0.7, 0.1, 0.4, 1.0, 0.25]).mean())
    squares = [0.015, 0.14, 1.26, 0.72, 0.0, 0.875]
    assert found["brier"] == pytest.approx(sum(squares) / 6)
    assert found["bins"] == 4


def test_a_class_given_no_probability_at_all_costs_much_and_not_infinitely() -> None:
    found = calibrate(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert found["nll"] == pytest.approx(-np.log(np.finfo(np.float64).eps) / 2, rel=1e-6)
    assert found["brier"] == 1.0
    assert found["ece"] == 0.5


def test_bars_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1.0, 0.4, 2.0], size=700)
    labels = rng.integers(0, 3, 700)
    bars = [bar for bar in reliability(labels, probabilities, bins=15) if bar.n]
    right, confidence = calibration_curve(
        probabilities.argmax(1) == labels, probabilities.max(1), n_bins=15, strategy="uniform"
    )
    np.testing.assert_allclose([bar.accuracy for bar in bars], right)
    np.testing.assert_allclose([bar.confidence for bar in bars], confidence)
    assert sum(bar.n for bar in bars) == 700


def test_brier_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    of_yes = rng.random(50)
    labels = rng.integers(0, 2, 50)
    found = calibrate(labels, np.stack([1 - of_yes, of_yes], axis=1))
    assert found["brier"] == pytest.approx(2 * sklearn.metrics.brier_score_loss(labels, of_yes))


def test_a_calibrated_head_shows_what_is_said_to_be_expected_of_it() -> None:
    rng = np.random.default_rng(2)
    probabilities = rng.dirichlet([2.0, 1.0, 3.0], size=400)
    shown = []
    for _ in range(200):
        labels = (rng.random(400)[:, None] > probabilities.cumsum(1)).sum(1)
        shown.append(expected_calibration_error(reliability(labels, probabilities)))
    expected = calibrate(labels, probabilities)["ece_if_calibrated"]
    assert expected["mean"] == pytest.approx(np.mean(shown), rel=0.05)
    assert np.mean(np.array(shown) <= expected["q95"]) == pytest.approx(0.95, abs=0.045)


def test_same_seed_same_numbers() -> None:
    assert calibrate(LABELS, PROBABILITIES, seed=3) == calibrate(LABELS, PROBABILITIES, seed=3)


def test_no_bin_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one bin, found 0"):
        calibrate(LABELS, PROBABILITIES, bins=0)
