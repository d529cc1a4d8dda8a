"""A split is a partition, exact in its counts, deterministic, and divides no group; it hardly moves as data grows."""

from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentifuse import ConfigError
from sentifuse.data.protocols import (
    digest_folds,
    digest_parts,
    fold_parts,
    fold_split,
    given_split,
    missing_class,
    random_split,
)

labelled = st.dictionaries(st.integers(0, 10_000).map(str), st.sampled_from("abc"), max_size=120)
seeds = st.integers(0, 5)


@settings(derandomize=True, max_examples=50)
@given(labelled, seeds)
def test_split_is_a_stratified_partition_with_exact_counts(labels: dict[str, str], seed: int) -> None:
    parts = random_split(labels, seed)
    assert list(parts) == list(labels)
    for name, n in Counter(labels.values()).items():
        counts = Counter(parts[id_] for id_, label in labels.items() if label == name)
        assert (counts["val"], counts["test"], counts["train"]) == (n // 10, n // 10, n - 2 * (n // 10))


@settings(derandomize=True, max_examples=50)
@given(labelled, seeds, st.randoms(use_true_random=False))
def test_order_of_ids_makes_no_difference(labels: dict[str, str], seed: int, random: Random) -> None:
    ids = list(labels)
    random.shuffle(ids)
    assert random_split({id_: labels[id_] for id_ in ids}, seed) == random_split(labels, seed)


@settings(derandomize=True, max_examples=50)
@given(labelled, seeds, st.sampled_from("abc"))
def test_one_more_pair_moves_at_most_three(labels: dict[str, str], seed: int, label: str) -> None:
    before = random_split(labels, seed)
    after = random_split(labels | {"new": label}, seed)
    moved = [id_ for id_ in before if before[id_] != after[id_]]
    assert len(moved) <= 3
    assert all(labels[id_] == label for id_ in moved)


def test_split_of_a_seed_is_fixed_for_all_time() -> None:
    labels = {str(number): "even" if number % 2 == 0 else "odd" for number in range(40)}
    parts = random_split(labels, 7)
    assert [id_ for id_, part in parts.items() if part == "test"] == ["4", "7", "12", "33"]
    assert parts != random_split(labels, 8)


def test_published_class_counts_come_out() -> None:
    labels = {f"p{i}": "positive" for i in range(2683)} | {f"u{i}": "neutral" for i in range(470)}
    labels |= {f"n{i}": "negative" for i in range(1358)}
    parts = random_split(labels, 0)
    counts = Counter((labels[id_], part) for id_, part in parts.items())
    assert (counts["positive", "train"], counts["neutral", "train"], counts["negative", "train"]) == (2147, 376, 1088)
    assert (counts["positive", "test"], counts["neutral", "test"], counts["negative", "test"]) == (268, 47, 135)


@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.2), (1.2, -0.1, -0.1)])
def test_fractions_must_add_up(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="add up to 1"):
        random_split({}, 0, fractions)


def test_given_parts_are_kept_and_a_missing_validation_part_is_taken_from_training_only() -> None:
    labels = {str(number): "a" for number in range(100)}
    given_parts = {str(number): "test" if number < 20 else "train" for number in range(100)}
    parts = given_split(labels, given_parts, seed=1)
    assert {id_ for id_, part in parts.items() if part == "test"} == {str(number) for number in range(20)}
    assert Counter(parts.values()) == {"train": 72, "val": 8, "test": 20}
    whole = given_parts | {"99": "val"}
    assert given_split(labels, whole, seed=1) == whole
    assert given_split({"1": "a", "2": "a"}, {"1": "val"}, seed=1) == {"1": "val"}


def grouping(ids: list[str], sizes: list[int]) -> dict[str, str]:
    """Groups of these sizes, cut off the front of the ids; the rest are on their own."""
    groups, start = {}, 0
    for size in sizes:
        groups |= dict.fromkeys(ids[start : start + size], ids[start]) if start < len(ids) else {}
        start += size
    return {id_: groups.get(id_, id_) for id_ in ids}


group_sizes = st.lists(st.integers(2, 12), max_size=8)


@settings(derandomize=True, max_examples=100)
@given(labelled, seeds, group_sizes)
def test_no_group_is_divided_and_every_pair_has_a_part(labels: dict[str, str], seed: int, sizes: list[int]) -> None:
    groups = grouping(list(labels), sizes)
    parts = random_split(labels, seed, groups=groups)
    assert list(parts) == list(labels)
    for name in set(groups.values()):
        assert len({parts[id_] for id_ in labels if groups[id_] == name}) == 1


@settings(derandomize=True, max_examples=100)
@given(labelled, seeds, group_sizes, st.randoms(use_true_random=False))
def test_order_of_ids_makes_no_difference_to_groups(
    labels: dict[str, str], seed: int, sizes: list[int], random: Random
) -> None:
    groups = grouping(list(labels), sizes)
    ids = list(labels)
    random.shuffle(ids)
    shuffled = {id_: labels[id_] for id_ in ids}
    assert random_split(shuffled, seed, groups=groups) == random_split(labels, seed, groups=groups)


