"""context: the vector is the network's own pooled vector, from any weights file that fits, and from no other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import ResNet18_Weights, get_model

from sentifuse import ConfigError
from sentifuse.extract.errors import ModelMismatch


@torch.inference_mode()
def pooled(net: nn.Module, image: Any) -> np.ndarray:
    batch = ResNet18_Weights.IMAGENET1K_V1.transforms()(image)[None]
    return nn.Sequential(*list(net.eval().children())[:-1])(batch).flatten(1)[0].numpy()


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_the_vector_equals_torchvisions_pooled_output(
    ending: str, tmp_path: Path, resnet_file: Path, resnet_state: Any, build: Any, encode: Any, photo: Any
) -> None:
    file = resnet_file
    if ending == "pth":
        file = tmp_path / "resnet18.pth"
        torch.save(resnet_state, file)
    encoder = build("context", file, architecture="resnet18")
    net = get_model("resnet18", weights=None)
    net.load_state_dict(resnet_state)
    rows = encode(encoder, [(photo(300, 200), None), (photo(90, 500), None)])
    for row, size in zip(rows, [(300, 200), (90, 500)], strict=True):
        assert row["vector"].dtype == np.float32
        np.testing.assert_allclose(row["vector"], pooled(net, photo(*size)), atol=1e-5)


def test_the_network_is_in_evaluation_mode_and_float32(tmp_path: Path, resnet_state: Any, build: Any) -> None:
    half = {name: value.half() if value.is_floating_point() else value for name, value in resnet_state.items()}
    save_file(half, tmp_path / "half.safetensors")
    net = build("context", tmp_path / "half.safetensors", architecture="resnet18").backbone.net
    assert not any(module.training for module in net.modules())
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}


def test_the_grid_is_stored_on_request_and_its_mean_is_the_vector(
    resnet_file: Path, build: Any, encode: Any, photo: Any
) -> None:
    encoder = build("context", resnet_file, architecture="resnet18", grid=True)
    row = encode(encoder, [(photo(300, 200), None)])[0]
    assert [(field.name, field.shape) for field in encoder.fields] == [("vector", (512,)), ("grid", (512, 7, 7))]
    assert row["grid"].dtype == np.float16
    np.testing.assert_allclose(row["grid"].astype(np.float32).mean(axis=(1, 2)), row["vector"], rtol=2e-3, atol=1e-4)


# What each family pools before its head, read off torchvision by a hook on the head's input.
HEADS = {
    "mobilenet_v2": "classifier",
    "mobilenet_v3_small": "classifier",
    "efficientnet_b0": "classifier",
    "convnext_tiny": "classifier.0",
    "densenet121": "classifier",
    "regnet_y_400mf": "fc",
    "resnet50": "fc",
    "resnext50_32x4d": "fc",
    "wide_resnet50_2": "fc",
}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", sorted(HEADS))
def test_every_family_gives_the_vector_its_own_head_sees(
    architecture: str, tmp_path: Path, build: Any, encode: Any, photo: Any
) -> None:
    torch.manual_seed(0)
    net = get_model(architecture, weights=None).eval()
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    encoder = build("context", tmp_path / "net.safetensors", architecture=architecture)
    seen: list[torch.Tensor] = []
    net.get_submodule(HEADS[architecture]).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        net(ResNet18_Weights.IMAGENET1K_V1.transforms()(photo(300, 200))[None])
    expected = seen[0].flatten().numpy()
    found = encode(encoder, [(photo(300, 200), None)])[0]["vector"]
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, float(np.abs(expected).max())))


def test_weights_of_another_architecture_are_named_with_the_one_they_fit(resnet_file: Path, build: Any) -> None:
    with pytest.raises(
        ModelMismatch, match=r"not the weights of resnet34: .* missing .*It does fit resnet18: set arch"
    ):
        build("context", resnet_file, architecture="resnet34")


def test_missing_extra_and_misshaped_tensors_are_listed(tmp_path: Path, resnet_state: Any, build: Any) -> None:
    state = dict(resnet_state)
    state["head.weight"] = state.pop("layer1.0.bn1.weight")
    state["fc.weight"] = torch.zeros(3, 512)
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(ModelMismatch) as caught:
        build("context", tmp_path / "odd.safetensors", architecture="resnet18")
    message = str(caught.value)
    assert "1 tensors missing (layer1.0.bn1.weight)" in message
    assert "1 tensors unexpected (head.weight)" in message
    assert "1 tensors of another shape (fc.weight (3, 512) instead of (1000, 512))" in message


def test_an_unknown_architecture_is_named_with_the_nearest(resnet_file: Path, build: Any) -> None:
    with pytest.raises(ConfigError, match=r"unknown architecture 'resnet81'; did you mean 'resnet18'"):
        build("context", resnet_file, architecture="resnet81")
    with pytest.raises(ConfigError, match="unknown architecture 'vit_b_16'"):
        build("context", resnet_file, architecture="vit_b_16")


@pytest.mark.parametrize("name", ["noise.pth", "code.pth", "list.pth"])
def test_a_file_that_is_no_state_dict_is_refused_and_never_run(name: str, tmp_path: Path, build: Any) -> None:
    file = tmp_path / name
    if name == "noise.pth":
        file.write_bytes(b"\x00\x01 not weights" * 50)
    else:
        torch.save({"w": Payload(tmp_path / "ran")} if name == "code.pth" else [torch.zeros(2)], file)
    with pytest.raises(ModelMismatch, match=r"cannot be read as weights|holds a list"):
        build("context", file, architecture="resnet18")
    assert not (tmp_path / "ran").exists()


def test_a_transformers_folder_is_no_image_network(bert_folder: Path, build: Any) -> None:
    with pytest.raises(ConfigError, match="a transformers folder, expected a weights file"):
        build("context", bert_folder)


def test_tensorflow_padding_equals_padding_by_hand(tmp_path: Path, build: Any, photo: Any) -> None:
    torch.manual_seed(0)
    net = get_model("mobilenet_v2", weights=None).eval()
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    model = {"architecture": "mobilenet_v2", "resize": [96, 96], "crop": 0}
    theirs = build("context", tmp_path / "net.safetensors", padding="tensorflow", **model).backbone
    ours = build("context", tmp_path / "net.safetensors", **model).backbone
    strided = [module for module in net.features.modules() if isinstance(module, nn.Conv2d) and module.stride == (2, 2)]
    assert len(strided) == 5
    for module in strided:
        module.padding = (0, 0)
        module.register_forward_pre_hook(lambda _, inputs: nn.functional.pad(inputs[0], (0, 1, 0, 1)))
    prepared = theirs.prepare(photo(200, 100), None)
    scaled = torch.from_numpy(prepared.pixels.copy()).permute(2, 0, 1)[None].float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = net.features((scaled - mean.view(3, 1, 1)) / std.view(3, 1, 1)).numpy()
    found = theirs.forward([prepared])["map"]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=1e-5 * scale)
    assert np.abs(ours.forward([prepared])["map"] - expected).max() > 1e-3 * scale


def test_tensorflow_padding_is_for_mobilenet_v2_only(resnet_file: Path, build: Any) -> None:
    with pytest.raises(ConfigError, match="is for mobilenet_v2, not for resnet18"):
        build("context", resnet_file, architecture="resnet18", padding="tensorflow")


@pytest.mark.weights
def test_the_real_mobilenet_finds_photographs_of_one_kind_closer(
    mobilenet_file: Path, shared: Path, build: Any, encode: Any
) -> None:
    from sentifuse.data.images import read_image

    model = {"resize": [224, 224], "crop": 0, "mean": [0.5] * 3, "std": [0.5] * 3, "padding": "tensorflow"}
    encoder = build("context", mobilenet_file, architecture="mobilenet_v2", **model)
    assert encoder.fields[0].shape == (1280,)
    files = sorted((shared / "mvsa_single").rglob("*.jpg"))[:3]
    images = [read_image(file) for file in files]
    # The middle of a photograph is more like the photograph than another one is.
    crops = [
        image.crop((image.width // 10, image.height // 10, image.width * 9 // 10, image.height * 9 // 10))
        for image in images
    ]
    rows = encode(encoder, [(image, None) for image in (*images, *crops)])
    vectors = np.stack([row["vector"] for row in rows])
    assert 0 <= vectors.min() <= vectors.max() <= 6  # the last layer is a ReLU6
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = unit[:3] @ unit[3:].T
    assert (likeness.argmax(axis=1) == np.arange(3)).all()


@pytest.mark.weights
def test_the_real_file_is_half_precision_on_disk(mobilenet_file: Path) -> None:
    assert load_file(mobilenet_file)["features.0.0.weight"].dtype == torch.float16


class Payload:
    """Would create a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))
