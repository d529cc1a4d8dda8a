"""Temperature scaling finds the number that made logits too sure, and changes no prediction."""

import numpy as np
import pytest

from sentifuse.crowd.students.temperature import HIGHEST, LOWEST, fit_temperature
from sentifuse.fuse.infer import softmax


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_it_recovers_the_temperature_that_labels_were_drawn_with(true: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)) * 2
    labels = np.array([rng.choice(3, p=row) for row in softmax(logits)])
    assert fit_temperature((logits * true).astype(np.float32), labels) == pytest.approx(true, rel=0.08)


def test_it_stays_within_its_bounds() -> None:
    sure = np.eye(3, dtype=np.float32) * 0.5
    assert fit_temperature(sure, np.arange(3)) == pytest.approx(LOWEST, rel=0.1)
    assert fit_temperature(sure, np.array([1, 2, 0])) == pytest.approx(HIGHEST, rel=0.1)
