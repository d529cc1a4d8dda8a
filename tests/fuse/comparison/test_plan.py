"""Which runs are wanted: rows × seeds × folds, each with everything that makes it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from sentifuse import CacheError, ConfigError
from sentifuse.fuse.comparison.choices import parse_heads
from sentifuse.fuse.comparison.plan import make_plan


def plan(world: Any, *heads: str, **options: Any) -> Any:
    return make_plan(world.artifacts, world.name, parse_heads(heads), **({"seeds": (0, 1)} | options))


def test_every_row_is_wanted_with_every_seed(world: Any) -> None:
    found = plan(world, "itin", "itin:context_only", "logreg")
    assert [one.name for one in found.wanted[:4]] == [
        "itin, seed 0",
        "itin:context_only, seed 0",
        "logreg, seed 0",
        "itin, seed 1",
    ]
    assert len({one.identity for one in found.wanted}) == 6


def test_folds_are_all_of_them_unless_named(make_world: Callable[..., Any]) -> None:
    world = make_world()
    assert [one.fold for one in plan(world, "logreg", protocol="folds", seeds=(0,)).wanted] == list(range(1, 11))
    assert [one.fold for one in plan(world, "logreg", protocol="folds", seeds=(0,), folds="2,3").wanted] == [2, 3]
    with pytest.raises(ConfigError, match="has no folds"):
        plan(world, "logreg", folds="1")


def test_an_identity_names_all_that_makes_a_run(world: Any) -> None:
    identity = json.loads(plan(world, "text_only").wanted[0].identity)
    assert set(identity) == {
        *("head", "config", "dataset", "rule", "target", "protocol", "seed", "fold", "split_digest", "features")
    }
    assert set(identity["features"]) == {"tokens"}


def test_a_split_that_was_never_made_is_not_made_by_looking(make_world: Callable[..., Any]) -> None:
    world = make_world()
    found = plan(world, "logreg", seeds=(7,), write_splits=False)
    assert [one.identity for one in found.wanted] == [None]
    assert not (world.dataset_dir / "splits").exists()


def test_rows_without_features_are_refused_or_left_out_by_name(make_world: Callable[..., Any]) -> None:
    world = make_world(encoders=("tokens", "context"))
    with pytest.raises(CacheError, match=r"row itin .*--encoders regions"):
        plan(world, "itin", "logreg")
    found = plan(world, "itin", "logreg", skip_lacking=True)
    assert [choice.name for choice in found.choices] == ["logreg"]
    assert "regions" in found.left_out["itin"]


@pytest.mark.parametrize("options", [{"protocol": "rondom"}, {"rule": "x"}, {"target": "mood"}])
def test_unknown_names_are_refused(world: Any, options: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        plan(world, "logreg", **options)
