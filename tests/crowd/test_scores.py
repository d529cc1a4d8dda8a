"""Laws of the scores: ties go to the first class, macro-F1 and loss are those of a hand."""

import numpy as np
import pytest

from sentifuse.crowd.scores import is_better, score


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


FIRST = {"val_accuracy": 0.75, "val_macro_f1": 0.5, "val_loss": 1.0}


@pytest.mark.parametrize(
    ("select", "changes", "expected"),
    [
        ("accuracy", {"val_loss": 0.5}, False),  # as the original: the first best stays
        ("accuracy", {"val_accuracy": 0.8, "val_loss": 9.0}, True),
        ("macro_f1", {"val_loss": 0.5}, True),
        ("macro_f1", {}, False),
        ("macro_f1", {"val_macro_f1": 0.4, "val_loss": 0.1}, False),
        ("loss", {"val_macro_f1": 0.6}, True),
        ("loss", {"val_loss": 1.1, "val_macro_f1": 0.9}, False),
        ("last", {"val_accuracy": 0.0, "val_macro_f1": 0.0, "val_loss": 9.0}, True),
    ],
)
def test_which_of_two_is_better_hangs_on_the_setting(select: str, changes: dict[str, float], expected: bool) -> None:
    assert is_better(FIRST | changes, FIRST, select) is expected
    assert is_better(FIRST | changes, {}, select)
