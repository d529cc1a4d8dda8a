"""The leak-free features: whose label is flipped changes none of its own numbers; statuses, resuming, refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from sentifuse import CacheError, ConfigError, DataError
from sentifuse.cache.current import read_current
from sentifuse.cache.reader import FeatureReader
from sentifuse.crowd.components import read_components
from sentifuse.crowd.students.features import FeaturesRequest, FeaturesSummary, write_features
from sentifuse.crowd.students.folder import StudentFolder, find_student
from sentifuse.crowd.students.material import MaterialRequest
from sentifuse.crowd.students.out_of_fold import ALL
from sentifuse.crowd.students.train import StudentRequest, train_student
from sentifuse.extract.gold_seen import read_gold_seen
from sentifuse.extract.seen_images import read_seen
from sentifuse.fuse.seen import refuse_seen

Make = Callable[..., Any]
TINY = {"head_epochs": 0, "epochs": 1, "batch_size": 32, "is_augmented": False, "image_px": 32}
SMALL = {"epochs": 3, "batch_size": 16, "width": 8, "learning_rate": 0.01}


def train(world: Any, *, folds: int = 3, **changes: Any) -> StudentFolder:
    material = MaterialRequest(artifacts=world.artifacts, dataset=world.name)
    return train_student(StudentRequest(material=material, folds=folds, **({"overrides": SMALL} | changes)))


def features(world: Any, student: StudentFolder, **changes: Any) -> FeaturesSummary:
    request = {"artifacts": world.artifacts, "dataset": world.name, "student": student.path, "device": "cpu"} | changes
    return write_features(FeaturesRequest(**request))


def read(world: Any, student: StudentFolder) -> dict[str, bytes]:
    """id -> its numbers as they lie on disk."""
    reader = FeatureReader(features(world, student).directory)
    return {
        id_: b"".join(reader.value(id_, field.name).tobytes() for field in reader.fields)
        for id_ in reader
        if reader.has_value(id_)
    }


def _draw_another(path: Path) -> bytes:
    """A picture that is unlike the one that was there, and unlike those of all other files."""
    rng = np.random.default_rng([*path.read_bytes()[-9:], 77])
    pixels = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((48, 48), Image.Resampling.BICUBIC).save(path)
    return path.read_bytes()


def _write_note(path: Path) -> bytes:
    """The same picture in other bytes."""
    path.write_bytes(path.read_bytes() + b"a note")  # JPEG readers stop before it
    return path.read_bytes()


def _save_anew(path: Path) -> bytes:
    """Nearly the same picture."""
    Image.open(path).convert("RGB").resize((64, 64)).save(path, quality=60)
    return path.read_bytes()


def _other_pictures(world: Any, change: Callable[[Path], bytes] = _draw_another) -> None:
    """Change the image files of a dataset, and give it rows that fit."""
    from sentifuse.cache.featureset import open_feature_set
    from sentifuse.cache.spec import Row
    from sentifuse.cache.writer import FeatureWriter
    from sentifuse.data.files import digest
    from sentifuse.data.manifest import Manifest, read_manifest, write_manifest

    folder = world.artifacts / "datasets" / world.name
    manifest = read_manifest(folder)
    pairs = []
    for pair in manifest.pairs:
        values = {name: getattr(pair, name) for name in pair.__slots__}
        if pair.image_digest:
            values["image_digest"] = digest(change(manifest.image_file(pair)))
        pairs.append(type(pair)(**values))
    write_manifest(folder, Manifest(manifest.root, tuple(pairs)))
    feature_set = open_feature_set(read_current(world.cache_dir).directory("context"))
    reader = FeatureReader(feature_set)
    rows = [
        Row(
            id=pair.id,
            digest=pair.image_digest,
            status=reader.status(pair.id),
            values={"vector": reader.value(pair.id, "vector").copy()} if reader.has_value(pair.id) else None,
        )
        for pair in pairs
    ]
    with FeatureWriter(feature_set) as writer:
        writer.commit(writer.stage(writer.next_number, rows))


@pytest.fixture(scope="module")
def unflipped(world: Any) -> dict[str, bytes]:
    """The features of the module's world."""
    return read(world, train(world))


@pytest.mark.parametrize("flipped", [8, 10, 17])
def test_a_flipped_label_changes_no_feature_of_its_pair_or_of_its_near_duplicates(
    crowd_world: Make, world: Any, unflipped: dict[str, bytes], flipped: int
) -> None:
    """8: shows the picture of 7; 10: one of two images of a tweet; 17: of the validation part."""
    other = crowd_world(flipped=frozenset({flipped}))
    assert (world.classes() != other.classes()).sum() == 1
    after = read(other, train(other))
    components = read_components(other.artifacts / "datasets" / other.name)
    family = {id_ for id_, name in components.items() if name == components[other.ids[flipped]]}
    assert len(family) > 1 or flipped == 17
    assert {id_ for id_ in family if unflipped[id_] != after[id_]} == set()
    changed = {id_ for id_ in unflipped if unflipped[id_] != after[id_]}
    assert len(changed) > 20  # the test can see a difference: most others were answered by students that saw it


