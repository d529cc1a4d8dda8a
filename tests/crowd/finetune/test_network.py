"""Laws of the network: a base is what its folder says, positions are stretched as transformers does, heads go on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from sentifuse import ConfigError, ResourceError
from sentifuse.crowd.finetune.network import VitStudent, build_student, read_base
from sentifuse.crowd.finetune.recipe import FinetuneRecipe

SQUARES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8))


@pytest.fixture
def changed_vit(tiny_vit: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the base with other values in its config.json (None: without the key)."""

    def change(**values: Any) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(tiny_vit, folder)
        document = json.loads((folder / "config.json").read_text()) | values
        (folder / "config.json").write_text(json.dumps(document))
        return folder

    return change


def build(folder: Path, image_px: int = 0, **recipe: Any) -> VitStudent:
    return build_student(read_base(folder, image_px), FinetuneRecipe(**recipe)).eval()


def write_student(student: VitStudent, folder: Path, **changes: Any) -> Path:
    """A student folder, as far as a base needs it."""
    folder.mkdir()
    document = {"model_type": "sentifuse_student", "format": 1, "kind": "vit"}
    document |= {"head": student.head_config, "vit": student.vit_config(), **changes}
    (folder / "config.json").write_text(json.dumps(document))
    (folder / "preprocessor_config.json").write_text(json.dumps(student.processor))
    save_file(student.tensors(), folder / "model.safetensors")
    return folder


def test_logits_are_the_heads_of_the_class_token(tiny_vit: Path) -> None:
    from transformers import ViTModel

    student = build(tiny_vit)
    net = ViTModel.from_pretrained(tiny_vit, add_pooling_layer=False).eval()
    pixels = SQUARES.permute(0, 3, 1, 2) / 255 * 2 - 1
    with torch.no_grad():
        expected = student.head(net(pixel_values=pixels).last_hidden_state[:, 0])[0]
        torch.testing.assert_close(student(SQUARES), expected, atol=1e-5, rtol=1e-5)


def test_stretched_positions_are_those_of_transformers(tiny_vit: Path) -> None:
    from transformers import ViTModel

    student = build(tiny_vit, 48)
    net = ViTModel.from_pretrained(tiny_vit, add_pooling_layer=False).eval()
    pixels = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state
        torch.testing.assert_close(student.vit(pixel_values=pixels).last_hidden_state, expected)
    assert student.vit_config()["image_size"] == 48
    assert student.processor["size"] == {"height": 48, "width": 48}
    assert student.vit_config()["layer_norm_eps"] == 1e-6


def test_a_student_goes_on_with_its_own_head_and_range(tiny_vit: Path, tmp_path: Path) -> None:
    first = build(tiny_vit, head="mlp")
    first.processor["do_normalize"] = False  # 0..1
    again = build(write_student(first, tmp_path / "student"), head="linear")
    assert again.head_config == first.head_config
    assert {name: value.tobytes() for name, value in again.tensors().items()} == {
        name: value.tobytes() for name, value in first.tensors().items()
    }
    assert (again.mean.sum(), again.std.sum()) == (0, 3)


@pytest.mark.parametrize("head", ["two_layer", "mlp", "linear"])
def test_gradients_reach_every_weight_unless_frozen(tiny_vit: Path, head: str) -> None:
    student = build(tiny_vit, head=head)
    student(SQUARES, is_frozen=True).square().sum().backward()
    assert {name for name, value in student.named_parameters() if value.grad is not None} == {
        name for name, _ in student.named_parameters() if name.startswith("head.")
    }
    student(SQUARES).square().sum().backward()
    assert [name for name, value in student.named_parameters() if value.grad is None] == []


def test_dropout_is_that_of_the_recipe_and_not_written_down(tiny_vit: Path) -> None:
    student = build(tiny_vit, dropout=0.3)
    assert {m.p for m in student.vit.modules() if isinstance(m, torch.nn.Dropout)} == {0.3}
    assert student.vit_config()["hidden_dropout_prob"] == 0.0


def test_another_kind_of_network_is_refused(changed_vit: Callable[..., Path]) -> None:
    with pytest.raises(ResourceError, match="a network of type bert, expected a vision transformer"):
        read_base(changed_vit(model_type="bert"), 0)


def test_a_probe_is_no_base(changed_vit: Callable[..., Path]) -> None:
    with pytest.raises(ResourceError, match="a student of kind probe"):
        read_base(changed_vit(model_type="sentifuse_student", kind="probe"), 0)


def test_a_folder_without_its_files_is_refused(tmp_path: Path, changed_vit: Callable[..., Path]) -> None:
    with pytest.raises(ResourceError, match=r"found no config\.json"):
        read_base(tmp_path, 0)
    folder = changed_vit()
    (folder / "model.safetensors").unlink()
    with pytest.raises(ResourceError, match="found no weights"):
        read_base(folder, 0)
    (folder / "config.json").write_text("{")
    with pytest.raises(ResourceError, match="cannot be read as JSON"):
        read_base(folder, 0)


def test_squares_that_patches_do_not_fill_are_refused(tiny_vit: Path) -> None:
    with pytest.raises(ConfigError, match=r"patches of 8 pixels, found 45.*--set image_px=48"):
        read_base(tiny_vit, 45)


def test_a_student_with_missing_weights_is_refused(tiny_vit: Path, tmp_path: Path) -> None:
    folder = write_student(build(tiny_vit), tmp_path / "student")
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in tensors.items() if "layernorm.weight" not in name}, folder / "model.safetensors"
    )
    with pytest.raises(ResourceError, match="weights do not fit"):
        build(folder)


def test_squares_of_another_type_are_refused(tiny_vit: Path) -> None:
    with pytest.raises(ValueError, match="expected uint8 or float32"):
        build(tiny_vit)(SQUARES.double())


def test_squares_that_were_not_rounded_are_read_alike(tiny_vit: Path) -> None:
    student = build(tiny_vit)
    with torch.no_grad():
        torch.testing.assert_close(student(SQUARES.float()), student(SQUARES))


def test_a_base_says_how_its_images_are_resized(tiny_vit: Path, tmp_path: Path) -> None:
    student = build(tiny_vit)
    assert read_base(write_student(student, tmp_path / "own"), 0).resize == "processor"
    assert read_base(write_student(student, tmp_path / "original", resize="tensorflow"), 0).resize == "tensorflow"
    assert read_base(tiny_vit, 0).resize == "processor"


@pytest.mark.parametrize("gelu", ["exact", "tanh"])
def test_a_new_head_has_the_gelu_of_the_recipe(tiny_vit: Path, gelu: str) -> None:
    student = build(tiny_vit, gelu=gelu)
    assert student.head_config == {"kind": "two_layer", "in": 32, "width": 32, "gelu": gelu}
    assert student.head.gelu == gelu
