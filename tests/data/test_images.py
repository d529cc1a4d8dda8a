"""Every odd image has exactly the outcome that is written down for it."""

import csv
import warnings
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from sentifuse.data.images import MAX_PIXELS, REASONS, UnreadableImage, read_image

FOLDER = Path(__file__).parent / "odd_images"
EXPECTED = list(csv.DictReader((FOLDER / "expected.csv").read_text(encoding="utf-8").splitlines()))


def outcome(source: Path | bytes) -> tuple[str, int, int]:
    try:
        image = read_image(source)
    except UnreadableImage as error:
        return error.reason, 0, 0
    assert image.mode == "RGB"
    return "", image.width, image.height


def as_bytes(image: Image.Image, kind: str = "PNG") -> bytes:
    sink = BytesIO()
    image.save(sink, kind)
    return sink.getvalue()


@pytest.mark.parametrize("row", EXPECTED, ids=[row["file"] for row in EXPECTED])
def test_odd_image_has_the_expected_outcome(row: dict[str, str]) -> None:
    path = FOLDER / row["file"]
    if row["outcome"] == "quarantine" or row["file"] == "float.tiff":
        with pytest.raises(UnreadableImage, match=row["file"]) as caught:
            read_image(path)
        assert caught.value.reason == row["reason"]
        return
    image = read_image(path)
    assert (image.mode, image.width, image.height) == ("RGB", int(row["width"]), int(row["height"]))
    if row["top_left_rgb"]:
        found = np.array(image.getpixel((image.width // 8, image.height // 8)))
        assert np.abs(found - np.array(row["top_left_rgb"].split(), dtype=int)).max() <= 12


def test_table_of_outcomes_covers_every_file() -> None:
    assert {row["file"] for row in EXPECTED} == {path.name for path in FOLDER.iterdir()} - {"expected.csv"}


def test_bytes_and_path_give_the_same() -> None:
    path = FOLDER / "rgba.png"
    assert read_image(path).tobytes() == read_image(path.read_bytes()).tobytes()


def test_many_threads_give_the_same_as_one_and_touch_no_switch_of_pillow() -> None:
    names = [row["file"] for row in EXPECTED if row["file"] != "picture.bmp"]
    alone = [outcome(FOLDER / name) for name in names]
    filters = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda name: outcome(FOLDER / name), names * 3))
    assert together == alone * 3
    assert warnings.filters == filters
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("name", ["palette_transparent.png", "rgba.png", "gray_alpha.png"])
def test_transparent_parts_show_white(name: str) -> None:
    image = read_image(FOLDER / name)
    assert image.getpixel((image.width - 5, image.height - 5)) == (255, 255, 255)


def test_very_wide_image_is_read() -> None:
    raw = as_bytes(Image.new("RGB", (50_000, 20), (10, 200, 30)))
    assert read_image(raw).size == (50_000, 20)


def test_pixel_limit_is_checked_before_decoding() -> None:
    raw = as_bytes(Image.new("L", (100, 100)))
    assert read_image(raw, max_pixels=10_000).size == (100, 100)
    with pytest.raises(UnreadableImage, match=r"too many pixels.*100x100"):
        read_image(raw, max_pixels=9_999)


def test_size_at_which_pillow_only_warns_is_refused_without_a_warning() -> None:
    raw = as_bytes(Image.new("1", (10_000, MAX_PIXELS // 10_000 + 1)))
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        assert outcome(raw)[0] == "too many pixels"
    assert leaked == []


@pytest.mark.parametrize("name", ["truncated.jpg", "progressive.jpg", "rgb_16bit.png", "animated.gif", "picture.webp"])
def test_file_cut_anywhere_ends_in_a_reason_or_an_image(name: str) -> None:
    raw = (FOLDER / name).read_bytes()
    for cut in range(1, len(raw), max(1, len(raw) // 40)):
        assert outcome(raw[:cut])[0] in ("", *REASONS)


def test_damaged_exif_does_not_spoil_the_pixels() -> None:
    raw = bytearray((FOLDER / "exif_rotated_6.jpg").read_bytes())
    start = raw.index(b"Exif\0\0") + 6
    raw[start + 4 : start + 8] = b"\xff\xff\xff\xff"  # the directory now lies far outside
    assert outcome(bytes(raw)) == ("", 240, 320)


def test_missing_file_and_folder_have_reasons(tmp_path: Path) -> None:
    assert outcome(tmp_path / "none.jpg")[0] == "missing"
    assert outcome(tmp_path)[0] == "cannot be read"


def test_sixteen_bit_grey_is_scaled() -> None:
    grey = np.array([[0, 257, 32_896, 65_535]], dtype=np.uint16)
    image = read_image(as_bytes(Image.fromarray(grey)))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 1, 128, 255]
