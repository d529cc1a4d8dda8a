"""What is asked for in words: seeds, folds, heads, sweeps; and refusals that say what to type."""

import pytest

from sentifuse import ConfigError
from sentifuse.fuse.comparison.choices import (
    ABLATIONS,
    Choice,
    default_heads,
    parse_folds,
    parse_heads,
    parse_seeds,
    parse_sweep,
    sweep_choices,
)
from sentifuse.fuse.heads import HEADS


def test_by_default_every_head_is_compared_with_itins_four_ablations() -> None:
    names = default_heads(list(HEADS))
    assert {name.partition(":")[0] for name in names} == set(HEADS)
    assert [name for name in names if ":" in name] == list(ABLATIONS)
    assert len(parse_heads(names)) == len(HEADS) + 4


def test_a_preset_is_part_of_the_name_unless_it_is_the_default() -> None:
    assert [choice.name for choice in parse_heads(["itin:paper", "itin:default"])] == ["itin:paper", "itin"]


@pytest.mark.parametrize("text", ["", "0", "a", "1,1", "-1", "1.5", ","])
def test_seeds_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds"):
        parse_seeds(text)


@pytest.mark.parametrize(("text", "k"), [("1", 0), ("0", 3), ("4", 3), ("a", 3), ("", 3)])
def test_folds_that_are_not_there_are_refused(text: str, k: int) -> None:
    with pytest.raises(ConfigError, match="--folds"):
        parse_folds(text, "folds", k)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("m=0..2", ("0", "1", "2")),
        ("m=0,0.1,...,0.3", ("0", "0.1", "0.2", "0.3")),
        ("m=0,0.1,…,0.3", ("0", "0.1", "0.2", "0.3")),
        ("m=10,20", ("10", "20")),
    ],
)
def test_a_sweep_lists_its_values_as_typed(text: str, values: tuple[str, ...]) -> None:
    assert parse_sweep(text).values == values


@pytest.mark.parametrize("text", ["m", "m=", "m=1", "m=1,1", "m=a,b", "m=0,0.3,...,1", "m=0,...,1", "m=0..1000"])
def test_a_sweep_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--sweep"):
        parse_sweep(text)


def test_itin_without_regions_is_itin_from_its_contexts() -> None:
    rows = sweep_choices([Choice(head="itin")], parse_sweep("region_count=0..2"))
    assert [row.overrides for row in rows] == [{"sources": "context"}, {"region_count": "1"}, {"region_count": "2"}]
    assert [row.name for row in rows] == [f"itin region_count={m}" for m in range(3)]


def test_a_head_named_twice_or_no_head_is_refused() -> None:
    for names in (["itin", "itin"], []):
        with pytest.raises(ConfigError, match="--heads"):
            parse_heads(names)
