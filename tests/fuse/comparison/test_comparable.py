"""Runs of two kinds never stand in one table, and the refusal says what differs."""

from dataclasses import replace
from typing import Any

import pytest

from sentifuse import ConfigError
from sentifuse.fuse.comparison.comparable import check_comparable
from sentifuse.fuse.run import RunDirectory


def runs_of(compared: Any) -> list[RunDirectory]:
    folder = compared.world.artifacts / "runs"
    return [RunDirectory.open(folder / one["run"]) for one in compared.document["runs"]]


def changed(run: RunDirectory, **changes: Any) -> RunDirectory:
    return replace(run, document={**run.document, **changes})


def test_runs_of_one_comparison_are_comparable(compared: Any) -> None:
    check_comparable(runs_of(compared))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": "other"}, "dataset: pairs"),
        ({"rule": "consistent"}, "label rule: given"),
        ({"target": "text_label"}, "target: label"),
        ({"protocol": "grouped"}, "protocol: random"),
        ({"classes": ["no", "yes"]}, "classes: negative, neutral, positive"),
        ({"split_digest": "abc"}, "id lists of seed 0"),
        ({"feature_sets": {"tokens": {"fingerprint": "f" * 64}}}, "tokens features: "),
    ],
)
def test_what_differs_is_named_with_both_values(compared: Any, changes: dict[str, Any], said: str) -> None:
    first, *others = runs_of(compared)
    with pytest.raises(ConfigError, match=said) as refused:
        check_comparable([*others, changed(first, **changes)])
    assert first.name in str(refused.value)
    assert str(refused.value).count("; ") == 0  # nothing else is said to differ


def with_inputs(run: RunDirectory, part: str, **changes: Any) -> RunDirectory:
    inputs = run.document["inputs"]
    return changed(run, inputs=inputs | {part: inputs[part] | changes})


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        ("train", {"labels": "f" * 64}, "found labels of the train part of seed 0: "),
        ("val", {"features": {"tokens": "f" * 64}}, "found what tokens features of the val part of seed 0 were made "),
    ],
)
def test_runs_that_learned_from_other_labels_or_inputs_are_refused(
    compared: Any, part: str, changes: dict[str, Any], said: str
) -> None:
    first, *others = runs_of(compared)
    with pytest.raises(ConfigError, match=said):
        check_comparable([*others, with_inputs(first, part, **changes)])
    check_comparable([*others, changed(first, inputs={})])


def test_no_runs_are_no_comparison() -> None:
    with pytest.raises(ConfigError, match="found none"):
        check_comparable([])