def test_every_pair_has_a_row_from_a_student_that_did_not_see_it(world: Any) -> None:
    student = train(world, seed=5)
    found = features(world, student)
    reader = FeatureReader(found.directory)
    assert tuple(sorted(reader.ids)) == tuple(sorted(world.ids))
    assert (reader.status("3-1"), reader.status("5-1")) == ("missing", "failed: broken")
    assert found.statuses == {"ok": 58, "missing": 1, "failed": 1}
    assert found.by_fold[ALL] == 1  # 3-1 alone; 5-1 has no vector, but its tweet was seen
    assert sum(found.by_fold.values()) == found.pairs == found.computed == 60
    shares = np.stack([reader.value(id_, "probabilities") for id_ in world.ids if reader.has_value(id_)])
    assert shares.dtype == np.float32
    assert np.allclose(shares.sum(1), 1, atol=1e-6)
    assert reader.field("embedding").shape == (8,)
    reader.prove()


def test_answers_are_those_of_the_student_of_the_fold(world: Any) -> None:
    import torch
    from safetensors.torch import load_file

    from sentifuse.extract.backbones.student_head import build_head
    from sentifuse.extract.students import read_student

    student = train(world)
    reader = FeatureReader(features(world, student).directory)
    base = FeatureReader(read_current(world.cache_dir).directory("context"))
    for image in read_seen(student.path)[:9]:
        folder = student.fold_folders[image.fold]
        config = read_student(folder)
        head = build_head(config.head).eval()
        state = load_file(folder / "model.safetensors")
        head.load_state_dict({name.removeprefix("head."): value for name, value in state.items()})
        with torch.no_grad():
            logits, hidden = head(torch.from_numpy(base.value(image.id, "vector").copy())[None])
        expected = torch.softmax(logits / config.temperature, 1)[0]
        assert np.allclose(reader.value(image.id, "probabilities"), expected, atol=1e-6)
        assert np.allclose(reader.value(image.id, "embedding"), hidden[0], atol=1e-6)


def test_the_features_are_current_and_the_others_stay(world: Any) -> None:
    found = features(world, train(world))
    current = read_current(world.cache_dir)
    assert current.directory("crowd") == found.directory
    assert set(current.encoders) == {"context", "crowd"}
    assert current.profile == "test"


def test_a_second_call_computes_nothing_and_a_lost_shard_alone_is_made_again(world: Any) -> None:
    student = train(world)
    first = features(world, student)
    assert features(world, student).computed == 0
    before = read(world, student)
    shard = sorted((first.directory / "shards").iterdir())[-1]
    shard.unlink()
    again = features(world, student)
    assert 0 < again.computed < 60
    assert again.directory == first.directory
    assert read(world, student) == before


def test_other_students_other_folds_or_other_people_make_another_set(crowd_world: Make, tmp_path: Path) -> None:
    world = crowd_world()
    names = {features(world, train(world, **changes)).directory for changes in ({}, {}, {"folds": 2})}
    assert len(names) == 2  # the same training again is the same set
    told = crowd_world(artifacts=tmp_path / "told", gold_seen=frozenset({0}))
    assert features(told, train(told)).directory.name not in {path.name for path in names}


def test_a_student_without_folds_is_refused_on_what_it_saw_and_welcome_elsewhere(crowd_world: Make) -> None:
    world = crowd_world()
    student = train(world, folds=0)
    with pytest.raises(DataError, match=r"saw 59 of these pairs or their near-duplicates .*--folds 5"):
        features(world, student)
    assert "crowd" not in read_current(world.cache_dir).encoders
    elsewhere = crowd_world(name="elsewhere", seed=1)
    _other_pictures(elsewhere)
    assert features(elsewhere, student).by_fold == {ALL: 60}


def test_a_student_of_a_fold_saw_all_but_its_fold(crowd_world: Make, tiny_vit: Path) -> None:
    world = crowd_world(gold_seen=frozenset({2}))
    student = train(world, folds=2, kind="full", base=tiny_vit, overrides=TINY, device="cpu")
    fold = student.fold_folders[1]
    ids = {image.id for image in read_seen(student.path) if image.fold != 1}
    assert {(image.id, image.fold) for image in read_seen(fold)} == {(id_, ALL) for id_ in ids}
    with pytest.raises(DataError, match="fold-1 on crowd: the student saw"):
        features(world, find_student(world.artifacts, fold))
    elsewhere = crowd_world(name="copy")
    _other_pictures(elsewhere)
    reader = FeatureReader(features(elsewhere, find_student(world.artifacts, fold)).directory)
    assert reader.feature_set.details["gold_seen_ids"] == []
    known = read_gold_seen(fold)
    assert known == read_gold_seen(student.path)
    assert [*known["crowd"]] == ["2-1"]


