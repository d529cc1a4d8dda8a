"""Laws of the scores: ties go to the first class, macro-F1 and loss are those of a hand."""

import numpy as np
import pytest

from sentifuse.crowd.scores import score


def test_ties_go_to_the_first_class() -> None:
    logits = np.array([[1, 1, 1], [0, 2, 2], [3, 0, 3]], dtype=np.float32)
    assert score(logits, np.array([0, 1, 0]))["val_accuracy"] == 1.0
    assert score(logits, np.array([0, 2, 0]), without_neutral=True)["val_accuracy"] == 1.0


def test_scores_by_hand() -> None:
    logits = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]] * 100
    found = score(logits, np.array([0, 1, 1, 2]))
    assert found["val_accuracy"] == 0.75
    assert found["val_macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert found["val_loss"] == pytest.approx(25.0)
