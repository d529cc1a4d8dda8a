"""What a student learns from: the kept set, a split's two parts, or people's labels; nobody's test part."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sentifuse import ConfigError, DataError, TrainingError
from sentifuse.crowd.labels.kept import read_kept, write_kept
from sentifuse.crowd.students.material import Material, MaterialRequest, read_material
from sentifuse.data.splits import read_split

Make = Callable[..., Any]


def read(world: Any, **changes: Any) -> Material:
    return read_material(MaterialRequest(**({"artifacts": world.artifacts, "dataset": world.name} | changes)))


def part(material: Material, name: str) -> set[str]:
    rows = material.train_rows if name == "train" else material.val_rows
    return {material.ids[row] for row in rows.tolist()}


def test_the_kept_set_gives_classes_shares_and_its_own_parts(world: Any) -> None:
    material = read(world)
    said = dict(zip(world.ids, world.classes().tolist(), strict=True))
    assert dict(zip(material.ids, material.targets.classes.tolist(), strict=True)) == {
        id_: said[id_] for id_ in world.ids if id_ != "3-1"
    }
    assert part(material, "val") == {id_ for i, id_ in enumerate(world.ids) if i // 5 % 4 == 3}
    assert part(material, "train") | part(material, "val") == {*material.ids}
    assert np.array_equal(material.targets.probabilities.argmax(1), material.targets.classes)
    assert material.left_out == {"3-1": "image: missing"}
    assert material.gold_seen == ()
    assert material.about["kept_from"]["labels"]["name"] == "default"


def test_every_human_label_that_the_teacher_knows_is_told_kept_or_not(crowd_world: Make) -> None:
    world = crowd_world(extra=4, gold_seen=frozenset({0, 11, 62}))
    assert "62-1" not in read(world).ids
    assert read(world).gold_seen == tuple(sorted(world.ids[i] for i in (0, 11, 62)))


def test_a_split_keeps_its_test_part_unseen(world: Any) -> None:
    folder = world.artifacts / "datasets" / world.name
    split = read_split(folder, protocol="random", seed=4, parts=("train", "val", "test"))
    for label in ("pseudo", "image_label"):
        material = read(world, label=label, protocol="random", split_seed=4)
        assert part(material, "train") == {*split["train"]} - {"3-1"}
        assert part(material, "val") == {*split["val"]} - {"3-1"}
        assert not {*material.ids} & {*split["test"]}
        assert (material.about["split"]["protocol"], material.about["split"]["seed"]) == ("random", 4)


def test_labels_that_the_teacher_knows_beside_the_split_are_counted(crowd_world: Make) -> None:
    world = crowd_world(gold_seen=frozenset(range(20)))
    folder = world.artifacts / "datasets" / world.name
    split = read_split(folder, protocol="random", seed=4, parts=("train", "val", "test"))
    tested = {*world.ids[:20]} & {*split["test"]}
    assert tested
    assert read(world, protocol="random", split_seed=4).about["gold_seen_outside"] == len(tested)
    assert read(world, label="image_label", protocol="random", split_seed=4).about["gold_seen_outside"] == 0
    assert "gold_seen_outside" not in read(world).about


def test_a_kept_set_without_validation_images_says_how_to_have_some(crowd_world: Make) -> None:
    world = crowd_world()
    kept = read_kept(world.artifacts, world.name, "default")
    write_kept(world.artifacts, world.name, "default", replace(kept, split=("train",) * len(kept.ids)), overwrite=True)
    with pytest.raises(TrainingError, match=r"val part, found none .* or a larger part of them, --val-share 0\.1"):
        read(world)


def test_peoples_labels_are_theirs_and_all_of_them_are_seen(crowd_world: Make) -> None:
    world = crowd_world(noise=1.0)
    material = read(world, label="image_label")
    truth = {id_: world.truth(i) for i, id_ in enumerate(world.ids)}
    assert [truth[id_] for id_ in material.ids] == material.targets.classes.tolist()
    assert material.gold_seen == tuple(sorted(material.ids))
    assert material.targets.probabilities is None
    assert material.about["validate"] == "gold"


def test_people_may_label_the_validation_part_alone(crowd_world: Make) -> None:
    world = crowd_world(noise=1.0)
    material = read(world, validate="gold", protocol="random")
    truth = {id_: world.truth(i) for i, id_ in enumerate(world.ids)}
    is_true = [truth[id_] == k for id_, k in zip(material.ids, material.targets.classes.tolist(), strict=True)]
    assert all(is_true[row] for row in material.val_rows)
    assert not any(is_true[row] for row in material.train_rows)
    assert {*material.gold_seen} == part(material, "val")


def test_confidence_weighs_images(world: Any) -> None:
    assert np.allclose(read(world, weights="confidence").targets.weights, 0.96)


def test_leaving_rows_out_keeps_the_others_as_they_were(world: Any) -> None:
    material = read(world, weights="confidence")
    gone = {material.ids[0]: "why", material.ids[30]: "so", material.ids[-1]: "there"}
    rest = material.without(gone)
    known = dict(zip(material.ids, material.targets.classes.tolist(), strict=True))
    assert {**known, **dict(zip(rest.ids, rest.targets.classes.tolist(), strict=True))} == known
    for name in ("train", "val"):
        assert part(rest, name) == part(material, name) - gone.keys()
    assert {*rest.ids} | gone.keys() == {*material.ids}
    assert rest.left_out == {**material.left_out, **gone}
    assert len(rest.digests) == len(rest.targets.weights) == len(rest.ids)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"label": "image"}, ConfigError, "image_label"),
        ({"validate": "teach"}, ConfigError, "teacher"),
        ({"weights": "confident"}, ConfigError, "confidence"),
        ({"label": "image_label", "weights": "confidence"}, ConfigError, "--weights confidence"),
        ({"kept": "other"}, DataError, "distil filter"),
        ({"dataset": "nobody"}, DataError, "data prepare"),
        ({"protocol": "randomly"}, ConfigError, "random"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    world: Any, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read(world, **changes)


def test_labels_that_changed_since_they_were_filtered_are_refused(crowd_world: Make) -> None:
    from sentifuse.crowd.labels.pseudo_labels import read_pseudo_labels, write_pseudo_labels

    world = crowd_world()
    labels = read_pseudo_labels(world.artifacts, world.name, "default")
    labels.probabilities[0] = (0.5, 0.25, 0.25)
    write_pseudo_labels(world.artifacts, world.name, "default", labels, overwrite=True)
    with pytest.raises(DataError, match="filtered from other labels"):
        read(world)


def test_a_part_without_images_is_refused(crowd_world: Make) -> None:
    with pytest.raises(TrainingError, match="val part, found none"):
        read(crowd_world(n=10, extra=30))
