"""A split is a partition, exact in its counts, deterministic, and hardly moves when the dataset grows."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentifuse import ConfigError, DataError
from sentifuse.data.prepare import prepare
from sentifuse.data.splits import ensure_split, given_split, random_split, read_split

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


@pytest.fixture
def dataset(make_mvsa: Callable[..., Path], tmp_path: Path) -> Path:
    rows = {str(i): ("positive,positive", "negative,neutral", "neutral,neutral")[i % 3] for i in range(60)}
    prepare("mvsa_single", artifacts=tmp_path, root=make_mvsa(rows))
    return tmp_path / "datasets" / "mvsa_single"


def test_only_the_parts_asked_for_are_returned(dataset: Path) -> None:
    parts = read_split(dataset, parts=("train", "val"))
    assert list(parts) == ["train", "val"]
    assert {part: len(ids) for part, ids in parts.items()} == {"train": 48, "val": 6}
    assert not set(parts["train"]) & set(read_split(dataset, parts=("test",))["test"])
    with pytest.raises(ConfigError, match="part of the split"):
        read_split(dataset, parts=("tset",))


def test_split_file_is_left_alone_while_it_fits_and_renewed_when_the_labels_change(dataset: Path) -> None:
    path = ensure_split(dataset, seed=4)
    assert path == dataset / "splits" / "random-s4.parquet"
    before = path.stat().st_mtime_ns
    assert ensure_split(dataset, seed=4).stat().st_mtime_ns == before
    ensure_split(dataset, seed=4, rule="consistent")
    ids = read_split(dataset, seed=4, rule="consistent", parts=("train", "val", "test"))
    assert sum(len(part) for part in ids.values()) == 40  # negative,neutral pairs are unequal
    assert sum(len(part) for part in read_split(dataset, seed=4, parts=("train", "val", "test")).values()) == 60


def test_protocol_without_a_source_says_so(dataset: Path) -> None:
    with pytest.raises(DataError, match="--protocol random"):
        ensure_split(dataset, protocol="given")
    with pytest.raises(ConfigError, match="did you mean 'random'"):
        ensure_split(dataset, protocol="randon")
