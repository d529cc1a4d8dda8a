"""A run whose test part a teacher has seen is refused, and no other."""

from collections.abc import Callable
from typing import Any

import pytest

from sentifuse import DataError
from sentifuse.fuse.train import TrainRequest, train

PARTS = {f"p{i}": ("val" if i % 10 == 8 else "test" if i % 10 == 9 else "train") for i in range(90)}
QUICK = {"crowd_linear": {"c": 0.01}, "text_only": {"epochs": 1}}


def start(make_world: Callable[..., Any], seen: list[str], head: str = "crowd_linear", **options: Any) -> None:
    world = make_world(given=PARTS, details={"crowd": {"gold_seen_ids": seen}}, **options)
    train(TrainRequest(artifacts=world.artifacts, dataset=world.name, head=head, overrides=QUICK[head]))


def test_a_teacher_that_saw_training_and_validation_pairs_is_welcome(make_world: Callable[..., Any]) -> None:
    start(make_world, [id_ for id_, part in PARTS.items() if part != "test"])


def test_one_that_saw_a_test_pair_is_refused_by_name(make_world: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match=r"features of crowd: .* found one that saw 2 of them \(p9, p19\)"):
        start(make_world, ["p0", "p9", "p19"])


def test_a_head_that_does_not_read_these_features_may_train(make_world: Callable[..., Any]) -> None:
    start(make_world, ["p9"], head="text_only")


def test_pairs_that_take_no_part_may_have_been_seen(make_world: Callable[..., Any]) -> None:
    labels = {f"p{i}": ("negative", "neutral", "positive")[i % 3] for i in range(90) if i != 9}
    start(make_world, ["p9"], labels=labels)
