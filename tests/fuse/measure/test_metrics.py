"""Metrics against numbers worked out by hand, on classes of unequal size."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from sentifuse.fuse.measure.metrics import auroc, score

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


def test_classes_that_do_not_occur_are_named() -> None:
    assert score(LABELS, PREDICTED, CLASSES)["absent"] == {"labels": [], "predictions": ["neutral"]}
    found = score(np.array([0, 0]), np.array([2, 2]), CLASSES)
    assert found["absent"] == {"labels": ["neutral", "positive"], "predictions": ["negative", "neutral"]}
    assert found["balanced_accuracy"] == found["accuracy"] == 0.0


#                          negative: 4 pairs            neutral: 1   positive: 3
SCORED = np.array([0, 0, 0, 0, 1, 2, 2, 2])
PROBABILITIES = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.5, 0.2, 0.3],
        [0.4, 0.0, 0.6],
        [0.2, 0.3, 0.5],
        [0.3, 0.3, 0.4],
        [0.2, 0.1, 0.7],
        [0.4, 0.2, 0.4],
        [0.0, 0.1, 0.9],
    ]
)


def test_areas_under_the_curve_by_counting_pairs() -> None:
    # negative: 4 x 4 comparisons: 0.8 and 0.5 win all, 0.4 wins 3 and ties 1, 0.2 wins 1 and ties 1 -> 13 of 16
    # neutral: 0.3 against 0.1 0.2 0.0 0.3 0.1 0.2 0.1: 6.5 of 7
    # positive: 0.7 beats 5, 0.9 beats 5, 0.4 beats 0.1 and 0.3, ties 0.4: 2.5 -> 12.5 of 15
    found = score(SCORED, PROBABILITIES.argmax(1), CLASSES, PROBABILITIES)
    assert found["auroc_per_class"] == pytest.approx({"negative": 13 / 16, "neutral": 6.5 / 7, "positive": 12.5 / 15})
    assert found["auroc"] == pytest.approx((13 / 16 + 6.5 / 7 + 12.5 / 15) / 3)
    assert found["auroc_reason"] == ""
    assert found["auroc"] == pytest.approx(roc_auc_score(SCORED, PROBABILITIES, multi_class="ovr", average="macro"))


def test_a_class_without_pairs_has_no_area_and_no_mean_has() -> None:
    found = auroc(np.array([0, 0, 2]), PROBABILITIES[:3], CLASSES)
    assert found["auroc"] is None
    assert found["auroc_per_class"]["neutral"] is None
    assert found["auroc_per_class"]["negative"] == 1.0
    assert found["auroc_reason"] == "no pair is labelled neutral"
    alone = auroc(np.array([2, 2, 2]), PROBABILITIES[:3], CLASSES)
    assert set(alone["auroc_per_class"].values()) == {None}
    assert alone["auroc_reason"] == "no pair is labelled negative, neutral"


def test_two_classes_have_one_area() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
    found = auroc(np.array([0, 0, 1, 1]), probabilities, ("no", "yes"))
    assert found["auroc"] == found["auroc_per_class"]["yes"] == found["auroc_per_class"]["no"] == 0.75


def test_averages_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(7, size=500, p=[0.4, 0.2, 0.15, 0.1, 0.08, 0.05, 0.02])
    predicted = np.where(rng.random(500) < 0.6, labels, rng.integers(0, 7, 500))
    found = score(labels, predicted, tuple("abcdefg"))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (PROBABILITIES[:, :2], r"\(8, 2\): expected \(8, 3\)"),
        (PROBABILITIES * 2, "rows that add up to 1, found sums from 2.0"),
        (np.where(PROBABILITIES == 0.8, np.nan, PROBABILITIES), "finite numbers"),
        (PROBABILITIES + np.array([-0.9, 0.0, 0.9]), "a smallest of -0.9"),
    ],
    ids=["shape", "sums", "nan", "negative"],
)
def test_what_are_no_probabilities_is_refused(probabilities: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(SCORED, PROBABILITIES.argmax(1), CLASSES, probabilities)
