"""Converted checkpoints give the outputs of the original's own forward pass, and known mistakes are noticed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sentifuse import ConfigError, ResourceError
from sentifuse.extract import keras_names, keras_vit
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.keras_names import VARIANTS, Variant
from sentifuse.extract.keras_vit import ConvertedStudent, convert_crowd
from sentifuse.extract.students import read_student

SMALL = Variant(patch_px=8, image_px=32, hidden_size=24, mlp_size=40, layer_count=2, attention_heads=3)
ZERO_TO_ONE = replace(SMALL, is_zero_to_one=True)


@pytest.fixture(autouse=True)
def small_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published sizes in miniature: B_16 and B_32 differ in patch and range, as the real ones do."""
    small = {"B_16": replace(SMALL, patch_px=4), "B_32": ZERO_TO_ONE, "L_32": replace(SMALL, hidden_size=36)}
    for name in list(VARIANTS):
        monkeypatch.delitem(VARIANTS, name)
    for name, size in small.items():
        monkeypatch.setitem(VARIANTS, name, size)


@pytest.fixture(autouse=True, scope="module")
def imported() -> None:
    """What takes seconds to import belongs to no test."""
    from transformers import AutoImageProcessor, ViTModel  # noqa: F401


@pytest.fixture
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(3)]


@pytest.fixture
def difference(images: Any, keras: Any, build: Any, encode: Any) -> Callable[[Path, Any, Variant], float]:
    """Largest difference of a student's probabilities and embeddings from the forward pass in numpy, as a share."""
    return lambda folder, weights, size: _difference(keras, folder, weights, size, images, build, encode)


def _difference(keras: Any, folder: Path, weights: Any, size: Variant, images: Any, build: Any, encode: Any) -> float:
    rows = encode(build("crowd", folder), [(Image.fromarray(image), None) for image in images])
    largest = 0.0
    for row, image in zip(rows, images, strict=True):
        shares, token = keras.forward(weights, size, image)
        of_token = np.abs(row["embedding"] - token).max() / np.abs(token).max()
        largest = max(largest, float(np.abs(row["probabilities"] - shares).max()), float(of_token))
    return largest


@pytest.mark.parametrize("variant", ["B_16", "B_32", "L_32"])
@pytest.mark.parametrize("layout", ["whole model", "weights alone"])
def test_a_converted_file_gives_the_outputs_of_the_originals_forward_pass(
    tmp_path: Path, keras: Any, difference: Any, variant: str, layout: str
) -> None:
    size = VARIANTS[variant]
    weights = keras.keras_weights(size)
    config = keras.model_config(size) if layout == "whole model" else None
    made = convert_crowd(keras.write_keras(tmp_path / "m.h5", weights, config=config), tmp_path / "student")
    assert (made.layout, made.variant, made.gelu, made.is_new) == (layout, variant, "tanh", True)
    assert difference(made.folder, weights, size) < 1e-6


