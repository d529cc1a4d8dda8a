"""The leak is what counting by hand gives, and the audit's table of duplicates what it says."""

import pytest

from sentifuse.data.duplicates import count_duplicates
from sentifuse.data.groups import Groups
from sentifuse.data.leak import count_leak, random_leak
from sentifuse.data.manifest import Pair

GROUPS = Groups(
    ids=("a", "b", "c", "d", "e", "f", "g"),
    group=("a", "a", "a", "d", "e", "e", "g"),
    text_group=("a", "a", "c", "d", "e", "f", "g"),
    image_group=("a", "b", "b", "d", "e", "e", "g"),
    n_hashed=7,
    digest="x",
)


def test_leak_counts_held_out_pairs_that_share_with_training() -> None:
    parts = {"a": "train", "b": "test", "c": "val", "d": "test", "e": "train", "f": "val", "g": "test"}
    assert count_leak(parts, GROUPS) == {
        "val": {"n": 2, "group": 2, "text": 0, "image": 1},  # c shares with a over b, which is in test
        "test": {"n": 3, "group": 1, "text": 1, "image": 0},
    }


def test_pairs_that_share_outside_of_training_do_not_leak() -> None:
    parts = {"a": "test", "b": "val", "c": "test", "d": "train"}
    assert count_leak(parts, GROUPS)["test"] == {"n": 2, "group": 0, "text": 0, "image": 0}


def test_leak_of_random_splits_is_a_mean_share() -> None:
    ids = tuple(str(n) for n in range(200))
    named = tuple(str(n // 2) for n in range(200))
    groups = Groups(ids=ids, group=named, text_group=named, image_group=ids, n_hashed=0, digest="")
    leak = random_leak(dict.fromkeys(ids, "a"), groups, range(30))
    assert leak["group"] == leak["text"]
    assert leak["image"] == {"mean": 0.0, "sd": 0.0}
    assert leak["group"]["mean"] == pytest.approx(0.8 * 200 / 199, abs=0.06)  # the twin is in training


def pair(id_: str, text: str, image: str) -> Pair:
    return Pair(
        id=id_, image_path="", text=text, text_encoding="", image_digest=image, text_digest="", image_status="ok",
        text_status="ok",
    )  # fmt: skip


def test_duplicates_are_counted_by_every_notion() -> None:
    pairs = [
        pair("1", "Hot day!", "x"), pair("2", " Hot day!\n", "y"), pair("3", "hot DAY", "z"), pair("4", "", "x"),
        pair("5", "", ""), pair("6", "cold", "w"),
    ]  # fmt: skip
    found = count_duplicates(pairs, {"x": 0, "y": 0b11, "z": None, "w": 0b111111})
    assert found["text, ends stripped"] == {"groups": 1, "members": 2, "largest": 2}
    assert found["text, normalised"] == {"groups": 1, "members": 3, "largest": 3}
    assert found["image file"] == {"groups": 1, "members": 2, "largest": 2}
    assert found["image, hash within 0 bits"] == {"groups": 1, "members": 2, "largest": 2}
    assert found["image, hash within 2 bits"] == {"groups": 1, "members": 3, "largest": 3}
    assert found["image, hash within 4 bits"] == {"groups": 1, "members": 4, "largest": 4}
    assert found["either: normalised text or 4 bits"] == {"groups": 1, "members": 5, "largest": 5}
