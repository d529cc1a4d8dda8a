"""The most confident errors are those of the recorded predictions, in the order of their probability."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse import ConfigError, DataError
from sentifuse.fuse.explain.errors import confident_errors, explain_errors, rank_errors
from sentifuse.fuse.run import Predictions, RunDirectory, read_predictions
from sentifuse.fuse.train import TrainRequest, train

RunOf = Callable[..., RunDirectory]


def test_errors_are_ranked_by_the_probability_of_the_wrong_answer() -> None:
    probabilities = np.array([[0.6, 0.4], [0.1, 0.9], [0.4, 0.6], [0.2, 0.8], [0.4, 0.6]])
    predictions = Predictions(
        ids=("a", "b", "c", "d", "e"), labels=np.array([1, 1, 0, 0, 0]), probabilities=probabilities, classes=("x", "y")
    )
    assert rank_errors(predictions) == ("d", "a", "c", "e")  # b is right; equal ones as in the table


def test_explained_errors_are_wrong_and_as_recorded(run_of: RunOf) -> None:
    run = run_of("logreg")
    found = explain_errors(run, 3, split="test")
    recorded = read_predictions(run, "test")
    by_id = dict(zip(recorded.ids, recorded.probabilities.max(1), strict=True))
    assert 0 < len(found) <= 3
    assert all(one.label != one.predicted and one.part == "test" for one in found)
    assert [one.confidence for one in found] == pytest.approx([by_id[one.id] for one in found])
    assert tuple(one.id for one in found) == rank_errors(recorded)[:3]


def test_no_error_is_no_pair_but_a_look(run_of: RunOf) -> None:
    run = run_of("rnn_ca_embedding")
    recorded = read_predictions(run, "val")
    right = np.eye(3)[recorded.labels]
    kept = (run.path / "predictions-val.parquet").read_bytes()
    Predictions(ids=recorded.ids, labels=recorded.labels, probabilities=right, classes=recorded.classes).write(
        run.path, "val"
    )
    before = RunDirectory.open(run.path).document["evaluations"].get("val", 0)
    assert explain_errors(run, 5, split="val") == []
    assert RunDirectory.open(run.path).document["evaluations"]["val"] == before + 1
    (run.path / "predictions-val.parquet").write_bytes(kept)


def test_a_part_that_was_not_evaluated_has_the_command_to_type(seen: Any, tmp_path: Path) -> None:
    run = train(TrainRequest(artifacts=seen.artifacts, dataset=seen.name, head="logreg"))
    with pytest.raises(DataError, match=rf"sentifuse evaluate --run {run.name} --split test"):
        explain_errors(run, 3)


@pytest.mark.parametrize(("split", "count"), [("tset", 3), ("test", 0), ("test", -1)])
def test_an_unknown_part_or_no_count_is_refused(run_of: RunOf, split: str, count: int) -> None:
    with pytest.raises(ConfigError, match=r"--split|--errors"):
        confident_errors(run_of("logreg"), split, count)
