"""From the logits and deltas of all anchors to the boxes worth looking at."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import nms

from sentifuse.extract.detector.boxes import anchor_grid, apply_deltas, clip_boxes
from sentifuse.extract.detector.suppression import first_kept, overlapping, suppress_together

__all__ = ["MAX_CANDIDATES", "Proposals", "ProposalsTogether", "suppress"]

# Shapes: B images, R proposals, N candidates, A = 12 anchors per cell, h and w the map's sides.
MAX_CANDIDATES = 6000
OVERLAP = 0.7
FIRST_TRY = 1500  # candidates; their survivors nearly always suffice
ONLY_TRY = 2000  # where nobody can ask whether they did


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
        order, scores, moved = _best_anchors(logits, deltas, cell_anchors, net_hw, MAX_CANDIDATES)
        is_real = _is_real(moved[0])
        order, scores, boxes = order[0][is_real], scores[0][is_real], moved[0][is_real]
        kept = suppress(boxes, scores, OVERLAP, count)
        return cls(boxes=boxes[kept], logits=scores[kept], anchors=order[kept])


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalsTogether:
    """The same for several images of one size, chosen without a question to the device."""

    boxes: Tensor  # (B, R, 4)
    logits: Tensor  # (B, R)
    anchors: Tensor  # (B, R) int64
    is_real: Tensor  # (B, R) bool: the others, at the end, stand for nothing
    is_proved: Tensor  # (B,) bool: else `Proposals.choose` may find others

    @classmethod
    def choose(
        cls, logits: Tensor, deltas: Tensor, cell_anchors: Tensor, net_hw: tuple[int, int], *, count: int = 300
    ) -> "ProposalsTogether":
        """See `Proposals.choose`; logits (B, 12, h, w) and deltas (B, 48, h, w).

        Only the best 2000 anchors are looked at: where they leave too few, that is not proved.
        """
        order, scores, boxes = _best_anchors(logits, deltas, cell_anchors, net_hw, ONLY_TRY)
        # An image at a time: what lies between boxes and answers is thirty times as large as the answers.
        blocks = torch.stack([overlapping(of_image, OVERLAP) for of_image in boxes])
        kept, is_proved = suppress_together(blocks, _is_real(boxes))
        # What is no number sorts and overlaps as it likes: `Detector` refuses such an image by name.
        is_proved = (
            is_proved & torch.isfinite(logits).flatten(1).all(dim=1) & torch.isfinite(deltas).flatten(1).all(dim=1)
        )
        if logits[0].numel() > ONLY_TRY:
            is_proved = is_proved & (kept.sum(dim=1) >= count)
        rows, is_real = first_kept(kept, count)
        return cls(
            boxes=boxes.gather(1, rows[:, :, None].expand(-1, -1, 4)),
            logits=scores.gather(1, rows),
            anchors=order.gather(1, rows),
            is_real=is_real,
            is_proved=is_proved,
        )

    @classmethod
    def joined(cls, parts: Sequence["ProposalsTogether"]) -> "ProposalsTogether":
        """Those of images of several sizes; R becomes the largest, filled up with what is not real."""
        most = max(part.boxes.shape[1] for part in parts)

        def join(name: str) -> Tensor:
            values = [getattr(part, name) for part in parts]
            widened = [
                torch.cat([value, value.new_zeros(len(value), most - value.shape[1], *value.shape[2:])], dim=1)
                for value in values
            ]
            return torch.cat(widened)

        return cls(
            boxes=join("boxes"),
            logits=join("logits"),
            anchors=join("anchors"),
            is_real=join("is_real"),
            is_proved=torch.cat([part.is_proved for part in parts]),
        )

    def of_image(self, image: int, count: int) -> Proposals:
        """Those of one image, `count` being how many are real."""
        return Proposals(
            boxes=self.boxes[image, :count], logits=self.logits[image, :count], anchors=self.anchors[image, :count]
        )


def suppress(boxes: Tensor, sorted_scores: Tensor, overlap: float, count: int) -> Tensor:
    """Rows of the first `count` boxes that no better one overlaps by more than `overlap`; scores fall already.

    Whether a box survives depends on better boxes only, so the best 1500 are tried first.
    """
    first = nms(boxes[:FIRST_TRY], sorted_scores[:FIRST_TRY], overlap)
    if len(first) < count and len(boxes) > FIRST_TRY:
        first = nms(boxes, sorted_scores, overlap)
    kept: Tensor = first[:count]
    return kept


def _best_anchors(
    logits: Tensor, deltas: Tensor, cell_anchors: Tensor, net_hw: tuple[int, int], count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers (B, N), logits (B, N) and boxes (B, N, 4), moved and clipped, of the anchors of largest logit."""
    images, _, height, width = logits.shape
    flat = logits.permute(0, 2, 3, 1).reshape(images, -1)
    moves = deltas.reshape(images, -1, 4, height, width).permute(0, 3, 4, 1, 2).reshape(images, -1, 4)
    # A stable sort: of equal logits the first anchor, on every machine.
    order = torch.sort(flat, dim=1, descending=True, stable=True).indices[:, :count]
    anchors = anchor_grid(cell_anchors.to(flat.dtype), height, width)[order]
    boxes = apply_deltas(moves.gather(1, order[:, :, None].expand(-1, -1, 4)), anchors)
    return order, flat.gather(1, order), clip_boxes(boxes, *net_hw)


def _is_real(boxes: Tensor) -> Tensor:
    """Whether anything is left of each box: (…, 4) → (…)."""
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
