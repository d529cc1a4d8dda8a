"""The detector as it is usually written: what `sentifuse.extract.detector` is measured against, and nothing else.

One image at a time, float32, channels first, norms beside their convolutions, all crops in one go, every class's box of
every proposal decoded, one NMS for each class (rule caffe36). Not made weak: torch's own convolutions, torchvision's
pooling and NMS, nothing computed twice. It gives the same regions.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import clip_boxes_to_image, nms, roi_pool

from sentifuse.extract.detector.architecture import Architecture

# Shapes: R proposals, C classes without background, m regions.
MEAN_BGR = (102.9801, 115.9465, 122.7717)
SHORT_SIDE, LONG_SIDE = 600, 1000
Lap = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The regions of an image by falling confidence."""

    features: Tensor  # (m, 2048)
    boxes: Tensor  # (m, 4) in the original
    moved: Tensor  # (m, 4) the same as their classes move them
    anchors: Tensor  # (m,)
    class_ids: Tensor  # (m,)
    attribute_ids: Tensor  # (m,)


class ConvNorm(nn.Conv2d):
    def __init__(self, wide_in: int, wide_out: int, side: int, *, stride: int = 1, dilation: int = 1) -> None:
        padding = dilation * (side // 2)
        super().__init__(wide_in, wide_out, side, stride=stride, padding=padding, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm2d(wide_out, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))


class Block(nn.Module):
    def __init__(self, wide_in: int, inner: int, *, stride: int = 1, dilation: int = 1, is_first: bool) -> None:
        super().__init__()
        if is_first:
            self.shortcut = ConvNorm(wide_in, 4 * inner, 1, stride=stride)
        self.is_first = is_first
        self.conv1 = ConvNorm(wide_in, inner, 1, stride=stride)
        self.conv2 = ConvNorm(inner, inner, 3, dilation=dilation)
        self.conv3 = ConvNorm(inner, 4 * inner, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu_(self.conv1(x))
        out = self.conv3(F.relu_(self.conv2(out)))
        out += self.shortcut(x) if self.is_first else x
        return F.relu_(out)


def stage(sizes: Architecture, number: int, *, stride: int, dilation: int = 1) -> nn.Sequential:
    inner, outer = sizes.bottleneck_width(number), sizes.output_width(number)
    first = Block(sizes.input_width(number), inner, stride=stride, dilation=dilation, is_first=True)
    others = [Block(outer, inner, dilation=dilation, is_first=False) for _ in range(sizes.depths[number - 2] - 1)]
    return nn.Sequential(first, *others)


class NaiveDetector(nn.Module):
    """Made with the weights' own names; `detect` does the work."""

    def __init__(self, state: Mapping[str, Tensor], sizes: Architecture, *, proposals: int = 300) -> None:
        super().__init__()
        self.proposals = proposals
        self.stem = ConvNorm(3, sizes.base_width, 7, stride=2)
        self.res2, self.res3, self.res4 = (stage(sizes, number, stride=min(number - 1, 2)) for number in (2, 3, 4))
        self.res5 = stage(sizes, 5, stride=1, dilation=2)
        self.rpn_conv = nn.Conv2d(sizes.output_width(4), sizes.proposal_width, 3, padding=1)
        self.objectness = nn.Conv2d(sizes.proposal_width, 12, 1)
        self.anchor_deltas = nn.Conv2d(sizes.proposal_width, 48, 1)
        self.cls_score = nn.Linear(sizes.feature_width, sizes.class_count + 1)
        self.bbox_pred = nn.Linear(sizes.feature_width, 4 * sizes.class_count)
        self.cls_embedding = nn.Embedding(sizes.class_count + 1, sizes.embedding_width)
        self.fc_attr = nn.Linear(sizes.feature_width + sizes.embedding_width, sizes.attribute_width)
        self.attr_score = nn.Linear(sizes.attribute_width, sizes.attribute_count + 1)
        self.anchors = state["proposal_generator.anchor_generator.cell_anchors.0"]
        parts = {
            "backbone.stem.conv1": self.stem,
            "backbone.res2": self.res2,
            "backbone.res3": self.res3,
            "backbone.res4": self.res4,
            "roi_heads.res5": self.res5,
            "proposal_generator.rpn_head.conv": self.rpn_conv,
            "proposal_generator.rpn_head.objectness_logits": self.objectness,
            "proposal_generator.rpn_head.anchor_deltas": self.anchor_deltas,
            **{
                f"roi_heads.box_predictor.{name}": getattr(self, name)
                for name in ("cls_score", "bbox_pred", "cls_embedding", "fc_attr", "attr_score")
            },
        }
        for prefix, part in parts.items():
            part.load_state_dict(
                {key[len(prefix) + 1 :]: value for key, value in state.items() if key.startswith(f"{prefix}.")}
            )
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def detect(self, file: Path, lap: Lap = lambda name: None, *, count: int = 36) -> Found:
        """Regions of a picture; `lap` is told when a stage has ended."""
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        lap("decode")
        pixels = resize(image)
        lap("resize")
        height, width = pixels.shape[2:]
        maps = F.max_pool2d(F.relu_(self.stem(pixels)), 3, 2, ceil_mode=True)
        maps = self.res4(self.res3(self.res2(maps)))
        lap("backbone")
        boxes, anchors = self.propose(maps, height, width)
        lap("RPN")
        crops = roi_pool(maps, [boxes], 14, 1 / 16)
        lap("RoI pool")
        features = self.res5(crops).mean(dim=(2, 3))
        lap("res5")
        logits = self.cls_score(features)
        probabilities = torch.softmax(logits, dim=1)[:, :-1]
        moved = self.decode(self.bbox_pred(features), boxes, height, width)
        attributes = self.attributes(features, logits.argmax(dim=1))
        lap("predictors")
        scale = torch.tensor([image.width / width, image.height / height] * 2)
        rows = select(boxes * scale, probabilities, count)
        ids = probabilities[rows].argmax(dim=1)
        lap("selection")
        return Found(
            features=features[rows],
            boxes=boxes[rows] * scale,
            moved=moved[rows, ids] * scale,
            anchors=anchors[rows],
            class_ids=ids,
            attribute_ids=attributes[rows],
        )

    def propose(self, maps: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        hidden = F.relu_(self.rpn_conv(maps))
        rows, columns = maps.shape[2:]
        logits = self.objectness(hidden)[0].permute(1, 2, 0).reshape(-1)
        deltas = self.anchor_deltas(hidden)[0].view(12, 4, rows, columns).permute(2, 3, 0, 1).reshape(-1, 4)
        y, x = torch.meshgrid(torch.arange(rows) * 16.0, torch.arange(columns) * 16.0, indexing="ij")
        grid = (torch.stack([x, y, x, y], dim=-1)[:, :, None] + self.anchors).reshape(-1, 4)
        order = torch.sort(logits, descending=True, stable=True).indices[:6000]
        boxes = clip_boxes_to_image(move(grid[order], deltas[order]), (height, width))
        real = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1)
        boxes, order = boxes[real], order[real]
        kept = nms(boxes, logits[order], 0.7)[: self.proposals]
        return boxes[kept], order[kept]

    def decode(self, deltas: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
        """(R, C, 4) every class's box."""
        deltas = deltas.view(len(boxes), -1, 4) / torch.tensor([10.0, 10.0, 5.0, 5.0])
        return clip_boxes_to_image(move(boxes[:, None].expand_as(deltas), deltas), (height, width))

    def attributes(self, features: Tensor, ids: Tensor) -> Tensor:
        hidden = F.relu_(self.fc_attr(torch.cat([features, self.cls_embedding(ids)], dim=1)))
        return torch.softmax(self.attr_score(hidden)[:, :-1], dim=1).argmax(dim=1)


def resize(image: Image.Image) -> Tensor:
    """(1, 3, H, W) blue first, minus the mean."""
    scale = SHORT_SIDE / min(image.size)
    sides = [SHORT_SIDE if side == min(image.size) else scale * side for side in image.size]
    if max(sides) > LONG_SIDE:
        sides = [side * (LONG_SIDE / max(sides)) for side in sides]
    resized = image.resize((int(sides[0] + 0.5), int(sides[1] + 0.5)), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized)[:, :, ::-1].astype(np.float32) - np.array(MEAN_BGR, dtype=np.float32)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]


def move(boxes: Tensor, deltas: Tensor) -> Tensor:
    sides = boxes[..., 2:] - boxes[..., :2]
    centres = boxes[..., :2] + 0.5 * sides
    centres = deltas[..., :2] * sides + centres
    half = 0.5 * torch.exp(deltas[..., 2:].clamp(max=math.log(1000 / 16))) * sides
    return torch.cat([centres - half, centres + half], dim=-1)


def select(boxes: Tensor, probabilities: Tensor, count: int) -> Tensor:
    """Rows of largest confidence: that of the best class in which no better row overlaps by more than 0.3."""
    confidence = torch.zeros(len(boxes))
    for scores in probabilities.T:
        kept = nms(boxes, scores, 0.3)
        confidence[kept] = torch.maximum(confidence[kept], scores[kept])
    return torch.sort(confidence, descending=True, stable=True).indices[:count]
