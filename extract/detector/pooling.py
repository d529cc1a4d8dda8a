"""Max pooling of boxes to 14 x 14 bins (RoIPool), with each different window of the map pooled only once.

A bin is a small rectangle of whole cells, and the bins of overlapping boxes are mostly the same rectangles: 300 boxes
have 58,800 bins but 6,000 to 13,000 windows. So the windows are pooled, and bins point at them; what follows a bin
without looking at its neighbours can be computed once per window too. Equal to `torchvision.ops.roi_pool` to the bit.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sentifuse.extract.detector.stages import POOLED_SIDE, STRIDE

__all__ = ["Windows", "find_windows", "pool_boxes", "pool_windows"]

# Shapes: R boxes, U windows, P = 14 bins a side, C channels, h and w the map's sides.
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The different rectangles of cells among the bins of some boxes.

    Attributes
    ----------
    edges
        (U, 4) rows from top to bottom (exclusive), columns from left to right (exclusive); never empty.
    of_bin
        (R, 14, 14) number of each bin's window; U stands for a bin without cells, whose value is 0.
    """

    edges: Ints
    of_bin: Ints


def find_windows(boxes: Tensor, height: int, width: int) -> Windows:
    """Windows of boxes (R, 4), given in pixels of the network's input, on a map of height x width cells.

    Computed in float32 whatever the boxes' dtype: wider or narrower types round some edges to other cells.
    """
    corners: npt.NDArray[np.float32] = boxes.detach().cpu().numpy().astype(np.float32)
    left, right = _bins(corners[:, 0], corners[:, 2], width)
    top, bottom = _bins(corners[:, 1], corners[:, 3], height)
    tall = top * (height + 1) + bottom  # (R, 14)
    wide = left * (width + 1) + right
    is_empty = (bottom <= top)[:, :, None] | (right <= left)[:, None, :]
    codes = tall[:, :, None] * (width + 1) ** 2 + wide[:, None, :]
    found, of_bin = np.unique(np.where(is_empty, -1, codes), return_inverse=True)
    of_bin = of_bin.reshape(codes.shape).astype(np.int64)
    if len(found) and found[0] == -1:
        found, of_bin = found[1:], of_bin - 1
        of_bin[of_bin < 0] = len(found)
    tall, wide = np.divmod(found, (width + 1) ** 2)
    edges = np.stack([*np.divmod(tall, height + 1), *np.divmod(wide, width + 1)], axis=1)
    return Windows(edges=edges, of_bin=of_bin)


def pool_windows(cells: Tensor, edges: Ints) -> Tensor:
    """Maximum of each window, and a row of zeros for bins without cells.

    Parameters
    ----------
    cells
        (h, w, C), contiguous.

    Returns
    -------
    Tensor
        (U + 1, C).
    """
    count = len(edges)
    pooled = cells.new_zeros((count + 1, cells.shape[2]))
    heights, widths = edges[:, 1] - edges[:, 0], edges[:, 3] - edges[:, 2]
    strip = cells  # maxima over `tall` rows
    for tall in range(1, int(heights.max(initial=0)) + 1):
        if tall > 1:
            strip = torch.maximum(strip[:-1], cells[tall - 1 :])
        widest = int(widths[heights == tall].max(initial=0))
        block = strip  # maxima over `tall` rows and `wide` columns
        for wide in range(1, widest + 1):
            if wide > 1:
                block = torch.maximum(block[:, :-1], strip[:, wide - 1 :])
            chosen = np.flatnonzero((heights == tall) & (widths == wide))
            if len(chosen):
                cell = edges[chosen, 0] * block.shape[1] + edges[chosen, 2]
                flat = block.reshape(-1, block.shape[2])
                pooled[_on(chosen, cells)] = flat[_on(cell, cells)]
    return pooled


def pool_boxes(feature_map: Tensor, boxes: Tensor) -> Tensor:
    """Crops (R, C, 14, 14) of a map (C, h, w), in any floating dtype."""
    cells = feature_map.permute(1, 2, 0).contiguous()
    windows = find_windows(boxes, *cells.shape[:2])
    crops = pool_windows(cells, windows.edges)[_on(windows.of_bin, cells)]
    return crops.permute(0, 3, 1, 2)


def _bins(low: npt.NDArray[np.float32], high: npt.NDArray[np.float32], limit: int) -> tuple[Ints, Ints]:
    """First and last (exclusive) cell of the 14 bins of each box along one axis, both (R, 14)."""
    start, end = _nearest(low / np.float32(STRIDE)), _nearest(high / np.float32(STRIDE))
    count = np.maximum(end - start + 1, 1)
    side = count.astype(np.float32) / np.float32(POOLED_SIDE)
    position = np.arange(POOLED_SIDE + 1, dtype=np.float32)
    edge = position * side[:, None]
    first = np.floor(edge[:, :-1]).astype(np.int64) + start[:, None]
    last = np.ceil(edge[:, 1:]).astype(np.int64) + start[:, None]
    return np.clip(first, 0, limit), np.clip(last, 0, limit)


def _nearest(value: npt.NDArray[np.float32]) -> Ints:
    """Nearest whole number, halves away from zero; numpy's own rounds them to even. In float64 the sum is exact."""
    wide = value.astype(np.float64)
    rounded: Ints = (np.sign(wide) * np.floor(np.abs(wide) + 0.5)).astype(np.int64)
    return rounded


def _on(index: npt.NDArray[Any], like: Tensor) -> Tensor:
    return torch.from_numpy(index).to(like.device)
