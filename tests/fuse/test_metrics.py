"""Metrics against numbers worked out by hand, on classes of unequal size."""

import numpy as np
import pytest

from sentifuse.fuse.metrics import score

CLASSES = ("negative", "neutral", "positive")
#            true: negative 4, neutral 1, positive 5
LABELS = np.array([0, 0, 0, 0, 1, 2, 2, 2, 2, 2])
PREDICTED = np.array([0, 0, 2, 2, 2, 2, 2, 2, 2, 0])


def test_every_number_by_hand() -> None:
    found = score(LABELS, PREDICTED, CLASSES)
    # negative: 2 of 3 predicted, 2 of 4 true; neutral: never predicted; positive: 4 of 7 predicted, 4 of 5 true
    f1 = {"negative": 4 / 7, "neutral": 0.0, "positive": 8 / 12}
    assert found["n"] == 10
    assert found["accuracy"] == pytest.approx(0.6)
    assert found["f1_macro"] == pytest.approx(sum(f1.values()) / 3)
    assert found["f1_weighted"] == pytest.approx((4 * f1["negative"] + 5 * f1["positive"]) / 10)
    assert found["balanced_accuracy"] == pytest.approx((0.5 + 0.0 + 0.8) / 3)
    assert found["per_class"]["negative"] == pytest.approx(
        {"precision": 2 / 3, "recall": 0.5, "f1": 4 / 7, "support": 4}
    )
    assert found["per_class"]["neutral"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert found["per_class"]["positive"] == pytest.approx(
        {"precision": 4 / 7, "recall": 0.8, "f1": 2 / 3, "support": 5}
    )


def test_confusion_has_true_rows_and_predicted_columns() -> None:
    assert score(LABELS, PREDICTED, CLASSES)["confusion"] == [[2, 0, 2], [0, 0, 1], [1, 0, 4]]


def test_a_class_nobody_saw_or_said_changes_no_average() -> None:
    labels, predicted = np.array([0, 0, 2, 2]), np.array([0, 2, 2, 2])
    three, two = score(labels, predicted, CLASSES), score(labels // 2, predicted // 2, ("negative", "positive"))
    for name in ("accuracy", "f1_weighted", "f1_macro", "balanced_accuracy"):
        assert three[name] == pytest.approx(two[name])


def test_two_and_seven_classes() -> None:
    assert score(np.array([0, 1]), np.array([0, 1]), ("no", "yes"))["accuracy"] == 1.0
    seven = tuple("abcdefg")
    found = score(np.arange(7), np.arange(7)[::-1].copy(), seven)
    assert found["accuracy"] == pytest.approx(1 / 7)
    assert list(found["per_class"]) == list(seven)


def test_unequal_or_empty_inputs_are_refused() -> None:
    for labels, predicted in ((np.zeros(2, int), np.zeros(3, int)), (np.zeros(0, int), np.zeros(0, int))):
        with pytest.raises(ValueError, match="expected equal length of at least 1"):
            score(labels, predicted, CLASSES)
