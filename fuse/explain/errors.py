"""The errors that a head was surest of, by the predictions that its run has recorded, and their explanations."""

from pathlib import Path

import numpy as np

from sentifuse import ConfigError
from sentifuse.data.source import SPLITS
from sentifuse.fuse.explain.explain import explain_pairs
from sentifuse.fuse.explain.explanation import PairExplanation
from sentifuse.fuse.run import Predictions, RunDirectory, read_predictions


def explain_errors(
    run: Path | RunDirectory,
    count: int,
    *,
    split: str = "test",
    artifacts: Path | None = None,
    device: str = "auto",
    reader: str = "mmap",
) -> list[PairExplanation]:
    """`explain_pairs` of the `count` most confident errors of a part; fewer, or none, where the head made fewer."""
    run = run if isinstance(run, RunDirectory) else RunDirectory.open(run)
    ids = confident_errors(run, split, count)
    if not ids:
        run.count_evaluation(split)  # that there are none is a look at the part, too
        return []
    return explain_pairs(run, ids, split=split, artifacts=artifacts, device=device, reader=reader)


def confident_errors(run: RunDirectory, split: str, count: int) -> tuple[str, ...]:
    """Ids of the errors with the highest probability of the wrong answer, by the predictions that the run has recorded.

    Raises
    ------
    ConfigError
        No such part, or a count below 1.
    DataError
        The part was not evaluated yet; the message has the command to type.
    """
    if split not in SPLITS:
        raise ConfigError.unknown("part of the split", split, SPLITS, where="--split")
    if count < 1:
        raise ConfigError(f"--errors: expected a number of pairs from 1 on, found {count}")
    return rank_errors(read_predictions(run, split))[:count]


def rank_errors(predictions: Predictions) -> tuple[str, ...]:
    """All errors, the most confident first; equal ones in the order of the table."""
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    confidence = predictions.probabilities.max(1)[wrong]
    return tuple(predictions.ids[i] for i in wrong[np.argsort(-confidence, kind="stable")])
