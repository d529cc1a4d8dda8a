"""torchvision's published weights: file, address, digest and the preprocessing they were trained with. Loads no tensor.

The weights of the shipped profiles stand here as literals, so that planning a run that has nothing to do need not
import torchvision (seconds); all others are asked of torchvision itself. A test compares the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sentifuse import ConfigError

__all__ = ["KnownWeights", "ask_torchvision", "known_weights"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownWeights:
    """One entry of a torchvision weights enum; `settings` are its transforms in the words of the image encoders."""

    url: str
    settings: Mapping[str, Any]

    @property
    def file_name(self) -> str:
        """Name of the file, as torch.hub keeps it."""
        return self.url.rpartition("/")[2]

    @property
    def sha256_prefix(self) -> str:
        """First eight digits of the file's SHA-256, which torchvision writes into the name."""
        return self.file_name.rpartition("-")[2].partition(".")[0]


LITERALS: Mapping[tuple[str, str], KnownWeights] = {
    ("resnet18", "IMAGENET1K_V1"): KnownWeights(
        url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
        settings={
            "resize": 256,
            "crop": 224,
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "interpolation": "bilinear",
        },
    ),
}


def known_weights(architecture: str, weights: str) -> KnownWeights:
    """The published weights of an architecture by name.

    Raises
    ------
    ConfigError
        Unknown architecture or weights name, with the nearest one.
    """
    return LITERALS.get((architecture, weights)) or ask_torchvision(architecture, weights)


def ask_torchvision(architecture: str, weights: str) -> KnownWeights:
    """The same from torchvision's own enum (imports torchvision)."""
    from torchvision.models import get_model_weights, list_models
    from torchvision.transforms import InterpolationMode

    if architecture not in list_models():
        raise ConfigError.unknown("torchvision model", architecture, list_models())
    enum = get_model_weights(architecture)
    if weights == "DEFAULT" or weights not in enum.__members__:  # DEFAULT moves between releases: features would not
        raise ConfigError.unknown(f"weights of {architecture}", weights, enum.__members__)
    entry = enum[weights]
    preset = entry.transforms()
    try:
        settings = {
            "resize": preset.resize_size[0],
            "crop": preset.crop_size[0],
            "mean": tuple(preset.mean),
            "std": tuple(preset.std),
            "interpolation": InterpolationMode(preset.interpolation).value,
        }
    except AttributeError as error:
        raise ConfigError(f"{entry}: not weights of an image classifier") from error
    return KnownWeights(url=entry.url, settings=settings)
