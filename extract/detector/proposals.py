"""From the logits and deltas of all anchors to the boxes worth looking at."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import nms

from sentifuse.extract.detector.boxes import anchor_grid, apply_deltas, clip_boxes

__all__ = ["MAX_CANDIDATES", "Proposals", "suppress"]

# Shapes: R proposals, A = 12 anchors per cell, h and w the map's sides.
MAX_CANDIDATES = 6000
OVERLAP = 0.7
FIRST_TRY = 1500  # candidates; their survivors nearly always suffice


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposals:
    """Boxes by falling logit; there may be fewer than asked for, even none."""

    boxes: Tensor  # (R, 4) pixels of the network's input, clipped to it
    logits: Tensor  # (R,)
    anchors: Tensor  # (R,) int64, (y * w + x) * 12 + anchor

    @classmethod
    def choose(
        cls,
        logits: Tensor,
        deltas: Tensor,
        cell_anchors: Tensor,
        net_hw: tuple[int, int],
        *,
        count: int = 300,
    ) -> "Proposals":
        """The 6000 best anchors, moved, clipped, without empty ones; of overlapping ones the best; the first `count`.

        Parameters
        ----------
        logits, deltas
            (1, 12, h, w) and (1, 48, h, w).
        """
        height, width = logits.shape[2:]
        flat = logits[0].permute(1, 2, 0).reshape(-1)
        moves = deltas[0].view(-1, 4, height, width).permute(2, 3, 0, 1).reshape(-1, 4)
        # A stable sort: of equal logits the first anchor, on every machine.
        order = torch.sort(flat, descending=True, stable=True).indices[:MAX_CANDIDATES]
        anchors = anchor_grid(cell_anchors.to(flat.dtype), height, width)[order]
        boxes = clip_boxes(apply_deltas(moves[order], anchors), *net_hw)
        is_real = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        order, boxes = order[is_real], boxes[is_real]
        kept = suppress(boxes, flat[order], OVERLAP, count)
        return cls(boxes=boxes[kept], logits=flat[order[kept]], anchors=order[kept])


def suppress(boxes: Tensor, sorted_scores: Tensor, overlap: float, count: int) -> Tensor:
    """Rows of the first `count` boxes that no better one overlaps by more than `overlap`; scores fall already.

    Whether a box survives depends on better boxes only, so the best 1500 are tried first.
    """
    first = nms(boxes[:FIRST_TRY], sorted_scores[:FIRST_TRY], overlap)
    if len(first) < count and len(boxes) > FIRST_TRY:
        first = nms(boxes, sorted_scores, overlap)
    kept: Tensor = first[:count]
    return kept