def test_in_double_precision_the_two_passes_are_one(
    tmp_path: Path, keras: Any, images: Any, build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left in float32 is rounding: no formula differs."""
    weights = keras.keras_weights(SMALL)
    monkeypatch.setitem(VARIANTS, "B_32", SMALL)
    backbone = build(
        "crowd", convert_crowd(keras.write_keras(tmp_path / "m.h5", weights), tmp_path / "s").folder
    ).backbone
    pixels = torch.from_numpy((images[0] / 127.5 - 1).transpose(2, 0, 1).copy())[None]
    with torch.inference_mode():
        token = backbone.body.net.double()(pixel_values=pixels).last_hidden_state[:, 0]
        logits, _ = backbone.head.double()(token)
    shares, expected = keras.forward(weights, SMALL, images[0])
    np.testing.assert_allclose(token[0], expected, atol=1e-12)
    np.testing.assert_allclose(logits.softmax(1)[0], shares, atol=1e-12)


def without_turning_squares(kernel: Any) -> Any:
    if kernel.ndim == 2 and kernel.shape[0] != kernel.shape[1]:
        return np.ascontiguousarray(kernel.T)
    return kernel if kernel.ndim == 2 else np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))


def swap(first: str, second: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Take each of two weights of a block for the other."""
    right = keras_names._expected

    def wrong(size: Variant) -> Any:
        table = right(size)
        for n in range(size.layer_count):
            for leaf in ("kernel", "bias"):
                one, two = (f"encoderblock_{n}/{name}/{leaf}" for name in (first, second))
                table[one], table[two] = table[two], table[one]
        return table

    return lambda monkeypatch: monkeypatch.setattr(keras_names, "_expected", wrong)


MISTAKES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "B/32 on -1 to 1": lambda patch: patch.setitem(VARIANTS, "B_32", SMALL),
    "the epsilon of transformers": lambda patch: patch.setattr(keras_vit, "EPSILON", 1e-12),
    "query and key swapped": swap("query", "key"),
    "value and out swapped": swap("value", "out"),
    "square kernels not turned": lambda patch: patch.setattr(keras_names, "_turned", without_turning_squares),
    "the head's GELU exact": lambda patch: patch.setattr(keras_vit, "_gelu", lambda layers, source: "exact"),
    "another number of heads": lambda patch: patch.setitem(VARIANTS, "B_32", replace(ZERO_TO_ONE, attention_heads=2)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_known_mistakes_of_a_conversion_are_noticed(
    tmp_path: Path, keras: Any, difference: Any, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    weights = keras.keras_weights(ZERO_TO_ONE)
    file = keras.write_keras(tmp_path / "m.h5", weights)
    MISTAKES[mistake](monkeypatch)
    made = convert_crowd(file, tmp_path / "student")
    assert difference(made.folder, weights, ZERO_TO_ONE) > 1e-5


@pytest.fixture
def converted(tmp_path: Path, keras: Any) -> Callable[..., ConvertedStudent]:
    """Of a whole model; `weights` and `config` change it, the rest goes to the converter."""

    def convert(**changes: Any) -> ConvertedStudent:
        weights = changes.pop("weights", lambda w: w)(keras.keras_weights(SMALL))
        config = changes.pop("config", lambda c: c)(keras.model_config(SMALL))
        file = tmp_path / "model.h5"
        keras.write_keras(file, weights, config=config, is_nested=changes.pop("is_nested", True))
        return convert_crowd(file, tmp_path / changes.pop("target", "student"), **changes)

    return convert


Convert = Callable[..., ConvertedStudent]


@pytest.mark.parametrize("style", ["flat", "underscores", "class token without a name", "deeper"])
def test_names_are_told_by_their_ends(converted: Convert, style: str) -> None:
    def rename(weights: dict[str, Any]) -> dict[str, Any]:
        changes: dict[str, Callable[[str], str]] = {
            "flat": lambda name: name,
            "underscores": lambda name: name.replace("Transformer/", "Transformer_"),
            "class token without a name": lambda name: name.replace("class_token/cls", "class_token/Variable"),
            "deeper": lambda name: name if name.startswith("dense") else f"model/vit-b32/{name}",
        }
        return {changes[style](name): value for name, value in weights.items()}

    usual = converted(target="usual")
    assert converted(weights=rename, is_nested=style != "flat").digest == usual.digest


def test_the_folder_says_what_the_original_was(converted: Convert) -> None:
    made = converted()
    config = read_student(made.folder)
    assert config.kind == "vit"
    assert config.resize == "tensorflow"
    assert config.vit["layer_norm_eps"] == 1e-6
    assert config.head == {"kind": "two_layer", "in": 24, "width": 5, "gelu": "tanh"}
    processor = json.loads((made.folder / "preprocessor_config.json").read_text())
    assert processor["image_mean"] == [0.0] * 3
    assert processor["image_std"] == [1.0] * 3
    notes = json.loads((made.folder / "student.json").read_text())
    assert notes["pixels"] == made.pixels == "0 to 1"
    assert notes["converted_from"]["file"] == "model.h5"
    assert made.ignored == ("optimizer_weights",)


def test_the_published_sizes_are_those_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    table = {n: (s.patch_px, s.image_px, s.hidden_size, s.mlp_size, s.layer_count) for n, s in VARIANTS.items()}
    assert table == {
        "B_16": (16, 384, 768, 3072, 12),
        "B_32": (32, 224, 768, 3072, 12),
        "L_16": (16, 384, 1024, 4096, 24),
        "L_32": (32, 384, 1024, 4096, 24),
    }
    assert {n: s.attention_heads for n, s in VARIANTS.items()} == {"B_16": 12, "B_32": 12, "L_16": 16, "L_32": 16}
    assert [n for n, s in VARIANTS.items() if s.is_zero_to_one] == ["B_32"]


@pytest.mark.parametrize(
    ("activation", "asked", "chosen"),
    [
        ("Addons>gelu", None, "tanh"),
        ("gelu", None, "exact"),
        ("Addons>gelu", "exact", "exact"),
        ({"class_name": "function", "config": "gelu", "registered_name": "Addons>gelu"}, None, "tanh"),
    ],
)
def test_the_heads_gelu_follows_the_file_unless_one_is_asked_for(
    converted: Convert, activation: Any, asked: str | None, chosen: str
) -> None:
    made = converted(config=with_value("dense", activation=activation), gelu=asked)
    assert made.gelu == read_student(made.folder).head["gelu"] == chosen


def drop(end: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda weights: {name: value for name, value in weights.items() if not name.endswith(end)}


def put(**values: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda weights: weights | {name.replace("__", "/"): value for name, value in values.items()}


def broken(weights: dict[str, Any]) -> dict[str, Any]:
    weights["Transformer/encoder_norm/beta"][3] = np.nan
    return weights


def larger(weights: dict[str, Any]) -> dict[str, Any]:
    return weights | {"Transformer/posembed_input/pos_embedding": np.zeros((1, 65, 24), np.float32)}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            drop("encoderblock_1/MultiHeadDotProductAttention_1/key/kernel"),
            r"1 weights missing .encoderblock_1/key/ker",
        ),
        (lambda w: {k: v for k, v in w.items() if "encoderblock_1" not in k}, r"16 weights missing .encoderblock_1/"),
        (drop("class_token/cls"), r"1 weights missing .class_token/cls"),
        (drop("dense_1/kernel"), "weights of the head are missing or others: expected two dense layers, 24 to W"),
        (drop("dense/bias"), r"1 weights missing .head: vit-small|1 weights missing .head: dense/dense/bias"),
        (put(pre_logits__kernel=np.zeros((24, 24), np.float32)), "weights of the head are missing or others"),
        (put(other__bias=np.zeros(2, np.float32)), r"1 weights unexpected .*other/bias"),
        (put(dense__bias=np.zeros(4, np.float32)), r"of another shape .*dense/bias \(4,\) instead of \(5,\)"),
        (
            put(embedding__kernel=np.zeros((7, 7, 3, 24), np.float32)),
            r"has shape \(7, 7, 3, 24\), that of none of B_16",
        ),
        (drop("embedding/kernel"), "no embedding/kernel among .* weights: not a ViT of vit_keras"),
        (larger, r"positions for 65 tokens, expected 17 \(B_32 at 32 px\)"),
        (broken, "encoder_norm/beta:0 has values that are not finite"),
        (put(second__embedding__kernel=np.zeros((8, 8, 3, 24), np.float32)), "are both embedding/kernel, expected one"),
    ],
)
def test_weights_that_are_not_the_crowds_are_named_and_nothing_is_written(
    tmp_path: Path, converted: Convert, weights: Callable[[dict[str, Any]], dict[str, Any]], message: str
) -> None:
    with pytest.raises(ModelMismatch, match=message):
        converted(weights=weights)
    assert [path.name for path in tmp_path.iterdir()] == ["model.h5"]


def with_layer(kind: str, name: str, **config: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(document: dict[str, Any]) -> dict[str, Any]:
        document["config"]["layers"].insert(1, {"class_name": kind, "config": {"name": name, **config}})
        return document

    return change


def with_value(name: str, **values: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(document: dict[str, Any]) -> dict[str, Any]:
        for layer in [*document["config"]["layers"], *document["config"]["layers"][0]["config"]["layers"]]:
            if layer["config"]["name"] == name:
                layer["config"] |= values
        return document

    return change


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (with_layer("Lambda", "mine"), "layer 'mine' is a Lambda, code that is never run here"),
        (with_layer("Multiply", "mask"), "layer 'mask' is a Multiply, which the crowd's models do not have"),
        (with_layer("Rescaling", "scale"), "layer 'scale' is a Rescaling"),
        (with_value("Transformer/encoder_norm", epsilon=1e-3), "Transformer/encoder_norm has epsilon 0.001"),
        (with_value("Transformer/encoderblock_1", num_heads=6), "encoderblock_1 has 6 heads, expected 3"),
        (with_value("dense", activation="relu"), "a head with relu and softmax, expected gelu and softmax"),
        (with_value("dense_1", activation="sigmoid"), "a head with Addons>gelu and sigmoid"),
    ],
)
def test_layers_of_another_model_are_refused_by_name(
    tmp_path: Path, converted: Convert, config: Callable[[dict[str, Any]], dict[str, Any]], message: str
) -> None:
    with pytest.raises(ModelMismatch, match=message):
        converted(config=config)
    assert not (tmp_path / "student").exists()


def test_a_variant_that_is_asked_for_must_fit(converted: Convert) -> None:
    assert converted(variant="B_32").variant == "B_32"
    with pytest.raises(ModelMismatch, match="weights of B_32, expected B_16"):
        converted(variant="B_16", target="other")
    with pytest.raises(ConfigError, match="unknown variant 'B_23'"):
        converted(variant="B_23", target="other")
    with pytest.raises(ConfigError, match="unknown gelu 'fast'"):
        converted(gelu="fast", target="other")


def test_a_second_conversion_writes_nothing_and_another_student_is_replaced_by_force_alone(
    tmp_path: Path, converted: Convert
) -> None:
    first = converted()
    assert not converted().is_new
    with pytest.raises(ConfigError, match="--force replaces a student"):
        converted(gelu="exact")
    assert read_student(first.folder).head["gelu"] == "tanh"
    assert converted(gelu="exact", overwrite=True).is_new
    assert read_student(first.folder).head["gelu"] == "exact"
    (tmp_path / "photos").mkdir()
    with pytest.raises(ConfigError, match="something else of this name"):
        converted(target="photos", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.h5", "photos", "student"]


def test_half_precision_weights_become_float32(converted: Convert) -> None:
    made = converted(weights=lambda w: {name: value.astype(np.float16) for name, value in w.items()})
    assert made.tensors == 42


@pytest.mark.parametrize("problem", [OSError("disk full"), KeyboardInterrupt()])
def test_a_stop_between_the_two_renames_loses_no_student(
    tmp_path: Path, converted: Convert, monkeypatch: pytest.MonkeyPatch, problem: BaseException
) -> None:
    first = converted()
    before = (first.folder / "model.safetensors").read_bytes()
    aside: list[bytes] = []
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if ".new-" in self.name and Path(target) == first.folder:
            # Whatever happens now, a killed process included, the old student is whole beside it.
            aside.extend((old / "model.safetensors").read_bytes() for old in tmp_path.glob(".student.old-*"))
            raise problem
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(ResourceError if isinstance(problem, OSError) else KeyboardInterrupt):
        converted(gelu="exact", overwrite=True)
    assert aside == [before]
    assert read_student(first.folder).head["gelu"] == "tanh"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.h5", "student"]
