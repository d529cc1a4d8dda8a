"""From a decoded image to the network's input: size, resize in bytes, blue-green-red order, minus the mean."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from sentifuse import DataError

__all__ = [
    "LEAST_SIDE_PX",
    "LONG_SIDE_PX",
    "MEAN_BGR",
    "SHORT_SIDE_PX",
    "PreparedImage",
    "net_size",
    "prepare",
    "to_tensor",
]

SHORT_SIDE_PX = 600
LONG_SIDE_PX = 1000
LEAST_SIDE_PX = 3  # of a strip narrower than this the stem leaves no cell
MEAN_BGR = (102.9801, 115.9465, 122.7717)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedImage:
    """An image as the network will see it, still in bytes.

    Attributes
    ----------
    pixels
        uint8 (height, width, 3), blue first.
    size
        (width, height) of the original in pixels.
    """

    pixels: npt.NDArray[np.uint8]
    size: tuple[int, int]

    @property
    def net_hw(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def original_hw(self) -> tuple[int, int]:
        """Height and width of the original."""
        return self.size[1], self.size[0]


def net_size(height: int, width: int, *, short: int = SHORT_SIDE_PX, long: int = LONG_SIDE_PX) -> tuple[int, int]:
    """Height and width of the network's input: short side 600, but long side at most 1000.

    >>> net_size(300, 400), net_size(120, 500), net_size(600, 1001)
    ((600, 800), (240, 1000), (599, 1000))
    """
    scale = short / min(height, width)
    new_height, new_width = (short, scale * width) if height < width else (scale * height, short)
    if max(new_height, new_width) > long:
        shrink = long / max(new_height, new_width)
        new_height, new_width = new_height * shrink, new_width * shrink
    return max(int(new_height + 0.5), 1), max(int(new_width + 0.5), 1)


def prepare(image: Image.Image) -> PreparedImage:
    """Resize with Pillow's bilinear filter, which works on bytes and antialiases when reducing.

    Raises
    ------
    DataError
        More than 400 times as long as wide: the network sees nothing of it.
    """
    height, width = net_size(image.height, image.width)
    if min(height, width) < LEAST_SIDE_PX:
        raise DataError(
            f"an image of {image.width}x{image.height} pixels is {width}x{height} to the detector, too narrow for it: "
            f"expected {LEAST_SIDE_PX} pixels at least each way"
        )
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    resized = rgb if rgb.size == (width, height) else rgb.resize((width, height), Image.Resampling.BILINEAR)
    return PreparedImage(pixels=np.ascontiguousarray(np.asarray(resized)[:, :, ::-1]), size=rgb.size)


def to_tensor(prepared: PreparedImage, *, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """(1, 3, height, width) minus the mean, channels last in memory; not divided by anything."""
    pixels = torch.from_numpy(prepared.pixels).to(device).to(dtype)
    return (pixels - torch.tensor(MEAN_BGR, device=pixels.device, dtype=dtype)).permute(2, 0, 1)[None]