@pytest.mark.parametrize("change", [_write_note, _save_anew])
def test_an_image_saved_anew_is_still_the_one_that_was_seen(crowd_world: Make, change: Callable[[Path], bytes]) -> None:
    """By its id at home, by its picture in another dataset."""
    world = crowd_world()
    student = train(world)
    expected = features(world, student).by_fold
    alone = train(world, folds=0)
    elsewhere = crowd_world(name="elsewhere")
    for other in (world, elsewhere):
        _other_pictures(other, change)
        assert features(other, student).by_fold == expected
        with pytest.raises(DataError, match="the student saw 59 of these pairs"):
            features(other, alone)


def test_students_of_one_config_and_other_weights_make_two_sets(world: Any) -> None:
    student = train(world)
    first = features(world, student).directory
    for folder in student.fold_folders.values():
        tensors = load_file(folder / "model.safetensors")
        save_file({name: value + 1 for name, value in tensors.items()}, folder / "model.safetensors")
    assert features(world, student).directory != first


def test_labels_that_a_teacher_learned_from_are_known_when_it_labelled_another_dataset(crowd_world: Make) -> None:
    """Taught on `home`, labelled `crowd`: features of `home` by the student know the labels of `home`."""
    home = crowd_world(name="home")
    _other_pictures(home)
    world = crowd_world(gold_pairs={"home": {home.ids[4]: "", home.ids[6]: "e" * 64}})
    student = train(world)
    assert student.document["gold_seen"] == {}
    reader = FeatureReader(features(home, student).directory)
    assert reader.feature_set.details["gold_seen_ids"] == sorted([home.ids[4], home.ids[6]])
    with pytest.raises(DataError, match="saw 2 of them"):
        refuse_seen({"crowd": reader}, labelled=home.ids, own=home.ids[10:])


def test_what_the_features_below_a_probe_know_their_set_knows(crowd_world: Make) -> None:
    world = crowd_world(details={"gold_seen_ids": ["7-1"]})
    reader = FeatureReader(features(world, train(world)).directory)
    assert reader.feature_set.details["gold_seen_ids"] == ["7-1"]


def test_images_are_known_again_in_another_dataset(crowd_world: Make) -> None:
    """The same files under another name: answers come out of fold there too, and so do the people's labels."""
    world = crowd_world(gold_seen=frozenset({0, 12}))
    student = train(world)
    copy = crowd_world(name="copy")
    found = features(copy, student)
    assert found.by_fold == features(world, student).by_fold
    reader = FeatureReader(found.directory)
    assert reader.feature_set.details["gold_seen_ids"] == sorted([copy.ids[0], copy.ids[12]])


def test_a_fusion_is_refused_where_its_test_part_was_seen(crowd_world: Make) -> None:
    world = crowd_world(gold_seen=frozenset({0, 12}), extra=2)
    reader = FeatureReader(features(world, train(world)).directory)
    tested = [id_ for id_ in world.ids if id_ not in (world.ids[0], world.ids[12])]
    refuse_seen({"crowd": reader}, labelled=world.ids, own=[world.ids[0], world.ids[12]])
    with pytest.raises(DataError, match="saw 2 of them"):
        refuse_seen({"crowd": reader}, labelled=world.ids, own=tested)


def test_features_of_another_recipe_are_refused(crowd_world: Make) -> None:
    from sentifuse.cache.featureset import create_feature_set, write_current
    from sentifuse.cache.spec import Field

    world = crowd_world()
    student = train(world)
    other = crowd_world(name="other", seed=3)
    _other_pictures(other)
    cache = other.cache_dir
    (cache / read_current(cache).encoders["context"]).rename(cache / "away")
    field = Field(name="vector", dtype="float32", shape=(6,))
    made = create_feature_set(cache, encoder="context", recipe={"version": 2}, fields=(field,))
    write_current(cache, {"context": made.directory.name}, "test")
    with pytest.raises(CacheError, match=r"context-\w+: expected features context of the recipe"):
        features(other, student)


def test_a_pair_that_came_in_after_the_extraction_is_named(crowd_world: Make) -> None:
    from sentifuse.data.manifest import Manifest, read_manifest, write_manifest

    world = crowd_world()
    student = train(world)
    folder = world.artifacts / "datasets" / world.name
    manifest = read_manifest(folder)
    last = manifest.pairs[-1]
    values = {name: getattr(last, name) for name in last.__slots__} | {"id": "late-1", "image_digest": "f" * 64}
    write_manifest(folder, Manifest(manifest.root, (*manifest.pairs, type(last)(**values))))
    with pytest.raises(CacheError, match=r"1 of 61 pairs have no row: late-1\..*extract --dataset crowd"):
        features(world, student)


def test_a_folder_that_lacks_a_fold_is_refused(world: Any) -> None:
    student = train(world)
    (student.path / "fold-3").rename(student.path / "elsewhere")
    with pytest.raises(DataError, match=r"no fold-3/"):
        features(world, student)


def test_an_unknown_student_is_refused(world: Any) -> None:
    with pytest.raises(ConfigError, match="expected a student folder or the name of one"):
        write_features(FeaturesRequest(artifacts=world.artifacts, dataset=world.name, student=Path("nobody")))
