"""The protocol of Flickr & Instagram: five published splits, each with parts to learn from, to choose by, to answer.

The weights are those of the best validation accuracy by the binary rule; the test part is looked at once, by them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse import DataError
from sentifuse.crowd.benchmarks.answers import Answers
from sentifuse.crowd.benchmarks.binary import score_binary
from sentifuse.crowd.benchmarks.tasks import Task, Trainer, polar_classes, spread_of
from sentifuse.data.benchmarks import FI_SPLITS
from sentifuse.data.source import SPLITS as PARTS

__all__ = ["FI_SPLITS", "PARTS", "FiPart", "FiSplit", "join_parts", "run_split", "summarise_splits"]

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FiPart:
    """One list of a split."""

    images: Sequence[Path]
    paths: Sequence[str]  # as in the list
    is_positive: BoolArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FiSplit:
    """Outcome of one split: answers to its test part, and `document` with n_train, left_out, best and the scores."""

    answers: Answers
    document: Mapping[str, Any]


def join_parts(split: int, parts: Mapping[str, FiPart], *, seed: int = 0) -> Task:
    """The task of a split.

    Parameters
    ----------
    parts
        "train", "val" and "test".

    Raises
    ------
    DataError
        An image in two parts: what was learned from would be answered.
    """
    part_of: dict[str, str] = {}
    for name in PARTS:
        for path in parts[name].paths:
            if part_of.setdefault(path, name) != name:
                raise DataError(
                    f"FI split {split}: {path} is in the parts {part_of[path]} and {name}, expected in one. "
                    "Copy the lists of this split again"
                )
    sizes = [len(parts[name].images) for name in PARTS]
    starts = np.cumsum([0, *sizes])
    rows = {name: np.arange(starts[i], starts[i + 1], dtype=np.int64) for i, name in enumerate(PARTS)}
    return Task(
        name=f"FI-split-{split}",
        preset="fi_splits",
        images=tuple(image for name in PARTS for image in parts[name].images),
        classes=polar_classes(np.concatenate([parts[name].is_positive for name in PARTS])),
        train_rows=rows["train"],
        val_rows=rows["val"],
        test_rows=rows["test"],
        seed=seed,
    )


def run_split(
    split: int,
    parts: Mapping[str, FiPart],
    trainer: Trainer,
    *,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> FiSplit:
    """Fine-tune on one split and answer its test part; `progress` hears 1 at the end.

    Raises
    ------
    DataError
        An image in two parts, or no test image that can be read.
    TrainingError
        A class without a usable training image; no usable validation image.
    """
    made = trainer(join_parts(split, parts, seed=seed))
    is_ok = made.answers.is_ok
    scores = score_binary(parts["test"].is_positive[is_ok], made.answers.probabilities[is_ok])
    found = {"split": split, "n_train": made.n_train, "left_out": dict(made.left_out), "best": dict(made.best)}
    if progress is not None:
        progress(1)
    return FiSplit(answers=made.answers, document=found | scores)


def summarise_splits(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and population standard deviation over all splits that were run, and the splits."""
    spreads = {key: spread_of([document[key] for document in documents]) for key in ("accuracy", "f1_macro")}
    return spreads | {"splits": [dict(document) for document in documents]}
