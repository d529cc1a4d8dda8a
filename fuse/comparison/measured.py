"""A run with what it answered on the test part, read back from its own files.

Predictions written earlier are used again when they are about the very pairs of the split as it is now: a copied run
needs no features, and the same comparison again opens no test part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sentifuse import DataError
from sentifuse.data import files
from sentifuse.fuse.features.samples import digest_ids
from sentifuse.fuse.run import Predictions, RunDirectory, read_predictions

PART = "test"
HINT = "Run: sentifuse evaluate --split test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of a row."""

    row: str
    run: RunDirectory
    predictions: Predictions
    metrics: Mapping[str, Any]

    @property
    def seed(self) -> int:
        return int(self.run.document["seed"])

    @property
    def fold(self) -> int:
        return int(self.run.document.get("fold", 0))

    @property
    def place(self) -> tuple[int, int]:
        """(seed, fold): runs of two rows at one place were trained and tested on the same pairs."""
        return self.seed, self.fold


def is_measured(run: RunDirectory, test_ids: Sequence[str], labels: Mapping[str, str]) -> bool:
    """Whether the run's predictions on disk are those of these test pairs with these labels (id → class)."""
    if not all((run.path / name).is_file() for name in (f"metrics-{PART}.json", f"predictions-{PART}.parquet")):
        return False
    try:
        metrics = files.read_json(run.path / f"metrics-{PART}.json", hint=HINT)
        predictions = read_predictions(run, PART)
    except DataError:
        return False  # measured anew, which writes both again
    if metrics.get("split_digest") != digest_ids(test_ids):
        return False
    known = {*predictions.ids} | metrics.get("excluded", {}).keys()
    said = [predictions.classes[i] for i in predictions.labels]
    return known == {*test_ids} and all(labels.get(i) == label for i, label in zip(predictions.ids, said, strict=True))


def read_measured(row: str, run: RunDirectory) -> Measured:
    """What a run answered on the test part.

    Raises
    ------
    DataError
        It was not measured, or its files cannot be read.
    """
    metrics = files.read_json(run.path / f"metrics-{PART}.json", hint=f"{HINT} --run {run.name}")
    return Measured(row=row, run=run, predictions=read_predictions(run, PART), metrics=metrics)


def take(predictions: Predictions, ids: Sequence[str]) -> Predictions:
    """The predictions of these pairs, in the order of `ids`; pairs without one are passed over."""
    row_of = {id_: row for row, id_ in enumerate(predictions.ids)}
    kept = [id_ for id_ in ids if id_ in row_of]
    rows = np.array([row_of[id_] for id_ in kept], dtype=np.int64)
    return Predictions(
        ids=tuple(kept),
        labels=predictions.labels[rows],
        probabilities=predictions.probabilities[rows],
        classes=predictions.classes,
    )
