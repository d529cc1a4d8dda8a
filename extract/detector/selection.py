"""Which proposals of an image become its regions: three rules, all from the probabilities of its rows.

`fixed36`: every row with the box its best class gives it; overlapping ones dropped whatever their class.
`caffe36` and `adaptive`: every row with its proposal box, trusted as far as the best class in which no better row
overlaps it; the 36 most trusted, or all that reach 0.2, but 10 to 100.

No rule loops over classes: one NMS runs for all of them at once, on the few pairs of row and class that can matter.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import nms

from sentifuse.extract.detector.suppression import overlapping

__all__ = [
    "Selected",
    "Trust",
    "confidences",
    "confidences_by_class",
    "select_adaptive",
    "select_best",
    "select_fixed",
]

# Shapes: R rows, C classes without background, m selected rows.
FIXED_OVERLAPS = (0.5, 0.6, 0.7)
CLASS_OVERLAP = 0.3
CONFIDENCE = 0.2
CUTS = (0.2, 0.05, 0.01, 0.001, 0.0)  # falling; the last keeps every pair

Trust = Callable[[Tensor, Tensor, float], Tensor]  # `confidences` or `confidences_by_class`


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """Rows in order, what each was chosen by, and the overlap that was allowed in the end."""

    rows: Tensor  # (m,) int64
    scores: Tensor  # (m,) probability, in caffe36 and adaptive the confidence; need not fall in adaptive
    overlap: float  # between boxes in fixed36; else between boxes of a class, always the same


def select_fixed(boxes: Tensor, scores: Tensor, *, count: int = 36) -> Selected:
    """Rule fixed36 on regressed boxes (R, 4) with the score (R,) of the class that regressed them.

    Where even the widest overlap leaves fewer than `count`, fewer they are.
    """
    rows, overlap = torch.zeros(0, dtype=torch.int64, device=boxes.device), FIXED_OVERLAPS[0]
    for overlap in FIXED_OVERLAPS:
        rows = nms(boxes, scores, overlap)[:count]
        if len(rows) >= count:
            break
    return Selected(rows=rows, scores=scores[rows], overlap=overlap)


def select_best(boxes: Tensor, probabilities: Tensor, *, count: int = 36, trust: Trust | None = None) -> Selected:
    """Rule caffe36: the `count` rows of largest confidence, falling. Boxes (R, 4) are proposals in the original."""
    rows, trusted = _best(boxes, probabilities, count, trust or confidences)
    return Selected(rows=rows, scores=trusted[rows], overlap=CLASS_OVERLAP)


def select_adaptive(
    boxes: Tensor, probabilities: Tensor, *, fewest: int = 10, most: int = 100, trust: Trust | None = None
) -> Selected:
    """Rule adaptive: rows with confidence 0.2 in their own order; too few or too many: the best, falling."""
    trust = trust or confidences
    trusted = trust(boxes, probabilities, CONFIDENCE)
    rows = torch.nonzero(trusted >= CONFIDENCE).flatten()
    if len(rows) < fewest:
        rows, trusted = _best(boxes, probabilities, fewest, trust)
    elif len(rows) > most:
        rows = torch.sort(trusted, descending=True, stable=True).indices[:most]
    return Selected(rows=rows, scores=trusted[rows], overlap=CLASS_OVERLAP)


def confidences(boxes: Tensor, probabilities: Tensor, cut: float) -> Tensor:
    """(R,) largest probability among the classes in which a row survives NMS, where it is at least `cut`; else 0.

    Only pairs of row and class with probability >= `cut` are looked at. That is exact: what suppresses such a pair
    has the larger probability, so it is among them.
    """
    is_candidate = probabilities >= cut
    classes = torch.nonzero(is_candidate.any(dim=0)).flatten()
    scores = torch.where(is_candidate, probabilities, -1.0)[:, classes].T.contiguous()  # (classes, R)
    if scores.numel() == 0:
        return probabilities.new_zeros(len(probabilities))
    depth = int((scores >= 0).sum(dim=1).max())  # pairs in the fullest class
    order = torch.sort(scores, dim=1, descending=True, stable=True).indices
    ranks = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order).to(order.device))
    overlaps = overlapping(boxes, CLASS_OVERLAP)
    lines = torch.arange(len(scores), device=scores.device)
    is_alive = scores >= 0
    for rank in range(depth):  # the best row of every class, then the second best ...
        row = order[:, rank]
        is_suppressor = is_alive[lines, row]
        is_alive &= ~(overlaps[row] & is_suppressor[:, None] & (ranks > rank))  # (classes, R)
    return torch.where(is_alive, scores, 0.0).amax(dim=0).clamp(min=0)


def confidences_by_class(boxes: Tensor, probabilities: Tensor, cut: float = 0.0) -> Tensor:
    """The same, said plainly: one NMS for each class. What `confidences` is measured against."""
    trusted = torch.zeros(len(probabilities), dtype=probabilities.dtype, device=probabilities.device)
    for scores in probabilities.T:
        kept = nms(boxes, scores, CLASS_OVERLAP)
        trusted[kept] = torch.maximum(trusted[kept], scores[kept])
    return torch.where(trusted >= cut, trusted, 0.0)


def _best(boxes: Tensor, probabilities: Tensor, count: int, trust: Trust) -> tuple[Tensor, Tensor]:
    """The `count` rows of largest confidence, and the confidences of all, as far as they decide.

    Below a cut nothing is known, so it falls until enough rows reach it.
    """
    trusted = probabilities.new_zeros(len(probabilities))
    for cut in CUTS:
        trusted = trust(boxes, probabilities, cut)
        if int((trusted >= cut).sum()) >= count:
            break
    return torch.sort(trusted, descending=True, stable=True).indices[:count], trusted
