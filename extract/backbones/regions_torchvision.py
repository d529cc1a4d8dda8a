"""torchvision's Faster R-CNNs, taken apart: proposals, their features and classes, before its own list of detections.

Preparing, backbone, proposals, pooling and predictors are torchvision's own modules; only what becomes of the
predictions is ours. Every image has a pass of its own: padded together with larger ones it would see the padding.
"""

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL.Image import Image
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.detection.image_list import ImageList

from sentifuse import DataError
from sentifuse.extract.backbones.arithmetic import half_precision
from sentifuse.extract.backbones.detected import regions_of_proposals
from sentifuse.extract.backbones.image import compare_state, read_state_dict, with_counters
from sentifuse.extract.backbones.tiny_rcnn import tiny_rcnn
from sentifuse.extract.encoder import BackboneSpec
from sentifuse.extract.encoders.regions_detected import Detected
from sentifuse.extract.encoders.regions_torchvision import ARCHITECTURES
from sentifuse.extract.errors import ModelMismatch

__all__ = ["TorchvisionDetector", "load_detector"]

# Shapes: R proposals, K classes without background, D features.
CLASSES = "roi_heads.box_predictor.cls_score.weight"
# Published files older than torchvision 0.13 have the names on the left.
NEWER_NAMES = (
    (re.compile(r"(\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$"), r"\1.0.\2"),
    (re.compile(r"(rpn\.head\.conv)\.(weight|bias)$"), r"\1.0.0.\2"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPixels:
    """An image normalised and resized as the network does it: float32 (3, h, w), and its original (width, height)."""

    pixels: npt.NDArray[np.float32]
    size: tuple[int, int]


class TorchvisionDetector:
    """Images → {"regions": [Detected, …]}; implements `DetectorBackbone`."""

    inputs = ("image",)
    batch_limit = 1
    has_attributes = False

    def __init__(self, spec: BackboneSpec, device: str) -> None:
        self.device = torch.device(device)
        self.precision = spec.precision
        self.count: int = spec.options["count"]
        self.overlap: float = spec.options["overlap"]
        sizes = {name: spec.options[name] for name in ("min_size", "max_size") if spec.options[name]}
        with spec.model.opened() as file:
            net: Any = load_detector(spec.model.architecture, file, norm_eps=spec.options["norm_eps"], **sizes)
        self.net = net.eval().requires_grad_(False).to(self.device)
        self.feature_width: int = self.net.roi_heads.box_predictor.cls_score.in_features

    def prepare(self, image: Image | None, text: str | None) -> PreparedPixels:
        """Normalise and resize.

        Raises
        ------
        DataError
            Nothing would be left of the shorter side.
        """
        if image is None:
            raise DataError("no image")
        self._refuse_too_thin(image.size)
        with torch.inference_mode():
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
            resized, _ = self.net.transform.resize(self.net.transform.normalize(pixels))
        return PreparedPixels(pixels=resized.numpy(), size=image.size)

    def batch_key(self, prepared: PreparedPixels) -> Hashable:
        """Images of one network size."""
        return prepared.pixels.shape

    def forward(self, batch: Sequence[PreparedPixels]) -> Mapping[str, Any]:
        """One pass for each image."""
        with torch.inference_mode():
            return {"regions": [self._detect(row) for row in batch]}

    def _detect(self, row: PreparedPixels) -> Detected:
        heads = self.net.roi_heads
        pixels = torch.from_numpy(row.pixels).to(self.device)
        net_hw = (pixels.shape[1], pixels.shape[2])
        padded = self.net.transform.batch_images([pixels], self.net.transform.size_divisible)
        # Boxes are computed in float32 whatever the network: in half precision they would be off by pixels.
        with half_precision(self.device, self.precision):
            maps = self.net.backbone(padded)
        with half_precision(self.device, "float32"):
            maps = {name: one.float() for name, one in maps.items()}
            (proposals,), _ = self.net.rpn(ImageList(padded, [net_hw]), maps)
            crops = heads.box_roi_pool(maps, [proposals], [net_hw])
        with half_precision(self.device, self.precision):
            features: Tensor = heads.box_head(crops)
        with half_precision(self.device, "float32"):
            features = features.float()
            logits, deltas = heads.box_predictor(features)
            moved = heads.box_coder.decode(deltas, [proposals]).reshape(len(proposals), logits.shape[1], 4)
        return regions_of_proposals(
            features,
            torch.softmax(logits, dim=1)[:, 1:],  # background comes first
            moved[:, 1:],
            net_hw=net_hw,
            size=row.size,
            count=self.count,
            overlap=self.overlap,
        )

    def _refuse_too_thin(self, size: tuple[int, int]) -> None:
        short, long = min(size), max(size)
        transform = self.net.transform
        if int(short * min(transform.min_size[-1] / short, transform.max_size / long)) < 1:
            raise DataError(
                f"{size[0]}x{size[1]} pixels: too thin, nothing is left when its long side is made {transform.max_size}"
            )


def load_detector(architecture: str, file: Path, *, norm_eps: float, **sizes: int) -> Any:
    """A detector with the weights of a file, float32, strict; as many classes as the file has.

    Parameters
    ----------
    norm_eps
        Epsilon of the norms that published weights have frozen.
    sizes
        min_size and max_size, where they are not the architecture's own.

    Raises
    ------
    ModelMismatch
        Tensors missing, too many or of another shape: lists them, and names the architecture they do fit.
    """
    state = {_newer_name(name): value for name, value in read_state_dict(file).items()}
    class_count = len(state[CLASSES]) if CLASSES in state else 91
    net = _blank(architecture, class_count, **sizes)
    state = with_counters(net.state_dict(), state)
    problems = compare_state(net.state_dict(), state)
    if problems:
        others = (name for name in ARCHITECTURES if name != architecture)
        fits = [name for name in others if not _misfits(name, class_count, state)]
        hint = f" It does fit {' and '.join(fits)}: set architecture." if fits else ""
        raise ModelMismatch(f"{file}: not the weights of {architecture}: {'; '.join(problems)}.{hint}")
    net.load_state_dict(state, strict=True, assign=True)
    for module in net.backbone.body.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = norm_eps
    return net


def _misfits(architecture: str, class_count: int, state: Mapping[str, Tensor]) -> list[str]:
    expected = _blank(architecture, class_count).state_dict()
    return compare_state(expected, with_counters(expected, state))


def _blank(architecture: str, class_count: int, **sizes: int) -> Any:
    """A network whose numbers are all to be replaced. Made for real: its anchors are not among the weights."""
    with torch.random.fork_rng(devices=[]):
        if architecture == "tiny_rcnn":
            return tiny_rcnn(num_classes=class_count, **sizes)
        return get_model(architecture, weights=None, weights_backbone=None, num_classes=class_count, **sizes)


def _newer_name(name: str) -> str:
    for pattern, newer in NEWER_NAMES:
        name = pattern.sub(newer, name)
    return name
