"""Fine-tuning by a protocol: from the model's own weights, head included; probes on their frozen base."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sentifuse import ConfigError
from sentifuse.crowd.benchmarks.answers import answer_images
from sentifuse.crowd.benchmarks.model import find_model
from sentifuse.crowd.benchmarks.tasks import Task
from sentifuse.crowd.benchmarks.trainers import as_student, make_trainer
from sentifuse.crowd.finetune.checkpoints import TensorFile
from sentifuse.crowd.finetune.images import Squares
from sentifuse.crowd.finetune.network import read_base
from sentifuse.data.images import read_image
from sentifuse.extract.students import StudentParts, read_student, write_student

CLASSES = [0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 0, 1]


@pytest.fixture
def images(tmp_path: Path, write_images: Callable[..., list[str]]) -> list[Path]:
    return [tmp_path / "images" / name for name in write_images(tmp_path / "images", CLASSES)]


def task_of(images: list[Path], preset: Any = "five_fold", **changes: Any) -> Task:
    values: dict[str, Any] = {
        "name": "test",
        "preset": preset,
        "images": images,
        "classes": np.where(np.array(CLASSES) == 1, 2, 0).astype(np.int64),
        "train_rows": np.arange(8),
        "val_rows": np.arange(0),
        "test_rows": np.arange(8, 12),
    }
    return Task(**(values | changes))


def test_a_classifier_as_a_student_gives_the_same_answers(
    tmp_path: Path, vit_classifier: Path, images: list[Path]
) -> None:
    model = find_model(tmp_path, str(vit_classifier))
    student = find_model(tmp_path, str(as_student(model, tmp_path / "student")))
    one, other = (
        answer_images(found.plan.build(device="cpu", share={}), images).probabilities for found in (model, student)
    )
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert one.std() > 0.01


def test_a_transformer_begins_with_its_own_weights(tmp_path: Path, vit_classifier: Path, images: list[Path]) -> None:
    model = find_model(tmp_path, str(vit_classifier))
    still = {"epochs": 1, "learning_rate": 1e-12, "head_learning_rate": 1e-12}
    made = make_trainer(model, work=tmp_path / "work", overrides=still)(task_of(images))
    before = answer_images(model.plan.build(device="cpu", share={}), images[8:]).probabilities
    np.testing.assert_allclose(made.answers.probabilities, before, atol=1e-4)
    assert list((tmp_path / "work").iterdir()) == []


def test_an_unreadable_image_is_left_out_and_named(tmp_path: Path, vit_classifier: Path, images: list[Path]) -> None:
    images[2].write_bytes(b"<html>")
    images[9].unlink()
    model = find_model(tmp_path, str(vit_classifier))
    made = make_trainer(model, work=tmp_path / "work", overrides={"epochs": 1})(task_of(images))
    assert made.n_train == 7
    assert made.left_out == {str(images[2]): "not an image"}
    assert made.answers.statuses == ("ok", "missing", "ok", "ok")


def test_a_probe_learns_by_its_head_alone(tmp_path: Path, probe: Path, images: list[Path]) -> None:
    images[2].write_bytes(b"<html>")
    images[9].unlink()
    model = find_model(tmp_path, str(probe))
    trainer = make_trainer(model, work=tmp_path / "work", overrides={"head_learning_rate": 0.03, "batch_size": 2})
    made = trainer(task_of(images))
    assert made.n_train == 7
    assert made.left_out == {str(images[2]): "not an image"}
    assert made.answers.statuses == ("ok", "missing", "ok", "ok")
    answers = made.answers.probabilities
    assert np.isnan(answers[1]).all()
    assert ((answers[:, 2] > answers[:, 0]) == (np.array(CLASSES[8:]) == 1))[[0, 2, 3]].all()
    # Each task begins anew, whatever was trained before.
    assert trainer(task_of(images)).answers.probabilities.tobytes() == answers.tobytes()


def test_a_probe_chooses_by_validation(tmp_path: Path, probe: Path, images: list[Path]) -> None:
    model = find_model(tmp_path, str(probe))
    task = task_of(images, "fi_splits", train_rows=np.arange(6), val_rows=np.arange(6, 8))
    made = make_trainer(model, work=tmp_path / "work")(task)
    assert made.best["val_accuracy"] in (0.0, 0.5, 1.0)


def test_an_unknown_setting_is_refused(tmp_path: Path, probe: Path) -> None:
    with pytest.raises(ConfigError, match="epochs"):
        make_trainer(find_model(tmp_path, str(probe)), work=tmp_path, overrides={"epoch": 3})


def test_parts_may_not_overlap(images: list[Path]) -> None:
    with pytest.raises(ValueError, match="in two"):
        task_of(images, test_rows=np.arange(7, 12))


@pytest.fixture
def original(tmp_path: Path, vit_classifier: Path) -> Path:
    """A student whose images are resized as those of a converted original are."""
    usual = as_student(find_model(tmp_path, str(vit_classifier)), tmp_path / "usual")
    config = replace(read_student(usual), resize="tensorflow")
    processor = json.loads((usual / "preprocessor_config.json").read_text(encoding="utf-8"))
    tensors = TensorFile(usual / "model.safetensors")
    return write_student(tmp_path / "original", StudentParts(config=config, tensors=tensors, processor=processor))


def test_a_converted_original_is_trained_and_answers_on_the_pixels_that_it_was_asked_about(
    tmp_path: Path, original: Path
) -> None:
    """Noise, of which an antialiased resize leaves little: other pixels would be other answers."""
    images = []
    for i in range(12):
        images.append(tmp_path / f"{i}.png")
        pixels = np.random.default_rng(i).integers(0, 256, (150, 140, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(images[-1])
    model = find_model(tmp_path, str(original))
    encoder = model.plan.build(device="cpu", share={})
    base = read_base(original, 0)
    squares = Squares(side_px=base.side_px, resample=2, resize=base.resize)
    for path in images[:3]:
        prepared = encoder.backbone.prepare(read_image(path), None)
        np.testing.assert_array_equal(squares.load(path).transpose(2, 0, 1), prepared.pixels)
    still = {"epochs": 1, "learning_rate": 1e-12, "head_learning_rate": 1e-12, "dropout": 0.0}
    heard: list[tuple[str, float]] = []
    made = make_trainer(
        model, work=tmp_path / "work", overrides=still, report=lambda name, row: heard.append((name, row["step"]))
    )(task_of(images, "fi_splits", val_rows=np.arange(6, 8), train_rows=np.arange(6)))
    before = answer_images(encoder, images[8:]).probabilities
    np.testing.assert_allclose(made.answers.probabilities, before, atol=1e-5)
    assert heard == [("test", 1), ("test", 1)]  # of its steps, of its validation
    # Its own loss on the validation images is that of the encoder's answers.
    val = answer_images(encoder, images[6:8]).probabilities[:, [0, 2]].astype(np.float64)
    shares = val / val.sum(1, keepdims=True)
    expected = -np.log([shares[0, CLASSES[6]], shares[1, CLASSES[7]]]).mean()
    assert made.best["val_loss"] == pytest.approx(expected, abs=1e-4)
