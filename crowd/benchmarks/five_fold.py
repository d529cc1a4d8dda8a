"""The five-fold protocol of the small benchmarks: fine-tune on four fifths, answer the fifth, five times.

StratifiedKFold(5, shuffle, seed 42) on the class, over every row of the list: an image that cannot be read keeps its
place, so that folds are those of the paper. Neutral is masked in training, a softmax of two; the last epoch counts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedKFold

from sentifuse import DataError
from sentifuse.crowd.benchmarks.answers import Answers
from sentifuse.crowd.benchmarks.binary import score_binary
from sentifuse.crowd.benchmarks.tasks import Task, Trainer, polar_classes, spread_of

__all__ = ["FOLDS", "FOLD_SEED", "FiveFold", "run_five_fold", "split_folds"]

FOLDS = 5
FOLD_SEED = 42

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FiveFold:
    """Outcome of the protocol on one benchmark.

    Attributes
    ----------
    fold_of
        int64 (N,) the fold, from 1, that an image was in the test part of.
    answers
        Of all N images, each by the model that did not learn from it.
    folds
        One dict per fold: fold, n_train, left_out, best, and everything of `score_binary`.
    """

    fold_of: IntArray
    answers: Answers
    folds: tuple[Mapping[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Mean and population standard deviation over the folds, and the folds."""
        spreads = {key: spread_of([fold[key] for fold in self.folds]) for key in ("accuracy", "f1_macro")}
        return spreads | {"folds": [dict(fold) for fold in self.folds]}


def split_folds(is_positive: BoolArray, *, where: str = "five folds") -> list[tuple[IntArray, IntArray]]:
    """(training rows, test rows) of each fold.

    Raises
    ------
    DataError
        A class with fewer images than folds.
    """
    counts = {"negative": int((~is_positive).sum()), "positive": int(is_positive.sum())}
    few = [f"{name} {n}" for name, n in counts.items() if n < FOLDS]
    if few:
        raise DataError(
            f"{where}: expected at least {FOLDS} images of each class, found {', '.join(few)}. Leave --five-fold out"
        )
    made = StratifiedKFold(FOLDS, shuffle=True, random_state=FOLD_SEED)
    return [
        (train.astype(np.int64), test.astype(np.int64))
        for train, test in made.split(np.zeros(len(is_positive)), is_positive)
    ]


def run_five_fold(
    name: str,
    images: Sequence[Path],
    is_positive: BoolArray,
    trainer: Trainer,
    *,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> FiveFold:
    """Fine-tune and answer, fold by fold.

    Parameters
    ----------
    trainer
        How a fold is trained; every call begins with the same model anew.
    seed
        Of the training; the folds have their own.
    progress
        Called with 1 after each fold.

    Raises
    ------
    DataError
        Too few images of a class.
    TrainingError
        A fold without a usable image of a class.
    """
    fold_of = np.zeros(len(images), dtype=np.int64)
    probabilities = np.full((len(images), 3), np.nan, dtype=np.float32)
    statuses, details, digests = ([""] * len(images) for _ in range(3))
    folds = []
    for fold, (train, test) in enumerate(split_folds(is_positive, where=name), start=1):
        task = Task(
            name=f"{name}-fold-{fold}",
            preset="five_fold",
            images=images,
            classes=polar_classes(is_positive),
            train_rows=train,
            val_rows=train[:0],
            test_rows=test,
            seed=seed,
        )
        made = trainer(task)
        fold_of[test] = fold
        probabilities[test] = made.answers.probabilities
        for i, row in enumerate(test.tolist()):
            statuses[row], details[row] = made.answers.statuses[i], made.answers.details[i]
            digests[row] = made.answers.digests[i]
        is_ok = made.answers.is_ok
        scores = score_binary(is_positive[test][is_ok], made.answers.probabilities[is_ok])
        found = {"fold": fold, "n_train": made.n_train, "left_out": dict(made.left_out), "best": dict(made.best)}
        folds.append(found | scores)
        if progress is not None:
            progress(1)
    answers = Answers(
        probabilities=probabilities, statuses=tuple(statuses), details=tuple(details), digests=tuple(digests)
    )
    return FiveFold(fold_of=fold_of, answers=answers, folds=tuple(folds))
