"""The rules of `selection.py` for many images at once, with fixed shapes and without a question to the device.

Where a rule would have to look further than is foreseen here, the result says that it is not proved; then
`selection.py` has to decide on that image alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sentifuse.extract.detector.selection import CLASS_OVERLAP, CONFIDENCE, FIXED_OVERLAPS
from sentifuse.extract.detector.settings import SelectionSettings
from sentifuse.extract.detector.suppression import first_kept, overlapping, suppress_together

__all__ = ["SelectedTogether", "select_by_class_together", "select_fixed_together"]

# Shapes: B images, R rows, C classes without background, P pairs of row and class, m selected rows.
CLASSES_OF_A_ROW = int(1 / CONFIDENCE)  # that can reach the confidence: probabilities sum up to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedTogether:
    """See `Selected`; the rows that are not real are the last of each image."""

    rows: Tensor  # (B, m) int64
    is_real: Tensor  # (B, m) bool
    scores: Tensor  # (B, m)
    overlap: Tensor  # (B,)
    is_proved: Tensor  # (B,) bool


def select_fixed_together(boxes: Tensor, scores: Tensor, is_real: Tensor, *, count: int) -> SelectedTogether:
    """Rule fixed36 on boxes (B, R, 4) with scores (B, R), where they are real (B, R)."""
    order = torch.where(is_real, scores, -1.0).sort(dim=1, descending=True, stable=True).indices
    boxes, is_real = boxes.gather(1, order[:, :, None].expand(-1, -1, 4)), is_real.gather(1, order)
    # All overlaps in one suppression, as if of so many more images.
    blocks = torch.cat([overlapping(boxes, overlap) for overlap in FIXED_OVERLAPS])
    kept, is_proved = suppress_together(blocks, is_real.repeat(len(FIXED_OVERLAPS), 1))
    *narrower, (picked, allowed) = zip(kept.chunk(len(FIXED_OVERLAPS)), FIXED_OVERLAPS, strict=True)
    chosen = torch.full((len(boxes),), allowed, device=boxes.device)
    for by_overlap, overlap in reversed(narrower):  # the narrowest that gives enough holds
        is_enough = by_overlap.sum(dim=1) >= count
        picked = torch.where(is_enough[:, None], by_overlap, picked)
        chosen = torch.where(is_enough, overlap, chosen)
    rows, is_row = first_kept(picked, count)
    rows = order.gather(1, rows)
    return SelectedTogether(
        rows=rows,
        is_real=is_row,
        scores=scores.gather(1, rows),
        overlap=chosen,
        is_proved=is_proved.view(len(FIXED_OVERLAPS), -1).all(dim=0),
    )


def select_by_class_together(
    boxes: Tensor, probabilities: Tensor, is_real: Tensor, settings: SelectionSettings
) -> SelectedTogether:
    """Rules caffe36 and adaptive on proposals in the original (B, R, 4) and probabilities (B, R, C).

    Only confidences of 0.2 and more are known here: where a rule needs lower ones, that is not proved.
    """
    trusted, is_proved = _confidences(boxes, probabilities, is_real)
    is_trusted = trusted >= CONFIDENCE
    found = is_trusted.sum(dim=1)
    best = torch.sort(trusted, dim=1, descending=True, stable=True).indices
    if settings.mode == "caffe36":
        rows = best[:, : settings.count]
        is_row = torch.ones_like(rows, dtype=torch.bool)
        is_proved = is_proved & (found >= settings.count)
    else:
        rows, is_row = first_kept(is_trusted, settings.most)
        is_much = (found > settings.most)[:, None]
        rows = torch.where(is_much, best[:, : settings.most], rows)
        is_proved = is_proved & (found >= settings.fewest)
    return SelectedTogether(
        rows=rows,
        is_real=is_row,
        scores=trusted.gather(1, rows),
        overlap=torch.full((len(boxes),), CLASS_OVERLAP, device=boxes.device),
        is_proved=is_proved,
    )


def _confidences(boxes: Tensor, probabilities: Tensor, is_real: Tensor) -> tuple[Tensor, Tensor]:
    """`selection.confidences` at 0.2 of every image (B, R), and whether that is proved (B,)."""
    images, rows, classes = probabilities.shape
    each = min(CLASSES_OF_A_ROW, classes)
    best, ids = probabilities.topk(each, dim=2)  # (B, R, 5)
    is_pair = (best >= CONFIDENCE) & is_real[:, :, None]
    scores, order = torch.where(is_pair, best, -1.0).flatten(1).sort(dim=1, descending=True, stable=True)  # (B, P)
    row = order // each
    of_class = ids.flatten(1).gather(1, order)
    image = torch.arange(images, device=boxes.device)[:, None, None]
    blocks = overlapping(boxes, CLASS_OVERLAP)[image, row[:, :, None], row[:, None, :]]
    blocks &= of_class[:, :, None] == of_class[:, None, :]
    kept, is_proved = suppress_together(blocks, scores >= CONFIDENCE)
    trusted = scores.new_zeros(images, rows).scatter_reduce(1, row, torch.where(kept, scores, 0.0), "amax")
    return trusted, is_proved
