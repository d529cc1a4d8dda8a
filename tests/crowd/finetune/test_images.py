"""Laws of loading: pixels are those that inference will see, chance hangs on the row alone, bad files have names."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sentifuse import DataError
from sentifuse.crowd.finetune import images
from sentifuse.crowd.finetune.images import Squares, find_left_out, stream
from sentifuse.crowd.finetune.recipe import ImageRow
from sentifuse.data.images import read_image
from sentifuse.extract.backbones.tensorflow_resize import resize_like_tensorflow
from sentifuse.extract.backbones.vision import Pixels

Write = Callable[[Sequence[int]], list[ImageRow]]
SQUARES = Squares(side_px=32, resample=2, crop_min=0.5)


def noise(path: Path, width: int, height: int) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_squares_are_what_the_image_processor_makes(tiny_vit: Path, tmp_path: Path) -> None:
    path = noise(tmp_path / "a.png", 61, 40)
    processor = Pixels(tiny_vit, torch.device("cpu"))
    expected = processor.prepare(read_image(path)).pixels
    np.testing.assert_array_equal(SQUARES.load(path).transpose(2, 0, 1), expected)


def test_an_augmented_square_is_a_large_part_of_the_image_and_half_of_them_are_mirrored(tmp_path: Path) -> None:
    """On a ramp of 0..255 from left to right each edge tells what was cut off there."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2).repeat(256, 0)
    path = tmp_path / "ramp.png"
    Image.fromarray(ramp).save(path)
    squares = replace(SQUARES, crop_min=0.8)
    mirrored = 0
    for seed in range(40):
        row = squares.load_augmented(path, np.random.default_rng(seed))[16, :, 0].astype(int)
        assert row.shape == (32,)
        assert abs(row[-1] - row[0]) > 0.8 * 255  # the share of the width: √(0.8 · 0.9) less one of 32 pixels' width
        mirrored += row[0] > row[-1]
    assert 10 < mirrored < 30


def test_chance_hangs_on_the_row_and_not_on_threads_or_the_beginning(coloured_images: Write, tmp_path: Path) -> None:
    rows = [replace(row, path=noise(tmp_path / f"n{i}.png", 50, 40)) for i, row in enumerate(coloured_images([0] * 7))]

    def chance(row: int) -> np.random.Generator:
        return np.random.default_rng((5, row))

    batches = [np.array([3, 1]), np.array([0, 6, 2]), np.array([5])]
    with closing(stream(rows, batches, SQUARES, threads=3, chance=chance)) as loaded:
        whole = list(loaded)
    assert [r.tolist() for r, _ in whole] == [b.tolist() for b in batches]
    with closing(stream(rows, batches[1:], SQUARES, threads=1, chance=chance)) as loaded:
        rest = list(loaded)
    for (_, expected), (_, found) in zip(whole[1:], rest, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(whole[0][1][0], whole[0][1][1])


def test_every_file_that_cannot_be_used_is_named_in_order(coloured_images: Write) -> None:
    rows = coloured_images([0, 1, 2, 0, 1])
    rows[0].path.unlink()
    rows[1].path.write_bytes(b"<html>not found</html>")
    rows[3].path.write_bytes(rows[2].path.read_bytes())
    found = find_left_out(rows, np.array([0, 1, 2, 3]), threads=2)
    assert [(image.id, image.reason) for image in found] == [
        ("t0-1", "missing"),
        ("t1-1", "not an image"),
        ("t3-1", "changed"),
    ]
    assert find_left_out([replace(rows[3], digest="")], np.array([0]), threads=1) == ()


def test_a_file_that_goes_away_is_an_error_with_its_name(coloured_images: Write) -> None:
    rows = coloured_images([0, 1])
    rows[1].path.unlink()
    with (
        closing(stream(rows, [np.array([0]), np.array([1])], SQUARES, threads=1)) as loaded,
        pytest.raises(DataError, match=r"1\.png: missing.*could be read when the training began"),
    ):
        list(loaded)


def test_only_a_few_batches_are_loaded_ahead(coloured_images: Write) -> None:
    rows = coloured_images([0] * 30)
    asked: list[int] = []

    def chance(row: int) -> np.random.Generator:
        asked.append(row)
        return np.random.default_rng(row)

    with closing(stream(rows, [np.array([i]) for i in range(30)], SQUARES, threads=2, chance=chance)) as loaded:
        next(loaded)
        assert len(asked) <= 4


def test_squares_of_a_converted_original_are_not_antialiased_and_not_rounded(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.png", 161, 140)
    squares = replace(SQUARES, resize="tensorflow")
    expected = resize_like_tensorflow(np.asarray(read_image(path)), 32, 32)
    assert squares.load(path).dtype == np.float32
    np.testing.assert_array_equal(squares.load(path), expected)
    assert np.abs(expected - SQUARES.load(path)).mean() > 20  # noise that the antialiased filter averages away
    whole = replace(squares, crop_min=1.0).load_augmented(path, np.random.default_rng(1))
    assert whole.shape == (32, 32, 3)
    assert whole.std() > 40  # still noise: a crop is resized in the same way


def test_files_are_checked_a_chunk_at_a_time(coloured_images: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = coloured_images([0, 1, 2, 0, 1, 2, 0])
    for place in (1, 6):
        rows[place].path.unlink()
    asked: list[int] = []

    class Pool(images.ThreadPoolExecutor):
        def map(self, fn: Any, *iterables: Any, **more: Any) -> Any:
            asked.append(len(iterables[0]))
            return super().map(fn, *iterables, **more)

    monkeypatch.setattr(images, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(images, "CHECKS_AHEAD", 1)
    found = find_left_out(rows, np.arange(7), threads=3)
    assert [image.id for image in found] == ["t1-1", "t6-1"]
    assert asked == [3, 3, 1]
