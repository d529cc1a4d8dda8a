"""A fine-tuning that a benchmark's protocol asks for: which images to learn from, to choose by and to answer.

Holds values. How it is trained is in `trainers`; which rows it gets, in `five_fold` and `fi_splits`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sentifuse.crowd.benchmarks.answers import Answers
from sentifuse.crowd.benchmarks.binary import NEGATIVE, POSITIVE

__all__ = ["MEANWHILE", "Task", "Trained", "Trainer", "polar_classes", "spread_of"]

MEANWHILE = ".training-"  # begins the name of a trainer's folder, which a process that was killed leaves behind

# Shapes: N images of a task.
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """One fine-tuning.

    Attributes
    ----------
    preset
        Of `finetune.recipe`: what the protocol's authors used.
    classes
        int64 (N,): 0 negative, 2 positive.
    train_rows, val_rows, test_rows
        Positions, none in two parts. `val_rows` may be empty where nothing is chosen.
    """

    name: str
    preset: Literal["five_fold", "fi_splits"]
    images: Sequence[Path]
    classes: IntArray
    train_rows: IntArray
    val_rows: IntArray
    test_rows: IntArray
    seed: int = 0

    def __post_init__(self) -> None:
        rows = np.concatenate([self.train_rows, self.val_rows, self.test_rows])
        if len(np.unique(rows)) != len(rows):
            raise ValueError(f"{self.name}: expected rows in one part each, found some in two")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """What came of a task.

    Attributes
    ----------
    answers
        Of the test rows, in their order.
    n_train
        Images that were learned from.
    left_out
        Images of the training and validation parts that could not be used: path → reason.
    best
        What is known of the weights that were kept: epoch, val_accuracy …
    """

    answers: Answers
    n_train: int
    left_out: Mapping[str, str] = field(default_factory=dict)
    best: Mapping[str, Any] = field(default_factory=dict)


Trainer = Callable[[Task], Trained]


def polar_classes(is_positive: npt.NDArray[np.bool_]) -> IntArray:
    """Classes among three of labels with two.

    >>> polar_classes(np.array([True, False])).tolist()
    [2, 0]
    """
    return np.where(is_positive, POSITIVE, NEGATIVE).astype(np.int64)


def spread_of(values: Sequence[float]) -> dict[str, Any]:
    """Mean and population standard deviation (divided by n, as the paper does) of one number per fold.

    >>> spread_of([0.5, 0.7])
    {'mean': 0.6, 'sd': 0.1, 'n': 2}
    """
    array = np.asarray(values, dtype=np.float64)
    return {"mean": round(float(array.mean()), 12), "sd": round(float(array.std(ddof=0)), 12), "n": len(array)}
