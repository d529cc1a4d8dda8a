"""regions, backend `vg`: recipes say what changes numbers; rows are the detector's regions, alone as in any batch."""

import pickle  # to write a file as others do
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from sentifuse import ConfigError, DataError
from sentifuse.cache.fingerprint import fingerprint
from sentifuse.data.images import read_image
from sentifuse.extract import precision
from sentifuse.extract.detector.architecture import ARCHITECTURES, ATTRIBUTE_KEYS
from sentifuse.extract.detector.detector import Detector, SelectionSettings
from sentifuse.extract.encoder import Encoder, EncoderPlan, batch_limit, describe_encoder
from sentifuse.extract.encoders.regions_vg import VisualGenomeSettings
from sentifuse.extract.errors import MissingModel, ModelMismatch, ModelsMissing
from sentifuse.extract.models.located import LocatedModel, read_file_model, read_tiny
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.models.weights import find_models
from sentifuse.extract.profile import EncoderEntry, load_profile
from sentifuse.extract.settings import read_settings

SMALL = {"count": 8, "proposals": 25}
FLOATS = ("features", "boxes", "boxes_normalised", "scores", "object_scores", "attribute_scores")
IDS = ("object_ids", "attribute_ids", "image_size")


def picture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def plan(model: LocatedModel, *, asked: str = "exact", device: str = "cpu", **settings: Any) -> EncoderPlan:
    entry = EncoderEntry(name="regions", model=model.source, settings=settings, where="[encoders.regions]")
    return describe_encoder(entry, model, precision=asked, device=device)


def assert_equal(first: Any, second: Any, tolerance: float) -> None:
    for name in FLOATS:
        np.testing.assert_allclose(first[name], second[name], rtol=0, atol=tolerance, err_msg=name)
    for name in IDS:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.fixture
def encoder(small_detector: LocatedModel) -> Encoder:
    return plan(small_detector, **SMALL).build(device="cpu", share={})


@pytest.fixture
def direct(small_detector: LocatedModel) -> Callable[..., Detector]:
    """direct(arithmetic, **selection) → the detector itself, with the same weights."""

    def make(arithmetic: str = "exact", **selection: Any) -> Detector:
        assert small_detector.path is not None
        sizes = ARCHITECTURES[small_detector.architecture]
        state = load_file(small_detector.path)
        return Detector(state, sizes=sizes, arithmetic=arithmetic, selection=SelectionSettings(**(SMALL | selection)))

    return make


def test_rows_are_the_detectors_regions(encoder: Encoder, encode: Any, direct: Callable[..., Detector]) -> None:
    image = picture((100, 12))
    (row,) = encode(encoder, [(image, None)])
    made = direct()
    found = made.detect([made.prepare(image)])[0]
    expected = {
        "features": found.features,
        "boxes": found.boxes,
        "boxes_normalised": found.boxes_normalised,
        "scores": found.scores,
        "object_ids": found.class_ids,
        "object_scores": found.class_scores,
        "attribute_ids": found.attribute_ids,
        "attribute_scores": found.attribute_scores,
        "image_size": (100, 12),
    }
    assert list(row) == list(expected) == [field.name for field in encoder.fields]
    for name, values in expected.items():
        np.testing.assert_allclose(row[name], values, rtol=0, atol=1e-5, err_msg=name)


def test_alone_in_a_batch_and_in_another_order_rows_are_the_same(encoder: Encoder, encode: Any) -> None:
    rows = [(picture((100, 10), seed), None) for seed in range(3)]
    together = encode(encoder, rows)
    backwards = encode(encoder, rows[::-1])[::-1]
    for row, first, second in zip(rows, together, backwards, strict=True):
        assert_equal(first, second, 1e-5)
        assert_equal(first, encode(encoder, [row])[0], 1e-5)


def test_images_of_another_network_size_go_apart_and_on_a_cpu_each_alone(encoder: Encoder) -> None:
    sizes = [(100, 10), (200, 20), (101, 10), (10, 100)]
    keys = [encoder.backbone.batch_key(encoder.backbone.prepare(picture(size), None)) for size in sizes]
    assert keys == [(100, 1000), (100, 1000), (99, 1000), (1000, 100)]
    assert batch_limit(encoder.backbone) == 1


