"""Two classes of three: hand-computed decisions and scores."""

import numpy as np
import pytest

from sentifuse import DataError
from sentifuse.crowd.benchmarks.binary import accuracy_of, binary_shares, decide, score_binary

# p_negative, p_neutral, p_positive
ANSWERS = np.array(
    [
        [0.6, 0.1, 0.3],  # negative
        [0.1, 0.8, 0.1],  # tie: negative
        [0.2, 0.5, 0.3],  # positive, though neutral is the largest
        [0.0, 0.0, 1.0],  # positive
        [0.0, 1.0, 0.0],  # nothing but neutral: a tie
        [0.7, 0.0, 0.3],  # negative
    ],
    dtype=np.float32,
)
LABELS = np.array([False, True, True, True, False, True])


def test_neutral_is_dropped_and_ties_go_to_negative() -> None:
    assert decide(ANSWERS).tolist() == [False, False, True, True, False, False]


def test_neighbouring_floats_are_no_tie() -> None:
    above = np.nextafter(np.float32(0.3), np.float32(1))
    answers = np.array([[0.3, 0.4, above], [above, 0.4, 0.3]], dtype=np.float32)
    assert decide(answers).tolist() == [True, False]
    assert (binary_shares(answers).argmax(1) == [1, 0]).all()


def test_shares_are_of_the_two_alone() -> None:
    expected = [[2 / 3, 1 / 3], [0.5, 0.5], [0.4, 0.6], [0, 1], [0.5, 0.5], [0.7, 0.3]]
    np.testing.assert_allclose(binary_shares(ANSWERS), expected, atol=1e-7)


def test_scores_equal_those_by_hand() -> None:
    found = score_binary(LABELS, ANSWERS)
    assert found["n"] == 6
    assert found["n_positive"] == 4
    assert found["accuracy"] == accuracy_of(LABELS, ANSWERS) == pytest.approx(4 / 6)
    assert found["majority"] == {"class": "positive", "share": pytest.approx(4 / 6)}
    assert found["recall"] == {"negative": 1.0, "positive": 0.5}
    # negative: precision 2/4, recall 1; positive: precision 1, recall 1/2; both F1 2/3.
    assert found["f1_macro"] == pytest.approx(2 / 3)
    # Of the 8 pairs of a positive and a negative image, how many are in order:
    negatives, positives = [1 / 3, 0.5], [0.5, 0.6, 1.0, 0.3]
    pairs = [1.0 if p > n + 1e-6 else 0.5 if abs(p - n) < 1e-6 else 0.0 for p in positives for n in negatives]
    assert found["auroc"] == pytest.approx(sum(pairs) / 8)
    # Neutral alone is largest in rows 2, 3 and 5.
    assert found["neutral_share"] == pytest.approx(3 / 6)
    # Confidences .5 (twice), .6, 2/3, .7, 1 with 1 of 2, 1, 1, 0, 1 right, each in a bin of its own.
    gaps = [2 * 0.0, 0.4, 1 / 3, 0.7, 0.0]
    assert found["ece"] == pytest.approx(sum(gaps) / 6, abs=1e-6)


def test_a_class_without_images_has_no_recall_and_no_auroc() -> None:
    found = score_binary(np.array([True, True]), ANSWERS[2:4])
    assert found["recall"] == {"negative": None, "positive": 1.0}
    assert found["auroc"] is None


def test_an_even_split_has_half_as_its_majority() -> None:
    assert score_binary(np.array([True, False]), ANSWERS[:2])["majority"]["share"] == 0.5


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(DataError, match="no image"):
        score_binary(np.zeros(0, dtype=bool), np.zeros((0, 3), dtype=np.float32))


def test_two_columns_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(N, 3\)"):
        decide(np.zeros((2, 2), dtype=np.float32))


def test_of_equal_maxima_the_first_tells_whether_an_image_is_neutral() -> None:
    """As the filter does: positive comes behind neutral, negative before it."""
    ties = np.array([[0.2, 0.4, 0.4], [0.4, 0.4, 0.2], [0.1, 0.5, 0.4], [0.1, 0.3, 0.6]], dtype=np.float32)
    shares = [score_binary(LABELS[:1], ties[i : i + 1])["neutral_share"] for i in range(4)]
    assert shares == [1.0, 0.0, 1.0, 0.0]
