"""A student folder: whole, the same for the same seed, never written over; and everything refused before a step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy

from sentifuse import CacheError, ConfigError, TrainingError
from sentifuse.crowd.components import read_components
from sentifuse.crowd.students.apart import SHARED
from sentifuse.crowd.students.folder import StudentFolder, find_student
from sentifuse.crowd.students.material import MaterialRequest
from sentifuse.crowd.students.train import FoldReport, StudentRequest, train_student
from sentifuse.data.splits import read_split
from sentifuse.extract.gold_seen import read_gold_seen
from sentifuse.extract.seen_images import read_seen

Make = Callable[..., Any]
TINY = {"head_epochs": 0, "epochs": 1, "batch_size": 32, "is_augmented": False, "image_px": 32}
SMALL = {"epochs": 2, "batch_size": 16, "width": 8}


def request(world: Any, material: dict[str, Any] | None = None, **changes: Any) -> StudentRequest:
    chosen = MaterialRequest(artifacts=world.artifacts, dataset=world.name, **(material or {}))
    return StudentRequest(material=chosen, **({"overrides": SMALL} | changes))


def train(world: Any, material: dict[str, Any] | None = None, **changes: Any) -> StudentFolder:
    return train_student(request(world, material, **changes))


def numbers(student: StudentFolder) -> dict[str, bytes]:
    """Of all students of a folder, whatever else lies there."""
    names = ("config.json", "model.safetensors", "seen.parquet")
    return {
        path.relative_to(student.path).as_posix(): path.read_bytes()
        for name in names
        for path in sorted(student.path.rglob(name))
    }


def test_the_folder_says_what_it_is_and_what_it_saw(crowd_world: Make) -> None:
    world = crowd_world(gold_seen=frozenset({2}))
    student = train(world, folds=3, command=("sentifuse", "distil"))
    assert student.path.parent == (world.artifacts / "crowd" / "students").resolve()
    assert student.config.kind == "probe"
    assert student.config.head == {"kind": "mlp", "in": 6, "width": 8, "dropout": 0.2}
    assert student.config.base["encoder"] == "context"
    assert sorted(student.fold_folders) == [0, 1, 2, 3]
    for folder in student.fold_folders.values():
        assert (folder / "history.csv").read_text().startswith("epoch,train_loss,val_loss,val_accuracy,val_macro_f1")
        tensors = safetensors.numpy.load_file(folder / "model.safetensors")
        assert tensors["head.hidden.weight"].shape == (8, 6)
    document = student.document
    assert document["trained_on"]["dataset"] == "crowd"
    assert sum(document["trained_on"]["images"]["train"].values()) == 43
    assert document["left_out"]["ids"] == {"3-1": "image: missing", "5-1": "context: failed: broken"}
    assert [*document["gold_seen"]] == ["2-1"]
    assert document["command"] == ["sentifuse", "distil"]
    assert document["scored_against"] == "the teacher"


def test_every_image_of_both_parts_is_seen_in_the_fold_of_what_belongs_to_it(crowd_world: Make) -> None:
    world = crowd_world(extra=10)
    components = read_components(world.artifacts / "datasets" / world.name)
    seen = read_seen(train(world, folds=3).path)
    assert {image.id for image in seen} == {*world.ids[:60]} - {"3-1", "5-1"}
    assert {image.fold for image in seen} == {1, 2, 3}
    folds = {(components[image.id], image.fold) for image in seen}
    assert len(folds) == len({name for name, _ in folds})
    by_id = {image.id: image for image in seen}
    assert by_id[world.ids[7]].fold == by_id[world.ids[8]].fold  # one picture under two tweets
    assert by_id[world.ids[10]].fold == by_id[world.ids[11]].fold  # two pictures of one tweet
    assert {image.dataset for image in seen} == {"crowd"}


def test_without_folds_the_one_student_saw_everything(world: Any) -> None:
    student = train(world)
    assert [*student.fold_folders] == [0]
    assert {image.fold for image in read_seen(student.path)} == {0}


@pytest.mark.parametrize("changes", [{"folds": 2}, {"overrides": SMALL | {"alpha": 0.5, "head": "two_layer"}}])
def test_the_same_seed_gives_the_same_bytes(world: Any, changes: dict[str, Any]) -> None:
    first, second = (numbers(train(world, **changes)) for _ in range(2))
    assert first == second
    assert numbers(train(world, seed=1, **changes)) != first


def test_the_student_of_all_pairs_is_the_same_with_folds_beside_it_and_without(world: Any) -> None:
    alone, among = train(world), train(world, folds=2)
    assert numbers(alone)["model.safetensors"] == numbers(among)["model.safetensors"]


def test_progress_is_heard_of_every_student(world: Any) -> None:
    heard: list[FoldReport] = []
    train_student(request(world, folds=2), progress=heard.append)
    assert [(one.fold, one.row["epoch"]) for one in heard] == [(f, e) for f in range(3) for e in (1, 2)]


def test_a_name_is_taken_once(crowd_world: Make) -> None:
    world = crowd_world()
    student = train(world, name="first")
    before = numbers(student)
    with pytest.raises(ConfigError, match="a student of this name is there"):
        train(world, name="first", seed=1)
    assert numbers(student) == before
    assert find_student(world.artifacts, Path("first")).path == student.path == student.path.resolve()
    with pytest.raises(ConfigError, match="there are: first"):
        find_student(world.artifacts, Path("frist"))


def test_a_failed_training_leaves_nothing(crowd_world: Make) -> None:
    world = crowd_world()
    with pytest.raises(TrainingError):
        train(world, name="broken", overrides=SMALL | {"learning_rate": 1e30, "head": "linear"})
    folder = world.artifacts / "crowd" / "students"
    assert not folder.exists() or not [*folder.iterdir()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "prob"}, "probe"),
        ({"folds": 1}, "--folds"),
        ({"folds": 500}, "groups of pairs that belong together"),
        ({"name": "../up"}, "--name"),
        ({"seed": -1}, "--seed"),
        ({"preset": "papre"}, "paper"),
        ({"features": "regions.features"}, r"context\.vector"),
        ({"features": "context.vektor"}, r"context\.vector"),
        ({"resume": True}, "--resume"),
        ({"base": Path("vit")}, "--base"),
        ({"kind": "full"}, "expected --base"),
        ({"kind": "lora", "base": Path("vit"), "overrides": {"width": 8}}, "width"),
    ],
)
def test_what_cannot_be_meant_is_refused(world: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(world, **changes)


def test_features_that_are_not_there_are_named_with_the_line_to_type(world: Any) -> None:
    with pytest.raises(CacheError, match="sentifuse extract --dataset crowd --encoders clip"):
        train(world, features="clip.image")


def test_features_of_other_images_are_refused(crowd_world: Make) -> None:
    from sentifuse.data.manifest import Manifest, read_manifest, write_manifest

    world = crowd_world()
    folder = world.artifacts / "datasets" / world.name
    manifest = read_manifest(folder)
    other = tuple(
        type(pair)(**{name: getattr(pair, name) for name in pair.__slots__} | {"image_digest": "0" * 64})
        if pair.id == "0-2"
        else pair
        for pair in manifest.pairs
    )
    write_manifest(folder, Manifest(manifest.root, other))
    with pytest.raises(CacheError, match=r"1 of 59 pairs have another image now.*: 0-2\."):
        train(world)


def test_labels_by_people_train_the_same_probe(world: Any) -> None:
    student = train(world, {"label": "image_label"})
    assert student.document["scored_against"] == "people"
    learned = {image.id for image in read_seen(student.path)}
    assert {*student.document["gold_seen"]} == learned | {*student.document["left_out"]["ids"]} - {"3-1"}


def test_what_a_base_saw_and_knew_its_student_saw_and_knows(crowd_world: Make, tiny_vit: Path) -> None:
    first = crowd_world(name="first", gold_seen=frozenset({2}), gold_pairs={"crowd": {"9-1": "a" * 64}})
    small: dict[str, Any] = {"kind": "full", "overrides": TINY, "device": "cpu"}
    base = train(first, base=tiny_vit, folds=2, **small)
    world = crowd_world(gold_seen=frozenset({4}))
    student = train(world, base=base.path, folds=2, **small)
    seen = read_seen(student.path)
    before = {(image.dataset, image.id, image.image_hash) for image in read_seen(base.path)}
    assert {(image.dataset, image.id, image.image_hash) for image in seen if image.fold == 0} == before
    assert all(image.image_hash is not None for image in seen)
    known = read_gold_seen(student.path)
    assert {dataset: sorted(pairs) for dataset, pairs in known.items()} == {"first": ["2-1"], "crowd": ["4-1", "9-1"]}
    assert {*student.document["gold_seen"]} == {"4-1", "9-1"}


def test_a_validation_image_that_belongs_to_a_training_image_is_left_out_by_name(world: Any) -> None:
    student = train(world, {"protocol": "random"})
    folder = world.artifacts / "datasets" / world.name
    components = read_components(folder)
    split = read_split(folder, protocol="random", parts=("train", "val"))
    trained = {components[id_] for id_ in split["train"] if id_ != "3-1"}
    shared = {id_ for id_ in split["val"] if components[id_] in trained}
    assert shared
    reasons = student.document["left_out"]["ids"]
    assert {id_ for id_, reason in reasons.items() if reason == SHARED} == shared
    assert student.document["left_out"]["reasons"][SHARED] == len(shared)
    assert not shared & {image.id for image in read_seen(student.path)}
