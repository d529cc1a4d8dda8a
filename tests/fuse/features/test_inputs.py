"""Digests of what pairs give to a head change with every label and every row that matters, and with nothing else."""

from collections.abc import Callable
from typing import Any

import pytest

from sentifuse.cache.featureset import open_feature_set
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.writer import FeatureWriter
from sentifuse.data.labels import read_labels
from sentifuse.data.manifest import read_manifest
from sentifuse.fuse.features.inputs import digest_inputs

MakeWorld = Callable[..., Any]
IDS = ("p3", "p1", "p2")


def digests(world: Any, ids: tuple[str, ...] = IDS, target: str = "label") -> dict[str, Any]:
    folders = {name: next(world.cache_dir.glob(f"{name}-*")) for name in ("tokens", "context")}
    readers = {name: FeatureReader(open_feature_set(folder)) for name, folder in folders.items()}
    labels = read_labels(world.dataset_dir)
    return digest_inputs(ids, labels, target, readers, read_manifest(world.dataset_dir).by_id())


def test_order_counts_for_nothing_and_every_pair_for_all(make_world: MakeWorld) -> None:
    world = make_world(n=60)
    before = digests(world)
    assert digests(world, ids=tuple(sorted(IDS))) == before
    fewer = digests(world, ids=IDS[:2])
    assert fewer["labels"] != before["labels"]
    assert all(fewer["features"][name] != before["features"][name] for name in ("tokens", "context"))


@pytest.mark.parametrize(
    ("changes", "is_changed"),
    [
        ({"labels": {"p1": "positive"}}, True),
        ({"labels": {"p9": "positive"}}, False),  # of another part
        ({"text_labels": {"p1": "positive"}}, True),
        ({"image_labels": {"p2": "positive"}}, True),
    ],
)
def test_a_label_of_these_pairs_changes_the_labels_alone(
    make_world: MakeWorld, changes: dict[str, dict[str, str]], is_changed: bool
) -> None:
    world = make_world(n=60)
    before = digests(world)
    for name, labels in changes.items():
        setattr(world, name, ({id_: world.label(id_) for id_ in world.ids} if name == "labels" else {}) | labels)
    world.write_dataset()
    after = digests(world)
    assert (after["labels"] != before["labels"]) is is_changed
    assert after["features"] == before["features"]


def test_a_row_that_was_completed_changes_its_encoder_alone(make_world: MakeWorld) -> None:
    world = make_world(n=60, statuses={"tokens": {"p1": "failed: too long", "p9": "failed: too long"}})
    before = digests(world)
    other = dict(world.statuses["tokens"])
    for shard, id_ in enumerate(("p9", "p1"), start=2):
        del other[id_]
        world.statuses = {"tokens": other}
        with FeatureWriter(open_feature_set(next(world.cache_dir.glob("tokens-*")))) as writer:
            writer.commit(writer.stage(shard, [world._row("tokens", id_)]))
        after = digests(world)
        assert (after["features"]["tokens"] != before["features"]["tokens"]) is (id_ == "p1")
        assert after["features"]["context"] == before["features"]["context"]
        assert after["labels"] == before["labels"]


def test_a_row_that_is_no_more_of_todays_input_is_like_no_training_s(make_world: MakeWorld) -> None:
    world = make_world(n=60)
    before = digests(world)
    world.texts = {"p1": "edited afterwards"}
    world.write_dataset()
    after = digests(world)
    assert after["features"]["tokens"] != before["features"]["tokens"]
    assert after["features"]["context"] == before["features"]["context"]


def test_why_a_row_has_no_values_counts_for_nothing(make_world: MakeWorld) -> None:
    found = [
        digests(make_world(n=60, name=name, statuses={"tokens": {"p1": f"failed: {name}"}})) for name in ("one", "two")
    ]
    assert found[0]["features"] == found[1]["features"]
