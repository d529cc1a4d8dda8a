"""A transformer's students, from image files to features out of fold: plumbing, with a miniature network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sentifuse import ConfigError
from sentifuse.cache.current import read_current
from sentifuse.cache.reader import FeatureReader
from sentifuse.crowd.students.features import FeaturesRequest, write_features
from sentifuse.crowd.students.folder import StudentFolder
from sentifuse.crowd.students.material import MaterialRequest
from sentifuse.crowd.students.out_of_fold import ALL
from sentifuse.crowd.students.train import StudentRequest, train_student
from sentifuse.data.manifest import read_manifest
from sentifuse.extract.encoder import describe_encoder
from sentifuse.extract.models.located import read_folder
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.profile import EncoderEntry
from sentifuse.extract.seen_images import read_seen

SMALL = {"head_epochs": 0, "epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "is_augmented": False, "image_px": 32}


def train(world: Any, base: Path, **changes: Any) -> StudentFolder:
    material = MaterialRequest(artifacts=world.artifacts, dataset=world.name)
    values = {"kind": "full", "base": base, "overrides": SMALL, "device": "cpu"} | changes
    return train_student(StudentRequest(material=material, **values))


def encode(folder: Path, image: Path) -> dict[str, np.ndarray]:
    """One image by the encoder `crowd` on a student folder, without any of our code for features."""
    source = ModelSource(kind="path", name=str(folder))
    plan = describe_encoder(
        EncoderEntry(name="crowd", model=source), read_folder(source, folder), precision="exact", device="cpu"
    )
    encoder = plan.build(device="cpu", share={})
    with Image.open(image) as picture:
        batch = [encoder.backbone.prepare(picture.convert("RGB"), None)]
    [values] = encoder.read(encoder.backbone.forward(batch), batch)
    assert isinstance(values, dict)
    return values


def test_every_image_is_answered_by_the_transformer_that_did_not_see_it(world: Any, tiny_vit: Path) -> None:
    student = train(world, tiny_vit, folds=2)
    assert student.config.kind == "vit"
    assert student.document["base"]["digest"]
    assert (student.path / "fold-2" / "steps.csv").is_file()
    assert not [*world.artifacts.glob("crowd/training/*/fold-*/checkpoint*")]  # nothing to go on from is left
    request = FeaturesRequest(artifacts=world.artifacts, dataset=world.name, student=student.path, device="cpu")
    found = write_features(request)
    assert found.statuses == {"ok": 59, "missing": 1}  # 5-1 has an image: only its vector failed
    assert (found.by_fold[ALL], sum(found.by_fold.values())) == (1, 60)
    assert write_features(request).computed == 0
    reader = FeatureReader(found.directory)
    manifest = read_manifest(world.artifacts / "datasets" / world.name)
    pairs = manifest.by_id()
    for image in (read_seen(student.path)[0], read_seen(student.path)[-1]):
        expected = encode(student.fold_folders[image.fold], manifest.image_file(pairs[image.id]))
        other = encode(student.fold_folders[3 - image.fold], manifest.image_file(pairs[image.id]))
        for field, value in expected.items():
            assert np.allclose(reader.value(image.id, field), value, atol=1e-5)
            assert not np.allclose(other[field], value, atol=1e-5)


def test_a_stopped_training_is_gone_on_with_only_when_told(
    crowd_world: Callable[..., Any], tiny_vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentifuse.crowd.students import makers

    world = crowd_world()
    finetune, calls = makers.finetune, []

    def stopped(request: Any, **settings: Any) -> Any:
        calls.append(request.out.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return finetune(request, **settings)

    monkeypatch.setattr(makers, "finetune", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(world, tiny_vit, folds=2)
    with pytest.raises(ConfigError, match="the same command with --resume"):
        train(world, tiny_vit, folds=2)
    student = train(world, tiny_vit, folds=2, resume=True)
    assert calls == ["fold-0", "fold-1", "fold-0", "fold-1", "fold-2"]
    undisturbed = train(world, tiny_vit, folds=2)
    for fold, folder in student.fold_folders.items():
        weights = (folder / "model.safetensors").read_bytes()
        assert weights == (undisturbed.fold_folders[fold] / "model.safetensors").read_bytes()


def test_a_probe_is_read_once_for_all_shards_of_its_fold(
    crowd_world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentifuse.crowd.students import rows
    from sentifuse.extract.plan import list_inputs

    world = crowd_world()
    material = MaterialRequest(artifacts=world.artifacts, dataset=world.name)
    student = train_student(StudentRequest(material=material, folds=2, overrides={"epochs": 1, "width": 8}))
    read, load_file = [], rows.load_file
    monkeypatch.setattr(rows, "load_file", lambda path: (read.append(path.parent.name), load_file(path))[1])
    reader = FeatureReader(read_current(world.cache_dir).directory("context"))
    answers = rows.ProbeAnswers(student.fold_folders, reader, "vector", world.name)
    asked = list_inputs(read_manifest(world.artifacts / "datasets" / world.name), ("image",))
    found = [answers.values(fold, asked)["9-1"]["embedding"].tolist() for fold in (1, 1, 2, 2, 1)]
    assert read == ["fold-1", "fold-2", "fold-1"]
    assert found[0] == found[1] == found[4] != found[2]
