"""Validation stays apart from training, and a split by image is refused where tweets have several."""

from collections.abc import Callable
from typing import Any

import pytest

from sentifuse import ConfigError
from sentifuse.crowd.students.apart import SHARED, find_shared, refuse_divided_tweets
from sentifuse.crowd.students.material import MaterialRequest
from sentifuse.crowd.students.train import StudentRequest, train_student


def test_pairs_of_the_components_of_training_are_found_and_no_others() -> None:
    components = {"a": "x", "b": "x", "c": "y", "d": "z"}
    assert find_shared(("a",), ("b", "c"), components) == {"b": SHARED}
    assert find_shared((), ("b", "c"), components) == {}
    assert find_shared(("a", "d"), (), components) == {}


@pytest.mark.parametrize("protocol", ["random", "folds"])
def test_a_split_by_image_is_refused_for_tweets(crowd_world: Callable[..., Any], protocol: str) -> None:
    world = crowd_world(reader="t4sa")
    request = MaterialRequest(
        artifacts=world.artifacts, dataset=world.name, protocol=protocol, fold=int(protocol == "folds")
    )
    message = rf"--protocol {protocol}: .* with images in several parts.*--protocol given or --protocol grouped"
    with pytest.raises(ConfigError, match=message):
        train_student(StudentRequest(material=request))


def test_a_split_by_tweet_is_welcome_and_so_are_ids_that_only_look_like_tweets(crowd_world: Callable[..., Any]) -> None:
    world = crowd_world(reader="t4sa")
    request = MaterialRequest(artifacts=world.artifacts, dataset=world.name, protocol="grouped")
    refuse_divided_tweets(request)
    other = crowd_world(name="other")
    refuse_divided_tweets(MaterialRequest(artifacts=other.artifacts, dataset=other.name, protocol="random"))
