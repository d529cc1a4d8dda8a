"""Students as the encoder `crowd` runs them: their numbers are those of their parts, computed in another way."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from scipy.special import erf, softmax

from sentifuse import ConfigError
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.models.located import read_folder
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.students import read_student, write_student

HEADS: dict[str, dict[str, Any]] = {
    "exact": {"kind": "two_layer", "width": 6, "gelu": "exact"},
    "tanh": {"kind": "two_layer", "width": 6, "gelu": "tanh"},
    "mlp": {"kind": "mlp", "width": 6, "dropout": 0.5},
    "linear": {"kind": "linear"},
}


def head_in_numpy(head: dict[str, Any], tensors: dict[str, Any], x: Any) -> tuple[Any, Any]:
    """Logits and hidden of one vector, float64."""
    w = {name.removeprefix("head."): value.astype(np.float64) for name, value in tensors.items()}
    hidden = x.astype(np.float64)
    if head["kind"] == "mlp":
        hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5) * w["norm.weight"] + w["norm.bias"]
    if head["kind"] != "linear":
        z = w["hidden.weight"] @ hidden + w["hidden.bias"]
        if head.get("gelu") == "tanh":
            hidden = 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
        else:
            hidden = 0.5 * z * (1 + erf(z / math.sqrt(2)))
    return w["classifier.weight"] @ hidden + w["classifier.bias"], hidden


def test_a_vit_student_with_a_linear_head_is_the_librarys_classifier(
    tmp_path: Path, vit_folder: Path, student_parts: Callable[..., Any], build: Any, encode: Any, photo: Any
) -> None:
    """The order of the library's model is POS, NEG, NEU; the student's rows are those of our order."""
    from transformers import ViTModel

    plain = load_file(vit_folder / "model.safetensors")
    net = ViTModel.from_pretrained(vit_folder, add_pooling_layer=False)
    tensors = {f"vit.{name}": value.numpy() for name, value in net.state_dict().items()}
    for part in ("weight", "bias"):
        tensors[f"head.classifier.{part}"] = plain[f"classifier.{part}"][[1, 2, 0]]
    config = json.loads((vit_folder / "config.json").read_text())
    processor = json.loads((vit_folder / "preprocessor_config.json").read_text())
    parts = student_parts("vit", head={"kind": "linear", "in": 32}, vit=config)
    folder = write_student(tmp_path / "student", replace(parts, tensors=tensors, processor=processor))
    rows = [(photo(40, 30), None), (photo(300, 90), None)]
    student = build("crowd", folder)
    for ours, theirs in zip(encode(student, rows), encode(build("crowd", vit_folder), rows), strict=True):
        np.testing.assert_allclose(ours["probabilities"], theirs["probabilities"], atol=1e-6)
        np.testing.assert_allclose(ours["embedding"], theirs["embedding"], atol=1e-6)
    assert [(field.name, field.shape) for field in student.fields] == [("probabilities", (3,)), ("embedding", (32,))]


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        ("context", "exact"),
        ("clip", "exact"),
        ("crowd", "exact"),
        ("crowd", "tanh"),
        ("crowd", "mlp"),
        ("crowd", "linear"),
    ],
)
def test_a_probe_is_its_head_over_the_features_of_its_base(
    tmp_path: Path, request: pytest.FixtureRequest, write_probe: Any, build: Any, encode: Any, photo: Any,
    encoder: str, name: str,
) -> None:  # fmt: skip
    model = request.getfixturevalue({"context": "resnet_file", "crowd": "vit_folder", "clip": "clip_folder"}[encoder])
    architecture = {"architecture": "resnet18"} if encoder == "context" else {}
    settings = {"resize": [64, 64], "crop": 0} if encoder == "context" else {}
    width = {"context": 512, "crowd": 32, "clip": 24}[encoder]
    head = {**HEADS[name], "in": width}
    folder = write_probe(tmp_path / "s", encoder, model, head=head, settings=settings, temperature=2.0, **architecture)
    row = (photo(70, 50), None)
    base = build(encoder, model, **architecture, **settings)
    field = {"context": "vector", "crowd": "embedding", "clip": "image"}[encoder]
    vector = encode(base, [(row[0], "any words" if encoder == "clip" else None)])[0][field]
    logits, hidden = head_in_numpy(head, load_file(folder / "model.safetensors"), vector)
    student = build("crowd", folder)
    found = encode(student, [row])[0]
    np.testing.assert_allclose(found["embedding"], hidden, atol=2e-6)
    np.testing.assert_allclose(found["probabilities"], softmax(logits / 2.0), atol=1e-6)
    assert student.fields[1].shape == hidden.shape


def test_a_students_folder_needs_nothing_outside_it(
    tmp_path: Path, vit_folder: Path, write_probe: Any, build: Any, encode: Any, photo: Any
) -> None:
    base = Path(shutil.copytree(vit_folder, tmp_path / "base-model"))
    folder = write_probe(tmp_path / "s", "crowd", base)
    before = encode(build("crowd", folder), [(photo(70, 50), None)])[0]
    shutil.rmtree(base)
    moved = shutil.move(folder, tmp_path / "elsewhere")
    after = encode(build("crowd", Path(moved)), [(photo(70, 50), None)])[0]
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name])


def test_each_fold_answers_with_its_own_head(
    tmp_path: Path, vit_folder: Path, write_probe: Any, build: Any, encode: Any, photo: Any
) -> None:
    folder = write_probe(tmp_path / "s", "crowd", vit_folder, folds=1)
    row = [(photo(70, 50), None)]
    vector = encode(build("crowd", vit_folder), row)[0]["embedding"]
    for place in (folder, folder / "fold-1"):
        logits, _ = head_in_numpy(dict(read_student(place).head), load_file(place / "model.safetensors"), vector)
        found = encode(build("crowd", place), row)[0]["probabilities"]
        np.testing.assert_allclose(found, softmax(logits), atol=1e-6)


def test_a_row_of_the_base_that_is_not_finite_fails_alone(
    tmp_path: Path, vit_folder: Path, write_probe: Any, build: Any, photo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = build("crowd", write_probe(tmp_path / "s", "crowd", vit_folder))
    batch = [encoder.backbone.prepare(photo(40 + i, 30), None) for i in range(2)]
    forward = encoder.backbone.body.base.backbone.forward

    def broken(rows: Any) -> Any:
        outputs = {name: value.copy() for name, value in forward(rows).items()}
        outputs["embedding"][1] = np.inf
        return outputs

    monkeypatch.setattr(encoder.backbone.body.base.backbone, "forward", broken)
    good, bad = encoder.read(encoder.backbone.forward(batch), batch)
    assert np.isfinite(good["probabilities"]).all()
    assert "is not finite" in str(bad)


def test_features_of_another_version_of_the_base_are_refused(
    tmp_path: Path, vit_folder: Path, write_probe: Any, build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentifuse.extract.encoders.crowd import Crowd

    folder = write_probe(tmp_path / "s", "crowd", vit_folder)
    monkeypatch.setattr(Crowd, "version", 2)
    with pytest.raises(ModelMismatch, match="trained on features of crowd version 1, this release computes version 2"):
        build("crowd", folder)


def test_tensors_that_do_not_fit_are_named(tmp_path: Path, student_parts: Any, build: Any) -> None:
    parts = student_parts("vit")
    short = {name: value for name, value in parts.tensors.items() if name != "vit.layernorm.bias"}
    folder = write_student(tmp_path / "student", replace(parts, tensors=short))
    with pytest.raises(ModelMismatch, match=r"the tensors vit\.\* of model.safetensors do not fit config.json"):
        build("crowd", folder)


def test_a_processor_of_another_size_is_refused(tmp_path: Path, student_parts: Any, build: Any) -> None:
    parts = student_parts("vit")
    large = {**parts.processor, "size": {"height": 64, "width": 64}}
    folder = write_student(tmp_path / "student", replace(parts, processor=large))
    with pytest.raises(ModelMismatch, match="Do its files belong together"):
        build("crowd", folder)


def test_stretched_positions_are_no_setting_of_students(tmp_path: Path, student_parts: Any, build: Any) -> None:
    folder = write_student(tmp_path / "student", student_parts("vit"))
    with pytest.raises(ConfigError, match="a student says itself how its images are prepared"):
        build("crowd", folder, interpolate_positions=True)


def test_tensorflows_resize_is_used_where_the_student_asks_for_it(
    tmp_path: Path, student_parts: Any, build: Any, photo: Any
) -> None:
    image = photo(300, 90)
    parts = student_parts("vit", resize="tensorflow")
    backbone = build("crowd", write_student(tmp_path / "student", parts)).backbone
    found = backbone.body.pixels.batch([backbone.prepare(image, None)])
    pixels = torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())[None].float()
    square = torch.nn.functional.interpolate(pixels, (32, 32), mode="bilinear", align_corners=False, antialias=False)
    torch.testing.assert_close(found, square / 127.5 - 1, atol=1e-5, rtol=0)


def test_the_plain_vit_keeps_its_recipe(vit_folder: Path) -> None:
    """Old feature sets of `crowd` stay valid: what is hashed of a transformers folder is what it was."""
    from sentifuse.extract.encoder import describe_encoder
    from sentifuse.extract.profile import EncoderEntry

    model = read_folder(ModelSource(kind="path", name="x"), vit_folder)
    plan = describe_encoder(EncoderEntry(name="crowd", model=model.source), model, precision="exact", device="cpu")
    assert plan.recipe["version"] == 1
    assert plan.recipe["settings"] == {}
    assert set(plan.recipe["model"]) == {"architecture", "digest"}
    assert set(model.files) == {"config.json", "model.safetensors", "preprocessor_config.json"}
