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
METRICS_FILE = f"metrics-{PART}.json"
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


def is_measured(
    run: RunDirectory,
    test_ids: Sequence[str],
    labels: Mapping[str, str],
    inputs: Mapping[str, str] | None = None,
) -> bool:
    """Whether the run's predictions on disk are those of these test pairs with these labels (id → class).

    Parameters
    ----------
    inputs
        Encoder → `digest_rows` of the test part as it is now, for predictions that say theirs; None: not looked at.
    """
    if not all((run.path / name).is_file() for name in (METRICS_FILE, f"predictions-{PART}.parquet")):
        return False
    try:
        metrics = files.read_json(run.path / METRICS_FILE, hint=HINT)
        predictions = read_predictions(run, PART)
    except DataError:
        return False  # measured anew, which writes both again
    excluded = metrics.get("excluded", {})
    if metrics.get("split_digest") != digest_ids(test_ids) or not isinstance(excluded, dict):
        return False
    if inputs is not None and (measured_inputs(run) or inputs) != inputs:
        return False
    known = {*predictions.ids} | excluded.keys()
    said = [predictions.classes[i] for i in predictions.labels]
    return known == {*test_ids} and all(labels.get(i) == label for i, label in zip(predictions.ids, said, strict=True))


def measured_inputs(run: RunDirectory) -> dict[str, str]:
    """Encoder → digest of what its rows of the test part were made from when the run was measured.

    Empty where that is not known: it was not measured, or before this was recorded.
    """
    if not (run.path / METRICS_FILE).is_file():
        return {}
    try:
        inputs = files.read_json(run.path / METRICS_FILE, hint=HINT).get("inputs")
    except DataError:
        return {}
    features = inputs.get("features") if isinstance(inputs, dict) else None
    return features if isinstance(features, dict) else {}


def read_measured(row: str, run: RunDirectory) -> Measured:
    """What a run answered on the test part.

    Raises
    ------
    DataError
        It was not measured, or its files cannot be read.
    """
    metrics = files.read_json(run.path / METRICS_FILE, hint=f"{HINT} --run {run.name}")
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
