"""Which pairs are explained, that looking is counted once, and what is said where nothing can be explained."""

import json
import shutil
from dataclasses import replace

import numpy as np

from sentifuse.fuse.report.attention import DOUBTFUL, ERRORS, RIGHT, choose, explain_some
from sentifuse.fuse.report.recorded import read_recorded
from sentifuse.fuse.run import Predictions, RunDirectory


def predictions(probabilities: list[float], labels: list[int]) -> Predictions:
    first = np.array(probabilities)
    ids = tuple("abcdef"[: len(labels)])
    return Predictions(
        ids=ids, labels=np.array(labels), probabilities=np.stack([first, 1 - first], 1), classes=("x", "y")
    )


def test_two_sure_errors_a_sure_right_answer_and_the_least_certain_are_chosen() -> None:
    found = choose(predictions([0.9, 0.2, 0.51, 0.7, 0.95, 0.8], [1, 1, 0, 1, 0, 1]))
    assert found == {"a": ERRORS, "f": ERRORS, "e": RIGHT, "c": DOUBTFUL}


def test_a_pair_is_chosen_once_and_a_part_without_errors_has_none() -> None:
    assert choose(predictions([0.9], [0])) == {"a": RIGHT}
    assert choose(predictions([0.9], [1])) == {"a": ERRORS}


def test_each_figure_has_the_pair_in_words_and_one_look_is_counted(own_run: RunDirectory) -> None:
    recorded = read_recorded(own_run, "test")
    before = recorded.run.document["evaluations"]["test"]
    found = explain_some(recorded, device="cpu")
    assert found.problem == ""
    assert found.is_counted
    assert len(found.pictures) == len(choose(recorded.predictions))
    first = next(iter(choose(recorded.predictions)))
    assert found.pictures[0].caption == f"Pair {first}: {ERRORS}."
    assert f"Pair {first}, labelled" in found.pictures[0].alt
    document = json.loads((own_run.path / "run.json").read_text(encoding="utf-8"))
    assert document["evaluations"]["test"] == before + 1


def test_without_features_the_reason_is_given(own_run: RunDirectory) -> None:
    shutil.rmtree(own_run.artifacts / "cache")
    found = explain_some(read_recorded(own_run, "test"), device="cpu")
    assert found.pictures == ()
    assert not found.is_counted
    assert "sentifuse extract" in found.problem


def test_a_head_whose_weights_are_torn_is_reported_without_figures(own_run: RunDirectory) -> None:
    (own_run.path / "model.safetensors").write_bytes(b"torn")
    found = explain_some(read_recorded(own_run, "test"), device="cpu")
    assert "not a readable safetensors file" in found.problem


def test_a_device_that_is_not_there_is_a_reason_too(own_run: RunDirectory) -> None:
    found = explain_some(replace(read_recorded(own_run, "test")), device="cuda:99")
    assert "--device cuda:99" in found.problem
