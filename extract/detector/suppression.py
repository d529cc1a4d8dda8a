"""Suppression of overlapping boxes, for many images at once and without a question to the device on the way.

torchvision's nms tells how many boxes are left, so on a GPU the host waits for everything before it. Here shapes are
fixed. A box is kept unless a better one that is kept overlaps it: that determines all of them, and putting it to use on
every box at once, again and again, reaches it. After k rounds those boxes are right whose longest chain of better and
better boxes, each overlapping the one before, has at most k members. Whether the last round changed nothing, which
proves the rest, is part of the result.
"""

import numpy as np
import torch
from torch import Tensor

__all__ = ["ROUNDS", "first_kept", "overlapping", "suppress_together"]

# Shapes: B images, N boxes by falling score, m kept ones.
ROUNDS = 16  # 5 to 10 were enough for the best 1500 anchors of photographs


def overlapping(boxes: Tensor, overlap: float) -> Tensor:
    """Whether two boxes overlap by more than that, by the arithmetic of torchvision's nms: (…, N, 4) → (…, N, N)."""
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    low = torch.maximum(boxes[..., :, None, :2], boxes[..., None, :, :2])
    high = torch.minimum(boxes[..., :, None, 2:], boxes[..., None, :, 2:])
    sides = (high - low).clamp_(min=0)
    shared = sides[..., 0] * sides[..., 1]
    ratio = shared / (area[..., :, None] + area[..., None, :] - shared)
    if ratio.dtype != torch.float32:
        return ratio > overlap
    # As if in float64: 0.3 is no float32, and its nearest one, which is larger, would let a box at the edge pass.
    limit = np.float32(overlap)
    return ratio > float(limit if float(limit) <= overlap else np.nextafter(limit, np.float32(0)))


def suppress_together(blocks: Tensor, is_real: Tensor, *, rounds: int = ROUNDS) -> tuple[Tensor, Tensor]:
    """Which boxes no better one suppresses.

    Parameters
    ----------
    blocks
        bool (B, N, N): whether box i, if kept, suppresses box j. Only i < j counts.
    is_real
        bool (B, N): the others are never kept.

    Returns
    -------
    Tensor, Tensor
        bool (B, N), and bool (B,): whether that is proved.
    """
    dtype = (
        torch.float16 if blocks.device.type == "cuda" else torch.float32
    )  # sums of ones, asked only if there are any
    suppressors = blocks.triu(diagonal=1).to(dtype)
    before = kept = is_real
    for _ in range(rounds):
        before = kept
        kept = is_real & (torch.bmm(kept[:, None].to(dtype), suppressors)[:, 0] == 0)
    return kept, (kept == before).all(dim=1)


def first_kept(kept: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Numbers of the first `count` boxes that are kept.

    Returns
    -------
    Tensor, Tensor
        int64 (B, m), m = min(count, N), and bool (B, m): false where there are fewer, and the number means nothing.
    """
    boxes = kept.shape[1]
    places = torch.arange(boxes, device=kept.device).expand_as(kept)
    rows = torch.where(kept, places, boxes).sort(dim=1).values[:, :count]
    return rows.clamp(max=boxes - 1), rows < boxes
