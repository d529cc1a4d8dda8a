"""The network, written to be read: convolutions with their norms beside them, everything computed as published.

Its state dict has the names of the public checkpoints. Caffe's habits are kept: a bottleneck strides in its first 1x1
convolution, the stem pools without padding but rounds its size up, and the last stage, run on crops, is dilated.
Works in float32 and float64. Slow by intent; `fast.py` gives the same numbers.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_pool

from sentifuse.extract.detector.architecture import ANCHORS_PER_CELL, Architecture
from sentifuse.extract.detector.boxes import cell_anchors
from sentifuse.extract.detector.pooling import pool_boxes
from sentifuse.extract.detector.stages import POOLED_SIDE, STRIDE

__all__ = ["FasterRcnn", "PlainNetwork", "build_network"]

# Shapes: as in stages.py.
ALL_CROPS = 6000  # as many as there can be boxes


class NormedConv(nn.Conv2d):
    """A convolution without bias and the frozen norm after it."""

    def __init__(self, wide_in: int, wide_out: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(wide_in, wide_out, kernel, stride=stride, padding=padding, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm2d(wide_out, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, then normalise by the stored statistics."""
        normed: Tensor = self.norm(super().forward(x))
        return normed


class Stem(nn.Module):
    """A quarter of the size. The pool pads nothing and rounds up; padded and rounded down it would be off by one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = NormedConv(3, width, 7, stride=2)

    def forward(self, pixels: Tensor) -> Tensor:
        """(1, 3, H, W) → (1, 64, ~H / 4, ~W / 4)."""
        return F.max_pool2d(F.relu(self.conv1(pixels)), kernel_size=3, stride=2, padding=0, ceil_mode=True)


class Bottleneck(nn.Module):
    """1x1 (with the stride), 3x3 (with the dilation), 1x1; added to the input or to its projection."""

    def __init__(self, wide_in: int, inner: int, *, is_first: bool, stride: int, dilation: int) -> None:
        super().__init__()
        self.shortcut = NormedConv(wide_in, 4 * inner, 1, stride=stride) if is_first else None
        self.conv1 = NormedConv(wide_in, inner, 1, stride=stride)
        self.conv2 = NormedConv(inner, inner, 3, dilation=dilation)
        self.conv3 = NormedConv(inner, 4 * inner, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Same sides, divided by the stride."""
        inner = F.relu(self.conv2(F.relu(self.conv1(x))))
        return F.relu(self.conv3(inner) + (x if self.shortcut is None else self.shortcut(x)))


class CellAnchors(nn.Module):
    """A list of one tensor, as the checkpoints have it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("0", torch.empty(ANCHORS_PER_CELL, 4))


class AnchorGenerator(nn.Module):
    """Holds the anchors of a cell: the stored ones, which need not follow any formula."""

    def __init__(self) -> None:
        super().__init__()
        self.cell_anchors = CellAnchors()


class ProposalHead(nn.Module):
    """Objectness and deltas of every anchor."""

    def __init__(self, wide_in: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(wide_in, width, 3, padding=1)
        self.objectness_logits = nn.Conv2d(width, ANCHORS_PER_CELL, 1)
        self.anchor_deltas = nn.Conv2d(width, 4 * ANCHORS_PER_CELL, 1)

    def forward(self, res4: Tensor) -> tuple[Tensor, Tensor]:
        """(1, 12, h, w) and (1, 48, h, w); channel of the second = 4 * anchor + component."""
        hidden = F.relu(self.conv(res4))
        return self.objectness_logits(hidden), self.anchor_deltas(hidden)


class Predictor(nn.Module):
    """Classes, boxes and attributes from a region's feature."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.cls_score = nn.Linear(sizes.feature_width, sizes.class_count + 1)
        self.bbox_pred = nn.Linear(sizes.feature_width, 4 * sizes.class_count)
        if sizes.has_attributes:
            self.cls_embedding = nn.Embedding(sizes.class_count + 1, sizes.embedding_width)
            self.fc_attr = nn.Linear(sizes.feature_width + sizes.embedding_width, sizes.attribute_width)
            self.attr_score = nn.Linear(sizes.attribute_width, sizes.attribute_count + 1)


class RoiHeads(nn.Module):
    """The last stage and what is predicted from it."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.res5 = _stage(sizes, 5, stride=1, dilation=2)
        self.box_predictor = Predictor(sizes)


class ProposalGenerator(nn.Module):
    """Anchors and what is said about them."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.anchor_generator = AnchorGenerator()
        self.rpn_head = ProposalHead(sizes.output_width(4), sizes.proposal_width)


