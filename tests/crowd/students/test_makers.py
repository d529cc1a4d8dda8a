"""Making transformers fold by fold: what was begun is found again, or refused; no file is looked at twice."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sentifuse import ConfigError
from sentifuse.crowd.finetune.checkpoints import TensorFile
from sentifuse.crowd.finetune.network import build_student, read_base
from sentifuse.crowd.finetune.recipe import FinetuneRecipe
from sentifuse.crowd.steps import decay_apart, make_optimiser
from sentifuse.crowd.students import makers
from sentifuse.crowd.students.material import MaterialRequest
from sentifuse.crowd.students.train import FoldReport, StudentRequest, train_student
from sentifuse.extract.students import StudentConfig, StudentParts, read_student, write_student

SMALL = {"head_epochs": 0, "epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "is_augmented": False}


class Stopped(Exception):
    """Stands for a process that was killed."""


@pytest.fixture(scope="module", autouse=True)
def imported(tiny_vit: Path) -> None:
    """What takes seconds to import belongs to no test."""
    student = build_student(read_base(tiny_vit, 0), FinetuneRecipe())
    make_optimiser("adamw", decay_apart(student.parameters(), 0.0), 0.0).step()


def stop(report: FoldReport) -> None:
    raise Stopped


def request_of(world: Any, base: Path, **changes: Any) -> StudentRequest:
    material = MaterialRequest(artifacts=world.artifacts, dataset=world.name)
    values = {"kind": "full", "base": base, "overrides": SMALL, "device": "cpu"} | changes
    return StudentRequest(material=material, **values)


def begun(world: Any) -> list[str]:
    place = world.artifacts / "crowd" / "training"
    return sorted(path.name for path in place.iterdir()) if place.is_dir() else []


def test_the_base_may_move_and_memory_run_out_before_a_training_goes_on(
    crowd_world: Callable[..., Any], tiny_vit: Path, tmp_path: Path
) -> None:
    world = crowd_world(n=30)
    request = request_of(world, tiny_vit)
    with pytest.raises(Stopped):
        train_student(request, progress=stop)
    (name,) = begun(world)
    with pytest.raises(ConfigError, match=r"this very training was begun.*--resume"):
        train_student(request)
    moved = shutil.copytree(tiny_vit, tmp_path / "moved")
    overrides = SMALL | {"micro_batch": 8}
    train_student(replace(request, base=moved, overrides=overrides, resume=True, name="on"))
    assert begun(world) == [f"{name}.done-1"]


@pytest.mark.parametrize("changes", [{"overrides": SMALL | {"epochs": 2}}, {"seed": 1}, {"kind": "lora"}])
def test_going_on_with_what_was_never_begun_names_what_was(
    crowd_world: Callable[..., Any], tiny_vit: Path, changes: dict[str, Any]
) -> None:
    world = crowd_world(n=30)
    with pytest.raises(ConfigError, match=r"nothing begun under .*there are: none"):
        train_student(request_of(world, tiny_vit, resume=True))
    with pytest.raises(Stopped):
        train_student(request_of(world, tiny_vit), progress=stop)
    (name,) = begun(world)
    with pytest.raises(ConfigError, match=rf"nothing begun under .*there are: {name}"):
        train_student(request_of(world, tiny_vit, resume=True, **changes))
    assert begun(world) == [name]


def test_every_file_is_looked_at_once_and_no_networks_weights_stay_in_memory(
    crowd_world: Callable[..., Any], tiny_vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    kept: list[Any] = []
    find, made = makers.find_left_out, makers.Made

    def count(images: Any, rows: Any, threads: int) -> Any:
        looked.append(len(rows))
        return find(images, rows, threads)

    def keep(**values: Any) -> Any:
        kept.append(values["tensors"])
        return made(**values)

    monkeypatch.setattr(makers, "find_left_out", count)
    monkeypatch.setattr(makers, "Made", keep)
    world = crowd_world(n=60)
    student = train_student(request_of(world, tiny_vit, folds=2))
    assert looked == [len(world.ids) - 1]  # the image of pair 3 is missing
    assert [type(one) for one in kept] == [TensorFile] * 3
    assert len({folder.joinpath("model.safetensors").read_bytes() for folder in student.fold_folders.values()}) == 3
    assert list((world.artifacts / "crowd" / "training").rglob("*.safetensors")) == []  # gone with the checkpoints


def test_a_student_of_a_converted_original_sees_the_originals_pixels(
    crowd_world: Callable[..., Any], tiny_vit: Path, tmp_path: Path
) -> None:
    world = crowd_world(n=30)
    own = train_student(request_of(world, tiny_vit, name="own"))
    assert own.config.resize == "processor"
    tensors = TensorFile(own.path / "model.safetensors")
    config = StudentConfig(kind="vit", head=own.config.head, vit=own.config.vit, resize="tensorflow")
    processor = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 32, "width": 32},
        "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    base = write_student(tmp_path / "original", StudentParts(config=config, tensors=tensors, processor=processor))
    assert read_student(train_student(request_of(world, base)).path).resize == "tensorflow"
