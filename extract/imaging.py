"""Resize and crop as torchvision does it on Pillow images, and the way back to the original's pixels. No torch here.

Pillow's resize is antialiased always; the pixels equal those of `weights.transforms()` before normalisation. Decoding
is done elsewhere.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from sentifuse import ConfigError
from sentifuse.extract.settings import check_choice, check_range

__all__ = ["ImageSettings", "PreparedImage", "prepare_image"]

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# Above this the strip "50,000 wide, 10 high" would become a gigabyte on its way to a 224-pixel crop.
MAX_RESIZED_PIXELS = 16_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """Preprocessing of an image network; the defaults are those of most ImageNet classifiers.

    Attributes
    ----------
    resize
        One number: the shorter side, in pixels, aspect kept. Two: height and width, aspect not kept.
    crop
        Side of the centre crop in pixels; 0: none (then resize needs two numbers, so that batches have one shape).
    mean, std
        Per channel, for values scaled to 0..1.
    padding
        "torchvision", or "tensorflow" for MobileNetV2 weights that were trained there: its stride-2 convolutions pad
        at the right and bottom only.
    """

    resize: int | tuple[int, int] = 256
    crop: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    padding: str = "torchvision"

    def __post_init__(self) -> None:
        for side in self.resize if isinstance(self.resize, tuple) else (self.resize,):
            check_range("resize", side, 16, 2048)
        if self.crop:
            check_range("crop", self.crop, 16, 2048)
        elif isinstance(self.resize, int):
            raise ConfigError("crop is 0, so resize must be [height, width]: batches need images of one size")
        if min(self.std) <= 0:
            raise ConfigError(f"std is {list(self.std)}, expected numbers above 0")
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        check_choice("padding", self.padding, ("tensorflow", "torchvision"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedImage:
    """An image as the network will see it, still in bytes, and where each of its pixels lies in the original.

    Attributes
    ----------
    pixels
        uint8 (height, width, 3), RGB.
    size
        (width, height) of the original in pixels.
    scale
        Original pixels per network pixel, (x, y).
    offset
        Left and top edge of the crop in pixels of the resized image.
    """

    pixels: npt.NDArray[np.uint8]
    size: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[int, int]

    def boxes_in_original(self, boxes_xyxy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Boxes (n, 4) given in pixels of `pixels`, in pixels of the original, clipped to it."""
        offset = np.array(self.offset * 2, dtype=np.float64)
        scale = np.array(self.scale * 2, dtype=np.float64)
        limit = np.array(self.size * 2, dtype=np.float64)
        return np.clip((boxes_xyxy + offset) * scale, 0.0, limit)


def prepare_image(image: Image.Image, settings: ImageSettings) -> PreparedImage:
    """Resize and crop an RGB image; a crop larger than the resized image is filled with black, as torchvision does."""
    width, height = image.size
    new_width, new_height = _resized(width, height, settings.resize)
    crop_width, crop_height = (settings.crop, settings.crop) if settings.crop else (new_width, new_height)
    left = round((new_width - crop_width) / 2) if new_width >= crop_width else -((crop_width - new_width) // 2)
    top = round((new_height - crop_height) / 2) if new_height >= crop_height else -((crop_height - new_height) // 2)
    scale = (width / new_width, height / new_height)
    resample = INTERPOLATIONS[settings.interpolation]
    if new_width * new_height <= MAX_RESIZED_PIXELS:
        resized = image if (new_width, new_height) == image.size else image.resize((new_width, new_height), resample)
        cropped = resized.crop((left, top, left + crop_width, top + crop_height)) if settings.crop else resized
    else:
        cropped = _crop_then_resize(image, scale, (left, top), (crop_width, crop_height), resample)
    return PreparedImage(pixels=np.asarray(cropped), size=(width, height), scale=scale, offset=(left, top))


def _resized(width: int, height: int, resize: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(resize, tuple):
        return resize[1], resize[0]
    if width <= height:
        return resize, int(resize * height / width)
    return int(resize * width / height), resize


def _crop_then_resize(
    image: Image.Image,
    scale: tuple[float, float],
    offset: tuple[int, int],
    size: tuple[int, int],
    resample: Image.Resampling,
) -> Image.Image:
    """The crop of the resized image without making the rest; differs by at most one grey level of 255."""
    left, top = offset[0] * scale[0], offset[1] * scale[1]
    right = min(left + size[0] * scale[0], image.width)
    bottom = min(top + size[1] * scale[1], image.height)
    return image.resize(size, resample, box=(max(left, 0.0), max(top, 0.0), right, bottom))
