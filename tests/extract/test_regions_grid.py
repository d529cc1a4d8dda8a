"""regions, grid: the strongest cells come first, and their boxes lie where the picture says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sentifuse.extract.encoder import describe_encoder
from sentifuse.extract.encoders.regions_grid import cell_boxes
from sentifuse.extract.models.located import read_tiny
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.models.tiny import write_tiny
from sentifuse.extract.profile import EncoderEntry

SIZE = {"resize": [96, 96], "crop": 0, "mean": [0.5] * 3, "std": [0.5] * 3}
BLACK = {"mean": [0.0] * 3}  # black is 0: no bias in the tiny network, so black cells have no activation at all


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny("image", 0, tmp_path_factory.mktemp("conv"))


def with_patch(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    image = Image.new("RGB", size)
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill="white")
    return image


def centre(box: Any) -> tuple[float, float]:
    return ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)


def test_fields_have_their_dtypes_and_widths(tiny_file: Path, build: Any, encode: Any, photo: Any) -> None:
    encoder = build("regions", tiny_file, architecture="tiny_conv", backend="grid", count=5, **SIZE)
    row = encode(encoder, [(photo(300, 200), None)])[0]
    assert {name: (value.dtype.name, value.shape) for name, value in row.items()} == {
        "features": ("float16", (5, 64)),
        "boxes": ("float32", (5, 4)),
        "boxes_normalised": ("float32", (5, 4)),
        "scores": ("float32", (5,)),
        "image_size": ("int32", (2,)),
    }
    assert row["image_size"].tolist() == [300, 200]
    assert [field.name for field in encoder.fields] == list(row)
    assert [field.shape for field in encoder.fields] == [(64,), (4,), (4,), (), (2,)]


def test_scores_are_the_norms_of_the_features_and_fall(tiny_file: Path, build: Any, encode: Any, photo: Any) -> None:
    encoder = build("regions", tiny_file, architecture="tiny_conv", backend="grid", **SIZE)
    row = encode(encoder, [(photo(300, 200), None)])[0]
    assert len(row["scores"]) == 36
    assert (np.diff(row["scores"]) <= 0).all()
    np.testing.assert_allclose(np.linalg.norm(row["features"].astype(np.float64), axis=1), row["scores"], rtol=1e-3)


def test_normalised_boxes_are_boxes_over_the_image_size(tiny_file: Path, build: Any, encode: Any, photo: Any) -> None:
    encoder = build("regions", tiny_file, architecture="tiny_conv", backend="grid", **SIZE)
    row = encode(encoder, [(photo(300, 200), None)])[0]
    np.testing.assert_allclose(row["boxes_normalised"] * [300, 200, 300, 200], row["boxes"], atol=1e-3)
    assert (row["boxes"][:, :2] < row["boxes"][:, 2:]).all()
    assert row["boxes"].min() >= 0
    np.testing.assert_allclose(row["boxes"].max(axis=0), [250, 200 * 5 / 6, 300, 200], rtol=1e-6)  # 36 cells tile it


@pytest.mark.parametrize("patch", [(20, 10, 60, 40), (230, 150, 280, 190), (130, 80, 170, 120)])
def test_the_first_box_lies_on_a_bright_patch(
    patch: tuple[int, int, int, int], tiny_file: Path, build: Any, encode: Any
) -> None:
    encoder = build("regions", tiny_file, architecture="tiny_conv", backend="grid", **(SIZE | BLACK))
    row = encode(encoder, [(with_patch((300, 200), patch), None)])[0]
    found, meant = centre(row["boxes"][0]), centre(patch)
    assert abs(found[0] - meant[0]) <= 300 / 6
    assert abs(found[1] - meant[1]) <= 200 / 6


def test_boxes_find_the_way_back_through_a_centre_crop(tiny_file: Path, build: Any, encode: Any) -> None:
    settings = {"resize": 96, "crop": 96, "std": [0.5] * 3} | BLACK
    encoder = build("regions", tiny_file, architecture="tiny_conv", backend="grid", **settings)
    patch = (420, 30, 480, 90)  # near the right edge of the crop, which spans x 200..500 of 700
    row = encode(encoder, [(with_patch((700, 300), patch), None)])[0]
    assert row["boxes"][:, 0].min() == 200
    assert row["boxes"][:, 2].max() == 500
    found, meant = centre(row["boxes"][0]), centre(patch)
    assert abs(found[0] - meant[0]) <= 50
    assert abs(found[1] - meant[1]) <= 50


def test_cells_outside_the_image_are_left_out(tiny_file: Path, build: Any, encode: Any, photo: Any) -> None:
    settings = {"resize": 32, "crop": 96, "mean": [0.5] * 3, "std": [0.5] * 3}
    row = encode(
        build("regions", tiny_file, architecture="tiny_conv", backend="grid", **settings), [(photo(64, 64), None)]
    )[0]
    assert row["features"].shape == (4, 64)  # 32 of 96 pixels: two cells by two
    assert row["boxes"].min() == 0
    assert row["boxes"].max() == 64


def test_equal_cells_keep_reading_order(tiny_file: Path, build: Any, encode: Any) -> None:
    encoder = build("regions", tiny_file, architecture="tiny_conv", backend="grid", **(SIZE | BLACK))
    row = encode(encoder, [(Image.new("RGB", (96, 96)), None)])[0]
    np.testing.assert_array_equal(row["boxes"], cell_boxes((6, 6), (96, 96)))


def test_context_and_regions_on_one_model_share_one_backbone(tiny_file: Path, build: Any) -> None:
    share: dict[str, Any] = {}
    context = build("context", tiny_file, share=share, architecture="tiny_conv", **SIZE)
    regions = build("regions", tiny_file, share=share, architecture="tiny_conv", backend="grid", count=7, **SIZE)
    other = build("context", tiny_file, share=share, architecture="tiny_conv", **(SIZE | BLACK))
    assert context.backbone is regions.backbone
    assert other.backbone is not context.backbone
    assert len(share) == 2


def test_the_backend_is_part_of_the_recipe() -> None:
    model = read_tiny(ModelSource(kind="tiny", name="image"))
    entry = EncoderEntry(name="regions", model=model.source, settings={"backend": "grid"})
    recipe = describe_encoder(entry, model, precision="exact", device="cpu").recipe
    assert recipe["settings"] == {"backend": "grid"}