@pytest.mark.parametrize(
    "settings", [{"count": 8}, {"mode": "caffe36", "count": 8}, {"mode": "adaptive", "fewest": 3, "most": 12}]
)
def test_in_every_mode_scores_fall_and_boxes_lie_inside(
    settings: dict[str, Any], small_detector: LocatedModel, encode: Any
) -> None:
    encoder = plan(small_detector, proposals=25, **settings).build(device="cpu", share={})
    (row,) = encode(encoder, [(picture((120, 11), 4), None)])
    assert 3 <= len(row["scores"]) <= 12
    assert (np.diff(row["scores"]) <= 0).all()
    size = np.float32([120, 11, 120, 11])
    assert (row["boxes"] >= 0).all()
    assert (row["boxes"] <= size).all()
    assert (row["boxes"][:, :2] <= row["boxes"][:, 2:]).all()
    np.testing.assert_allclose(row["boxes_normalised"] * size, row["boxes"], atol=1e-4)
    assert row["boxes_normalised"].max() <= 1


def test_half_precision_storage_rounds_features_and_nothing_else(
    small_detector: LocatedModel, encoder: Encoder, encode: Any
) -> None:
    rows = [(picture((100, 12)), None)]
    (whole,) = encode(encoder, rows)
    (half,) = encode(plan(small_detector, features="float16", **SMALL).build(device="cpu", share={}), rows)
    assert half["features"].dtype == np.float16
    np.testing.assert_array_equal(half["features"], whole["features"].astype(np.float16))
    assert_equal({**half, "features": 0}, {**whole, "features": 0}, 0)


def test_weights_without_attributes_need_a_recipe_without(
    small_detector: LocatedModel, tmp_path: Path, encode: Any
) -> None:
    assert small_detector.path is not None
    state = {name: value for name, value in load_file(small_detector.path).items() if name not in ATTRIBUTE_KEYS}
    save_file(state, tmp_path / "plain.safetensors")
    model = replace(small_detector, path=tmp_path / "plain.safetensors")
    with pytest.raises(ModelMismatch, match=r"trained without attributes.*set attributes = false"):
        plan(model, **SMALL).build(device="cpu", share={})
    without = plan(model, attributes=False, **SMALL)
    made = without.build(device="cpu", share={})
    (row,) = encode(made, [(picture((100, 12)), None)])
    assert set(row) == {*FLOATS, *IDS} - {"attribute_ids", "attribute_scores"}
    assert list(without.recipe["dtypes"]) == [field.name for field in made.fields]


def test_the_model_may_be_a_file_of_another_layout(
    small_detector: LocatedModel, encoder: Encoder, tmp_path: Path, encode: Any
) -> None:
    assert small_detector.path is not None
    arrays = {name: value.numpy() for name, value in load_file(small_detector.path).items()}
    file = tmp_path / "faster_rcnn_from_caffe_attr.pkl"
    file.write_bytes(pickle.dumps({"model": arrays}))
    source = ModelSource(kind="path", name=str(file), architecture="small_rcnn")
    other = plan(read_file_model(source, file), **SMALL)
    rows = [(picture((100, 12)), None)]
    assert_equal(encode(other.build(device="cpu", share={}), rows)[0], encode(encoder, rows)[0], 0)


def test_a_torn_file_is_named_before_any_row(small_detector: LocatedModel, tmp_path: Path) -> None:
    assert small_detector.path is not None
    file = tmp_path / "torn.safetensors"
    file.write_bytes(small_detector.path.read_bytes()[:-100])
    with pytest.raises(ModelMismatch, match=r"torn\.safetensors"):
        plan(replace(small_detector, path=file), **SMALL).build(device="cpu", share={})


def test_the_recipe_of_the_papers_regions(small_detector: LocatedModel) -> None:
    recipe = plan(small_detector).recipe
    assert recipe == {
        "encoder": "regions",
        "version": 1,
        "model": {"architecture": "small_rcnn", "digest": small_detector.digest},
        "settings": {},
        "precision": "float32",
        "dtypes": {
            "features": "float32",
            "boxes": "float32",
            "boxes_normalised": "float32",
            "scores": "float32",
            "object_ids": "int32",
            "object_scores": "float32",
            "attribute_ids": "int32",
            "attribute_scores": "float32",
            "image_size": "int32",
        },
    }


