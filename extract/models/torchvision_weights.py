"""torchvision's published weights: file, address, digest and what else goes with them. Loads no tensor.

The weights of the shipped profiles and of the detectors stand here as literals, so that planning a run that has nothing
to do need not import torchvision (seconds); all others are asked of torchvision itself. A test compares the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sentifuse import ConfigError

__all__ = ["DETECTORS", "KnownWeights", "ask_torchvision", "known_weights", "recognise_weights"]

DETECTORS = (
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
)
# Trained when torchvision's frozen norms left the epsilon out; with it every feature would be slightly another.
WITHOUT_EPSILON = (("fasterrcnn_resnet50_fpn", "COCO_V1"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownWeights:
    """One entry of a torchvision weights enum; `settings` are what goes with it in the words of the encoders.

    An image classifier's are its transforms; a detector's network resizes by itself.
    """

    url: str
    settings: Mapping[str, Any]
    is_detector: bool = False

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
    ("fasterrcnn_mobilenet_v3_large_320_fpn", "COCO_V1"): KnownWeights(
        url="https://download.pytorch.org/models/fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
        settings={},
        is_detector=True,
    ),
    ("fasterrcnn_mobilenet_v3_large_fpn", "COCO_V1"): KnownWeights(
        url="https://download.pytorch.org/models/fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",
        settings={},
        is_detector=True,
    ),
    ("fasterrcnn_resnet50_fpn", "COCO_V1"): KnownWeights(
        url="https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        settings={"norm_eps": 0.0},
        is_detector=True,
    ),
    ("fasterrcnn_resnet50_fpn_v2", "COCO_V1"): KnownWeights(
        url="https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
        settings={},
        is_detector=True,
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


def recognise_weights(digest: str) -> KnownWeights | None:
    """The literal above that a file with this SHA-256 is, under whatever name it lies on a disk."""
    return next((known for known in LITERALS.values() if digest.startswith(known.sha256_prefix)), None)


def ask_torchvision(architecture: str, weights: str) -> KnownWeights:
    """The same from torchvision's own enum (imports torchvision)."""
    from torchvision.models import get_model_weights, list_models
    from torchvision.transforms import InterpolationMode

    if architecture not in list_models():
        known = DETECTORS if "rcnn" in architecture.lower() else list_models()
        raise ConfigError.unknown("torchvision model", architecture, known)
    enum = get_model_weights(architecture)
    if weights == "DEFAULT" or weights not in enum.__members__:  # DEFAULT moves between releases: features would not
        raise ConfigError.unknown(f"weights of {architecture}", weights, enum.__members__)
    entry = enum[weights]
    if architecture in DETECTORS:
        own = {"norm_eps": 0.0} if (architecture, weights) in WITHOUT_EPSILON else {}
        return KnownWeights(url=entry.url, settings=own, is_detector=True)
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
        raise ConfigError(f"{entry}: not weights of an image classifier, nor of {', '.join(DETECTORS)}") from error
    return KnownWeights(url=entry.url, settings=settings)
