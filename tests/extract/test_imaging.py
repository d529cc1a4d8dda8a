"""Preparing an image: the pixels are torchvision's, and every network pixel can be found in the original."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.models import ResNet18_Weights
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from sentifuse import ConfigError
from sentifuse.extract.imaging import MAX_RESIZED_PIXELS, ImageSettings, prepare_image

law = settings(max_examples=40, derandomize=True, deadline=None)
sides = st.integers(1, 400)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng([width, height]).integers(0, 256, (height, width, 3), dtype=np.uint8))


def normalised(pixels: np.ndarray, wanted: ImageSettings) -> torch.Tensor:
    scaled = torch.from_numpy(pixels.copy()).permute(2, 0, 1).to(torch.float32) / 255
    return (scaled - torch.tensor(wanted.mean).view(3, 1, 1)) / torch.tensor(wanted.std).view(3, 1, 1)


@law
@given(width=st.integers(20, 400), height=st.integers(20, 400))
def test_the_defaults_equal_the_published_transforms_of_resnet18(width: int, height: int) -> None:
    image = noise(width, height)
    expected = ResNet18_Weights.IMAGENET1K_V1.transforms()(image)
    found = normalised(prepare_image(image, ImageSettings()).pixels, ImageSettings())
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@law
@given(width=sides, height=sides, side=st.integers(16, 64), crop=st.integers(16, 64))
def test_any_crop_equals_torchvision_also_one_larger_than_the_image(
    width: int, height: int, side: int, crop: int
) -> None:
    image = noise(width, height)
    resized = tv.resize(image, [side], interpolation=InterpolationMode.BICUBIC)
    expected = np.asarray(tv.center_crop(resized, [crop, crop]))
    found = prepare_image(image, ImageSettings(resize=side, crop=crop, interpolation="bicubic")).pixels
    np.testing.assert_array_equal(found, expected)


def test_resizing_is_antialiased(photo: Any) -> None:
    image = noise(500, 400)
    found = prepare_image(image, ImageSettings(resize=(64, 64), crop=0)).pixels.astype(int)
    tensor = tv.pil_to_tensor(image)
    good = tv.resize(tensor, [64, 64], antialias=True).permute(1, 2, 0).numpy().astype(int)
    bad = tv.resize(tensor, [64, 64], antialias=False).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(found - good).max() <= 1
    assert np.abs(found - bad).mean() > 20


@law
@given(width=sides, height=sides)
def test_the_whole_prepared_image_maps_back_to_its_crop(width: int, height: int) -> None:
    prepared = prepare_image(noise(width, height), ImageSettings(resize=(32, 48), crop=0))
    assert prepared.pixels.shape == (32, 48, 3)
    whole = prepared.boxes_in_original(np.array([[0.0, 0.0, 48.0, 32.0]]))
    np.testing.assert_allclose(whole, [[0, 0, width, height]], atol=1e-9)


def test_a_centre_crop_maps_back_to_the_centre() -> None:
    prepared = prepare_image(noise(200, 100), ImageSettings(resize=50, crop=40))
    found = prepared.boxes_in_original(np.array([[0.0, 0.0, 40.0, 40.0]]))
    np.testing.assert_allclose(found, [[60, 10, 140, 90]])


def test_an_extreme_strip_is_prepared_without_making_it_huge() -> None:
    strip = noise(20_000, 20)
    wanted = ImageSettings(resize=256, crop=224)
    resized_pixels = 256_000 * 256  # what resizing first would make
    assert resized_pixels > MAX_RESIZED_PIXELS
    prepared = prepare_image(strip, wanted)
    around = strip.crop((9_900, 0, 10_100, 20)).resize((200 * 256 // 20, 256), Image.Resampling.BILINEAR)
    expected = np.asarray(tv.center_crop(around, [224, 224])).astype(int)
    assert prepared.pixels.shape == (224, 224, 3)
    assert np.abs(prepared.pixels.astype(int) - expected).max() <= 1


def test_settings_that_make_no_batch_are_refused() -> None:
    with pytest.raises(ConfigError, match="crop is 0"):
        ImageSettings(resize=256, crop=0)
    with pytest.raises(ConfigError, match="unknown interpolation 'linear'"):
        ImageSettings(interpolation="linear")
    with pytest.raises(ConfigError, match="std is"):
        ImageSettings(std=(1.0, 0.0, 1.0))
    with pytest.raises(ConfigError, match="unknown padding"):
        ImageSettings(padding="same")
