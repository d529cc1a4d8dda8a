"""Resizing as TensorFlow does it: bilinear between the four nearest pixels, whatever the size of the image."""

import numpy as np
import pytest
import torch

from sentifuse.extract.backbones.tensorflow_resize import resize_like_tensorflow


@pytest.mark.parametrize("shape", [(7, 5), (64, 48), (1, 1), (3, 90), (32, 32)])
@pytest.mark.parametrize("wanted", [(32, 32), (5, 9)])
def test_it_equals_torchs_interpolation_without_antialias(shape: tuple[int, int], wanted: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float()
    expected = torch.nn.functional.interpolate(pixels, wanted, mode="bilinear", align_corners=False, antialias=False)
    found = resize_like_tensorflow(image, *wanted)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.transpose(2, 0, 1), expected[0].numpy(), atol=1e-3)


def test_halving_a_row_takes_the_mean_of_the_middle_pixels() -> None:
    """Six pixels to two: centres fall on 1 and 4, so pixels 0, 2, 3 and 5 are not seen at all."""
    image = np.array([[[9], [10], [9], [9], [40], [9]]], dtype=np.uint8)
    np.testing.assert_array_equal(resize_like_tensorflow(image, 1, 2)[0, :, 0], [10, 40])


def test_an_image_of_the_wanted_size_stays_as_it_is() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    np.testing.assert_array_equal(resize_like_tensorflow(image, 4, 4), image)