class Backbone(nn.Module):
    """The image once, down to a sixteenth of its size."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.stem = Stem(sizes.base_width)
        self.res2 = _stage(sizes, 2, stride=1)
        self.res3 = _stage(sizes, 3, stride=2)
        self.res4 = _stage(sizes, 4, stride=2)


class FasterRcnn(nn.Module):
    """The modules, named as in the checkpoints."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.backbone = Backbone(sizes)
        self.proposal_generator = ProposalGenerator(sizes)
        self.roi_heads = RoiHeads(sizes)


class PlainNetwork:
    """The network as `Stages`, see there."""

    def __init__(self, net: FasterRcnn) -> None:
        self.net = net
        weight = net.roi_heads.box_predictor.cls_score.weight
        self.dtype, self.device = weight.dtype, weight.device
        self.crop_chunk = ALL_CROPS
        self.has_attributes = hasattr(net.roi_heads.box_predictor, "attr_score")
        # Never in another dtype: 45.25 and the like are what the weights were trained with.
        self.cell_anchors = net.proposal_generator.anchor_generator.cell_anchors.get_buffer("0").float()

    def backbone(self, pixels: Tensor) -> dict[str, Tensor]:
        """See `Stages`."""
        maps = {}
        x = pixels.to(self.dtype)
        for name, stage in self.net.backbone.named_children():
            x = maps[name] = stage(x)
        return maps

    def proposal_head(self, res4: Tensor) -> tuple[Tensor, Tensor]:
        """See `Stages`."""
        logits, deltas = self.net.proposal_generator.rpn_head(res4)
        return logits, deltas

    def pooled(self, res4: Tensor, boxes: Tensor) -> Tensor:
        """See `Stages`. The edges of the bins are computed in float32 whatever the network's dtype."""
        if res4.dtype != torch.float32:
            return pool_boxes(res4[0], boxes)
        crops: Tensor = roi_pool(res4, [boxes.float()], POOLED_SIDE, 1.0 / STRIDE)
        return crops

    def features(self, res4: Tensor, boxes: Tensor) -> Tensor:
        """See `Stages`; all crops at once, unless `crop_chunk` was lowered."""
        parts = torch.split(self.pooled(res4, boxes), self.crop_chunk)
        return torch.cat([self.net.roi_heads.res5(crops).mean(dim=(2, 3)) for crops in parts])

    def class_logits(self, features: Tensor) -> Tensor:
        """See `Stages`."""
        logits: Tensor = self.net.roi_heads.box_predictor.cls_score(features)
        return logits

    def class_deltas(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """See `Stages`; all classes' deltas are computed."""
        deltas = self.net.roi_heads.box_predictor.bbox_pred(features).unflatten(1, (-1, 4))  # (R, C, 4)
        rows = torch.arange(len(features), device=features.device)
        chosen: Tensor = deltas[rows, class_ids]
        return chosen

    def attribute_logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """See `Stages`."""
        predictor = self.net.roi_heads.box_predictor
        hidden = torch.cat([features, predictor.cls_embedding(class_ids)], dim=1)
        logits: Tensor = predictor.attr_score(F.relu(predictor.fc_attr(hidden)))
        return logits


def build_network(
    state: Mapping[str, Tensor],
    sizes: Architecture,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> PlainNetwork:
    """The network with these weights (complete and checked, see `checkpoints/`); nothing is filled in but anchors."""
    state = {"proposal_generator.anchor_generator.cell_anchors.0": cell_anchors(), **state}
    with torch.device("meta"):
        net = FasterRcnn(sizes)
    for key in net.state_dict():
        if key.endswith(".num_batches_tracked"):  # counts training steps; half of the checkpoints leave it out
            state[key] = torch.zeros((), dtype=torch.int64)
    net.load_state_dict(state, strict=True, assign=True)
    return PlainNetwork(net.eval().requires_grad_(False).to(device, dtype))


def _stage(sizes: Architecture, stage: int, *, stride: int, dilation: int = 1) -> nn.Sequential:
    blocks = []
    for block in range(sizes.depths[stage - 2]):
        is_first = block == 0
        wide_in = sizes.input_width(stage) if is_first else sizes.output_width(stage)
        blocks.append(
            Bottleneck(
                wide_in,
                sizes.bottleneck_width(stage),
                is_first=is_first,
                stride=stride if is_first else 1,
                dilation=dilation,
            )
        )
    return nn.Sequential(*blocks)
