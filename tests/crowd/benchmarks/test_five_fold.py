"""Five folds: membership, no image answered by a model that learned from it, the spread."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from sentifuse import DataError
from sentifuse.crowd.benchmarks.answers import Answers
from sentifuse.crowd.benchmarks.five_fold import run_five_fold, split_folds
from sentifuse.crowd.benchmarks.tasks import Task, Trained, spread_of

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("codes", [(0, 1), (0, 2)])
@pytest.mark.parametrize("n", [12, 53, 200])
def test_membership_equals_scikit_learns_in_both_codings(n: int, codes: tuple[int, int]) -> None:
    is_positive = RNG.permutation(np.arange(n) % 12 < 7)  # 7 of 12, so that both classes have five
    classes = np.where(is_positive, codes[1], codes[0])
    expected = StratifiedKFold(n_splits=5, shuffle=True, random_state=42).split(np.zeros((n, 1)), classes)
    for (train, test), (expected_train, expected_test) in zip(split_folds(is_positive), expected, strict=True):
        assert train.tolist() == expected_train.tolist()
        assert test.tolist() == expected_test.tolist()


def test_membership_of_twelve_images_stays_as_it_was() -> None:
    folds = split_folds(np.array([True] * 7 + [False] * 5))
    assert sorted(row for _, test in folds for row in test.tolist()) == list(range(12))
    assert all(not set(train.tolist()) & set(test.tolist()) for train, test in folds)


def test_too_few_images_of_a_class_are_refused() -> None:
    with pytest.raises(DataError, match=r"5agree: expected at least 5 images of each class, found negative 4"):
        split_folds(np.array([True] * 8 + [False] * 4), where="5agree")


def test_spread_is_that_of_a_population() -> None:
    found = spread_of([0.8, 0.9, 0.7, 0.8, 0.8])
    assert found["mean"] == pytest.approx(0.8)
    assert found["sd"] == pytest.approx(np.sqrt(0.02 / 5))


def test_every_image_is_answered_once_by_a_fold_that_did_not_learn_from_it() -> None:
    is_positive = RNG.permutation(np.arange(30) % 3 > 0)
    tasks: list[Task] = []

    def trainer(task: Task) -> Trained:
        """Says positive everywhere, and loses the first image of each fold."""
        tasks.append(task)
        n = len(task.test_rows)
        answers = np.tile(np.array([0.1, 0.2, 0.7], dtype=np.float32), (n, 1))
        answers[0] = np.nan
        statuses = ("missing",) + ("ok",) * (n - 1)
        done = Answers(probabilities=answers, statuses=statuses, details=("",) * n, digests=("",) * n)
        return Trained(answers=done, n_train=len(task.train_rows))

    images = [Path(f"{i}.jpg") for i in range(30)]
    found = run_five_fold("5agree", images, is_positive, trainer, seed=3)
    expected = []
    for task, fold in zip(tasks, found.folds, strict=True):
        assert set(task.classes.tolist()) == {0, 2}
        assert (task.preset, task.seed, len(task.val_rows)) == ("five_fold", 3, 0)
        assert not set(task.train_rows.tolist()) & set(task.test_rows.tolist())
        expected.append(is_positive[task.test_rows[1:]].mean())
        assert fold["accuracy"] == pytest.approx(expected[-1])
        assert (found.fold_of[task.test_rows] == fold["fold"]).all()
    document = found.to_json()
    assert document["accuracy"]["mean"] == pytest.approx(np.mean(expected))
    assert document["accuracy"]["sd"] == pytest.approx(np.std(expected))
    assert found.answers.statuses.count("missing") == 5
    assert np.isnan(found.answers.probabilities).all(1).sum() == 5