@settings(derandomize=True, max_examples=100)
@given(labelled, seeds, group_sizes)
def test_grouped_counts_differ_from_the_exact_ones_by_less_than_the_largest_group(
    labels: dict[str, str], seed: int, sizes: list[int]
) -> None:
    groups = grouping(list(labels), sizes)
    largest = max(Counter(groups.values()).values(), default=1)
    exact, found = (Counter(random_split(labels, seed, groups=g).values()) for g in (None, groups))
    assert all(abs(exact[part] - found[part]) < largest for part in ("train", "val", "test"))


def test_groups_that_leave_room_change_no_count_of_any_class() -> None:
    labels = {str(i): "abc"[i % 3] for i in range(900)}
    groups = grouping(list(labels), [20, 12, 7, 7, 5, *[2] * 40])
    for seed in range(10):
        exact, found = (random_split(labels, seed, groups=g) for g in (None, groups))
        assert Counter((labels[i], part) for i, part in found.items()) == Counter(
            (labels[i], part) for i, part in exact.items()
        )
        folds = fold_parts(labels, seed, 10, groups)
        assert set(Counter((labels[i], part) for i, part in folds.items()).values()) == {30}


def test_groups_go_to_every_part_in_proportion() -> None:
    labels = {str(i): "ab"[i % 2] for i in range(1000)}
    groups = grouping(list(labels), [2] * 100)
    splits = [random_split(labels, seed, groups=groups) for seed in range(30)]
    in_test = [sum(parts[str(i)] == "test" for i in range(200)) for parts in splits]
    assert 15 < sum(in_test) / len(in_test) < 25  # a tenth of 200
    assert len(set(in_test)) > 5


def test_a_group_larger_than_any_held_out_part_is_for_training() -> None:
    labels = {str(i): "a" for i in range(100)}
    parts = random_split(labels, 0, groups=grouping(list(labels), [60]))
    assert {parts[str(i)] for i in range(60)} == {"train"}
    assert Counter(parts.values()) == {"train": 80, "val": 10, "test": 10}
    folds = Counter(fold_parts(labels, 0, 10, grouping(list(labels), [60])).values())
    assert sorted(folds.values()) == [4] * 5 + [5] * 4 + [60]  # what the others lack is shared evenly


@settings(derandomize=True, max_examples=50)
@given(st.dictionaries(st.integers(0, 999).map(str), st.sampled_from("ab"), max_size=120), seeds, st.integers(3, 7))
def test_folds_are_stratified_and_equal(labels: dict[str, str], seed: int, k: int) -> None:
    counts = Counter(labels.values())
    if any(n < k for n in counts.values()):
        with pytest.raises(ConfigError, match="as many pairs of every class as folds"):
            fold_parts(labels, seed, k)
        return
    parts = fold_parts(labels, seed, k)
    for label in counts:
        found = Counter(parts[id_] for id_, one in labels.items() if one == label)
        assert max(found.values()) - min(found.values()) <= 1
    whole = [list(parts.values()).count(part) for part in range(1, k + 1)]
    assert max(whole) - min(whole) <= 1


def test_every_pair_is_tested_in_one_fold_and_chosen_on_in_another() -> None:
    labels = {str(i): "ab"[i % 2] for i in range(50)}
    parts = fold_parts(labels, 3, 5)
    splits = [fold_split(parts, fold, 5) for fold in range(1, 6)]
    for id_ in labels:
        assert Counter(split[id_] for split in splits) == {"train": 3, "val": 1, "test": 1}
    for one, following in pairwise([*splits, splits[0]]):
        assert {i for i in labels if one[i] == "val"} == {i for i in labels if following[i] == "test"}


def test_too_few_folds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--folds 2: expected 3 folds or more .* found 2 folds"):
        fold_parts({"1": "a", "2": "a"}, 0, 2)


def test_a_part_without_a_class_is_found() -> None:
    labels = {"1": "a", "2": "b", "3": "a", "4": "b", "5": "a"}
    whole = {"1": "train", "2": "train", "3": "val", "4": "val", "5": "test"}
    assert missing_class(whole, labels) == ("test", "b")
    assert missing_class(whole | {"6": "test"}, labels | {"6": "b"}) is None


def test_digest_names_ids_and_parts_in_any_order() -> None:
    parts = {"1": "train", "2": "test"}
    assert digest_parts(parts) == digest_parts({"2": "test", "1": "train"})
    assert digest_parts(parts) != digest_parts({"1": "test", "2": "train"}) != digest_parts({"1": "test"})
    assert digest_folds(["a", "b"]) != digest_folds(["b", "a"])
