import numpy as np
import pytest
import torch
from PIL import Image

from sentifuse.extract.detector.preprocess import MEAN_BGR, net_size, prepare, to_tensor


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((300, 400), (600, 800)),
        ((400, 300), (800, 600)),
        ((120, 500), (240, 1000)),
        ((1100, 1500), (600, 818)),
        ((600, 1001), (599, 1000)),
        ((600, 999), (600, 999)),
        ((1, 1), (600, 600)),
        ((1, 5000), (1, 1000)),
    ],
)
def test_short_side_is_600_and_long_side_at_most_1000(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert net_size(*size) == expected


def test_blue_comes_first_and_only_the_mean_is_taken_off() -> None:
    prepared = prepare(Image.new("RGB", (600, 600), (10, 20, 30)))
    pixels = to_tensor(prepared, device="cpu", dtype=torch.float64)
    assert pixels.shape == (1, 3, 600, 600)
    assert pixels[0, :, 5, 7].tolist() == [30 - MEAN_BGR[0], 20 - MEAN_BGR[1], 10 - MEAN_BGR[2]]


def test_other_colour_modes_become_rgb() -> None:
    assert (prepare(Image.new("L", (60, 60), 7)).pixels == 7).all()


def test_resizing_is_pillows_on_bytes(photo: Image.Image) -> None:
    expected = np.asarray(photo.resize((800, 600), Image.Resampling.BILINEAR))
    prepared = prepare(photo)
    assert prepared.size == (40, 30)
    assert prepared.original_hw == (30, 40)
    assert np.array_equal(prepared.pixels[:, :, ::-1], expected)
