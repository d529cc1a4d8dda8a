"""Anchors and boxes (x1, y1, x2, y2): where anchors lie, how deltas move boxes, how boxes are clipped and scaled.

No "+1" anywhere: a box's width is x2 - x1.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = [
    "CAFFE_BOXES",
    "MAX_LOG_GROWTH",
    "RATIOS",
    "SIZES",
    "anchor_grid",
    "apply_deltas",
    "cell_anchors",
    "cell_anchors_of_caffe",
    "clip_boxes",
    "scale_boxes",
]

# Shapes: A anchors per cell, N boxes.
SIZES = (64, 128, 256, 512)
RATIOS = (0.5, 1.0, 2.0)  # height by width
CAFFE_BOXES = ((23, 12), (16, 16), (11, 22))  # width and height by ratio, for size 16; Caffe rounds them
MAX_LOG_GROWTH = math.log(1000.0 / 16.0)  # no delta makes a box more than 62.5 times as wide or high


def cell_anchors() -> Tensor:
    """(12, 4) float32 around the origin, by formula: sizes outside, ratios inside."""
    boxes = []
    for size in SIZES:
        for ratio in RATIOS:
            width = math.sqrt(size * size / ratio)
            height = ratio * width
            boxes.append((-width / 2, -height / 2, width / 2, height / 2))
    return torch.tensor(boxes, dtype=torch.float64).float()


def cell_anchors_of_caffe() -> Tensor:
    """(12, 4) float32: the anchors of the Caffe original with its "+1" added to x2 and y2, in our order."""
    boxes = []
    for size in SIZES:
        for base_width, base_height in CAFFE_BOXES:
            width, height = base_width * size / 16, base_height * size / 16
            boxes.append((8 - width / 2, 8 - height / 2, 8 + width / 2, 8 + height / 2))
    return torch.tensor(boxes, dtype=torch.float64).float()


def anchor_grid(anchors: Tensor, height: int, width: int, *, stride: int = 16) -> Tensor:
    """All anchors of a map (height * width * A, 4): by row, column, anchor; shifted by whole strides, no half cell."""
    y = torch.arange(height, device=anchors.device, dtype=anchors.dtype) * stride
    x = torch.arange(width, device=anchors.device, dtype=anchors.dtype) * stride
    shift_y, shift_x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([shift_x, shift_y, shift_x, shift_y], dim=-1)  # (height, width, 4)
    return (shifts[:, :, None] + anchors).reshape(-1, 4)


def apply_deltas(deltas: Tensor, boxes: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Move boxes (..., 4) by deltas (..., 4) = dx, dy, dw, dh, each divided by its weight first."""
    width = boxes[..., 2] - boxes[..., 0]
    height = boxes[..., 3] - boxes[..., 1]
    centre_x = boxes[..., 0] + 0.5 * width
    centre_y = boxes[..., 1] + 0.5 * height
    dx, dy, dw, dh = (deltas[..., i] / weights[i] for i in range(4))
    new_x = dx * width + centre_x
    new_y = dy * height + centre_y
    new_width = torch.exp(dw.clamp(max=MAX_LOG_GROWTH)) * width
    new_height = torch.exp(dh.clamp(max=MAX_LOG_GROWTH)) * height
    half_width, half_height = 0.5 * new_width, 0.5 * new_height
    return torch.stack(
        [new_x - half_width, new_y - half_height, new_x + half_width, new_y + half_height],
        dim=-1,
    )


def clip_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes cut to [0, width] x [0, height]: not minus one."""
    x = boxes[..., 0::2].clamp(0, width)
    y = boxes[..., 1::2].clamp(0, height)
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], dim=-1)


def scale_boxes(boxes: Tensor, net_hw: tuple[int, int], original_hw: tuple[int, int]) -> Tensor:
    """Boxes in pixels of the network's input, in pixels of the original; each axis has its own factor."""
    factor_y = original_hw[0] / net_hw[0]
    factor_x = original_hw[1] / net_hw[1]
    return boxes * torch.tensor([factor_x, factor_y, factor_x, factor_y], dtype=boxes.dtype, device=boxes.device)
