"""The filter's rule, by hand and by law: strictly greater, thresholds by class, the first of equal maxima."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentifuse import ConfigError, DataError
from sentifuse.crowd.labels.filtering import Thresholds, filter_labels

shares = st.lists(st.tuples(*[st.integers(0, 20)] * 3).filter(any), max_size=30)  # on a grid: ties and equal values
limits = st.tuples(*[st.integers(0, 20).map(lambda n: n / 20)] * 3)


def probabilities(rows: list[tuple[float, ...]]) -> np.ndarray:
    found = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return (found / found.sum(1, keepdims=True)).astype(np.float32)


def test_the_rule_by_hand() -> None:
    rows = np.array(
        [
            [0.71, 0.20, 0.09],  # negative above .70
            [0.70, 0.20, 0.10],  # equal to its threshold: not kept
            [0.05, 0.90, 0.05],  # equal again
            [0.04, 0.92, 0.04],
            [0.10, 0.05, 0.85],  # enough for negative, not for positive
            [0.00, 0.00, 1.00],
        ],
        dtype=np.float32,
    )
    found = filter_labels(rows, Thresholds())
    assert found.classes.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.is_kept.tolist() == [True, False, False, True, False, True]
    assert np.array_equal(found.confidence, rows.max(1))


def test_the_first_of_equal_maxima_is_the_class() -> None:
    rows = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [1 / 3] * 3], dtype=np.float32)
    assert filter_labels(rows, Thresholds()).classes.tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("threshold", [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
def test_a_value_written_like_the_threshold_is_not_greater_in_float32(threshold: float) -> None:
    rows = np.array([[0.0, threshold, 1 - threshold]], dtype=np.float32)
    every = Thresholds(negative=threshold, neutral=threshold, positive=max(threshold, 1 - threshold))
    assert not filter_labels(rows, every).is_kept.any()


@given(shares, limits, limits)
@settings(max_examples=100, deadline=None)
def test_raising_a_threshold_never_adds_a_row(rows: list[tuple[float, ...]], one: tuple, other: tuple) -> None:
    low, high = np.minimum(one, other).tolist(), np.maximum(one, other).tolist()
    names = ("negative", "neutral", "positive")
    loose = filter_labels(probabilities(rows), Thresholds.of(dict(zip(names, low, strict=True))))
    strict = filter_labels(probabilities(rows), Thresholds.of(dict(zip(names, high, strict=True))))
    assert not (strict.is_kept & ~loose.is_kept).any()
    assert np.array_equal(strict.classes, loose.classes)


@given(shares, limits)
@settings(max_examples=100, deadline=None)
def test_it_equals_a_loop_over_rows(rows: list[tuple[float, ...]], chosen: tuple) -> None:
    found = filter_labels(probabilities(rows), Thresholds(negative=chosen[0], neutral=chosen[1], positive=chosen[2]))
    for row, class_, is_kept in zip(probabilities(rows), found.classes, found.is_kept, strict=True):
        largest = max(row)
        assert class_ == list(row).index(largest)
        assert is_kept == (largest > np.float32(chosen[class_]))


@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan, math.inf, True, "0.5"])
def test_a_threshold_outside_0_to_1_is_refused_by_name(value: object) -> None:
    with pytest.raises(ConfigError, match="--neutral: expected a threshold from 0 to 1"):
        Thresholds(neutral=value)


def test_a_threshold_of_an_unknown_class_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=re.escape("thresholds: unknown class 'postive'; did you mean 'positive'?")):
        Thresholds.of({"postive": 0.5})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0.5, 0.5]], "expected (1, 3)"),
        ([[0.9, 0.9, 0.9]], "add up to 1"),
        ([[-0.5, 0.5, 1.0]], "add up to 1"),
        ([[math.nan, 0.5, 0.5]], "for row 0 (1 such rows)"),
    ],
)
def test_what_is_no_probability_is_refused(rows: list[list[float]], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        filter_labels(np.array(rows, dtype=np.float32), Thresholds())
