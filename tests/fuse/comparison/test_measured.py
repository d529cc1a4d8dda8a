"""Predictions on disk are believed when they are about these very pairs and labels, and not otherwise."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sentifuse.data.labels import read_labels
from sentifuse.data.splits import read_split
from sentifuse.fuse.comparison.measured import is_measured, measured_inputs, read_measured, take
from sentifuse.fuse.run import RunDirectory


@pytest.fixture
def given(compared: Any) -> tuple[RunDirectory, tuple[str, ...], dict[str, str]]:
    run = RunDirectory.open(compared.world.artifacts / "runs" / compared.document["runs"][0]["run"])
    test = read_split(compared.world.dataset_dir, seed=run.document["seed"], parts=("test",))["test"]
    return run, test, read_labels(compared.world.dataset_dir).by_id()


def test_the_same_pairs_and_labels_are_believed(given: Any) -> None:
    assert is_measured(*given)


def test_other_pairs_or_labels_are_not(given: Any) -> None:
    run, test, labels = given
    assert not is_measured(run, test[1:], labels)
    assert not is_measured(run, test, labels | {test[0]: "other"})


def test_answers_to_other_inputs_are_not(given: Any) -> None:
    inputs = measured_inputs(given[0])
    assert set(inputs) == {"tokens"}
    assert is_measured(*given, inputs)
    assert not is_measured(*given, {"tokens": "0" * 64})


@pytest.mark.parametrize(
    ("changes", "is_believed"),
    [
        ({}, True),
        ({"inputs": None}, True),
        ({"inputs": {"features": {"tokens": "x"}}}, False),
        ({"excluded": []}, False),
    ],
)
def test_a_file_without_inputs_is_believed_and_a_damaged_one_is_not(
    given: Any, tmp_path: Path, changes: dict[str, Any], is_believed: bool
) -> None:
    run, test, labels = given
    copy = RunDirectory(Path(shutil.copytree(run.path, tmp_path / "run")), run.document)
    metrics = json.loads((copy.path / "metrics-test.json").read_text("utf-8"))
    (copy.path / "metrics-test.json").write_text(json.dumps(metrics | changes), "utf-8")
    assert is_measured(copy, test, labels, measured_inputs(run)) is is_believed


def test_pairs_are_taken_in_the_order_asked_for(given: Any) -> None:
    predictions = read_measured("row", given[0]).predictions
    wanted = [*reversed(predictions.ids[:3]), "unknown"]
    taken = take(predictions, wanted)
    assert list(taken.ids) == wanted[:3]
    assert taken.labels.tolist() == predictions.labels[2::-1].tolist()
    assert (taken.probabilities == predictions.probabilities[2::-1]).all()