def test_the_fingerprint_follows_what_changes_numbers(
    small_detector: LocatedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    recipes = {
        name: plan(small_detector, **options).recipe
        for name, options in {
            "default": {},
            "mode": {"mode": "caffe36"},
            "count": {"count": 20},
            "proposals": {"proposals": 150},
            "adaptive": {"mode": "adaptive"},
            "fewest": {"mode": "adaptive", "fewest": 5},
            "most": {"mode": "adaptive", "most": 50},
            "attributes": {"attributes": False},
            "features": {"features": "float16"},
            "fast": {"asked": "fast"},
            "fast on a GPU": {"asked": "fast", "device": "cuda"},
            "fastest on a GPU": {"asked": "fastest", "device": "cuda"},
        }.items()
    }
    assert len({fingerprint(recipe) for recipe in recipes.values()}) == len(recipes)


def test_the_fingerprint_follows_nothing_else(
    small_detector: LocatedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fingerprint(plan(small_detector).recipe)
    said = {"backend": "vg", "mode": "fixed36", "count": 36, "fewest": 10, "most": 100, "proposals": 300}
    elsewhere = replace(small_detector, path=tmp_path, source=ModelSource(kind="file", name="x", architecture="y"))
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"avx2"}))
    for same in (
        plan(small_detector, **said, attributes=True, features="float32"),
        plan(small_detector, device="cuda:1"),
        plan(elsewhere),
        plan(small_detector, asked="fast"),
        plan(small_detector, asked="fastest"),
    ):
        assert fingerprint(same.recipe) == expected
    assert plan(small_detector, asked="fast").note.startswith("fast equals exact: this CPU has none of ")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "fixed"}, "unknown mode 'fixed'; did you mean 'fixed36'"),
        ({"count": 0}, "count is 0, expected 1 to 300"),
        ({"count": 37, "proposals": 36}, "count is 37, more than proposals = 36: set count too, or raise proposals"),
        ({"proposals": 20}, r"count is 36 \(its default\), more than proposals = 20: set count too, or raise"),
        ({"proposals": 6001}, "proposals is 6001, expected 1 to 6000"),
        ({"mode": "adaptive", "fewest": 101}, "fewest is 101, expected 0 to 100"),
        ({"mode": "adaptive", "proposals": 60}, r"most is 100 \(its default\), more than proposals = 60: set most too"),
        ({"fewest": 5}, r"fewest is 5, but mode 'fixed36' does not look at it.*\(adaptive\)"),
        ({"mode": "caffe36", "most": 5}, "most is 5, but mode 'caffe36' does not look at it"),
        ({"mode": "adaptive", "count": 20}, r"count is 20, but mode 'adaptive' .*\(fixed36, caffe36\)"),
        ({"features": "float64"}, "unknown features 'float64'"),
        ({"attributes": 1}, "attributes is 1, expected true or false"),
        ({"boxes": 36}, "unknown setting 'boxes'"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_settings(VisualGenomeSettings, values, where="mine.toml: [encoders.regions]")


def test_another_architecture_is_refused_before_any_weight_is_read() -> None:
    with pytest.raises(ConfigError, match=r"'tiny_conv', but .* { file = \"…\", architecture = \"faster_rcnn_re"):
        plan(read_tiny(ModelSource(kind="tiny", name="image")))


def test_the_right_architecture_is_told_in_the_form_of_the_profile(tmp_path: Path) -> None:
    file = tmp_path / "net.pkl"
    file.write_bytes(b"x" * 100)
    named = rf'model = {{ path = "{file}", architecture = "faster_rcnn_resnet101_c4" }}'
    with pytest.raises(ModelMismatch) as missing:
        read_file_model(ModelSource(kind="path", name=str(file)), file)
    assert named in str(missing.value)
    with pytest.raises(ConfigError) as wrong:
        plan(read_file_model(ModelSource(kind="path", name=str(file), architecture="resnet101"), file))
    assert "of architecture 'resnet101'" in str(wrong.value)
    assert named in str(wrong.value)


def test_a_plan_refuses_a_file_whose_header_does_not_fit(small_detector: LocatedModel, tmp_path: Path) -> None:
    assert small_detector.path is not None
    state = load_file(small_detector.path)
    file = tmp_path / "net.safetensors"
    source = replace(small_detector.source, kind="path", name=str(file))

    def planned(names: Any, **settings: Any) -> EncoderPlan:
        save_file({name: state[name] for name in names}, file)
        return plan(read_file_model(source, file), **SMALL, **settings)

    planned(state)
    with pytest.raises(ModelMismatch, match=r"1 tensor missing: backbone.stem.conv1.weight"):
        planned(state.keys() - {"backbone.stem.conv1.weight"})
    with pytest.raises(ModelMismatch, match="trained without attributes"):
        planned(state.keys() - set(ATTRIBUTE_KEYS))
    planned(state.keys() - set(ATTRIBUTE_KEYS), attributes=False)
    file.write_bytes(b"a text and no weights, which is longer than sixty-four bytes: it is told by its signs")
    with pytest.raises(ModelMismatch, match="a text file"):
        plan(replace(small_detector, path=file), **SMALL)


def test_without_the_weights_it_is_said_how_to_come_by_them(tmp_path: Path) -> None:
    profile = load_profile("paper")
    with pytest.raises(ModelsMissing) as caught:
        find_models(profile, profile.choose(("regions",)), search=[tmp_path], is_offline=True)
    ((_, error),) = caught.value.missing
    assert isinstance(error, MissingModel)
    for part in (
        f"vg-faster-rcnn-resnet101-c4.safetensors is in none of: {tmp_path}",
        "No place is known for certain to offer these weights any more",
        "`sentifuse weights list`",
        "`sentifuse weights convert FILE`",
        "--weights DIR",
    ):
        assert part in str(error)


def test_a_run_is_planned_without_torch(small_detector: LocatedModel) -> None:
    code = """
import sys
from sentifuse.extract.encoder import describe_encoder
from sentifuse.extract.models.located import LocatedModel
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.profile import EncoderEntry
source = ModelSource(kind="file", name="x", architecture="faster_rcnn_resnet101_c4")
model = LocatedModel(source=source, path=None, architecture=source.architecture, digest="0" * 64, files={})
entry = EncoderEntry(name="regions", model=source, settings={"mode": "adaptive"}, where="here")
describe_encoder(entry, model, precision="fast", device="cpu").backbone_key
print(sorted({"torch", "torchvision", "safetensors"} & set(sys.modules)))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def as_file(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def sixteen_bits() -> Image.Image:
    return Image.fromarray(np.arange(30 * 40, dtype=np.uint16).reshape(30, 40) * 50)


def transparent_palette() -> bytes:
    return as_file(picture((40, 30)).quantize(16), "PNG", transparency=3)


ODD_FILES: dict[str, Callable[[], bytes]] = {
    "CMYK": lambda: as_file(picture((40, 30)).convert("CMYK"), "JPEG"),
    "16 bits": lambda: as_file(sixteen_bits(), "PNG"),
    "palette with transparency": transparent_palette,
    "alpha": lambda: as_file(picture((40, 30)).convert("RGBA"), "PNG"),
    "grey": lambda: as_file(picture((40, 30)).convert("L"), "PNG"),
    "black": lambda: as_file(Image.new("RGB", (40, 30)), "PNG"),
    "1 by 300": lambda: as_file(picture((1, 300)), "PNG"),
    "300 by 1": lambda: as_file(picture((300, 1)), "PNG"),
    "16 by 16": lambda: as_file(picture((16, 16)), "PNG"),
    "10,000 by 40": lambda: as_file(picture((10_000, 40)), "PNG"),
}


@pytest.mark.parametrize("kind", ODD_FILES)
def test_odd_files_have_regions_inside_the_image(
    kind: str, encoder: Encoder, encode: Any, direct: Callable[..., Detector]
) -> None:
    image = read_image(ODD_FILES[kind]())
    (row,) = encode(encoder, [(image, None)])
    assert 1 <= len(row["features"]) <= 8
    assert row["image_size"].tolist() == list(image.size)
    assert (row["boxes"] >= 0).all()
    assert (row["boxes"] <= np.float32(image.size * 2)).all()
    made = direct("plain")
    plain = made.detect([made.prepare(image)])[0]
    assert len(plain) == len(row["features"])
    np.testing.assert_allclose(np.sort(plain.scores)[::-1], row["scores"], atol=1e-3)


def test_an_image_too_narrow_for_the_network_fails_alone(encoder: Encoder) -> None:
    with pytest.raises(DataError, match=r"an image of 5000x1 pixels is 1000x1 to the detector, too narrow"):
        encoder.backbone.prepare(read_image(as_file(picture((5000, 1)), "PNG")), None)
