"""What is told of the regions of one image."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Regions"]

# Shapes: m regions, D = 2048.
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Regions:
    """The regions of one image, in the order of the selection; m may be smaller than asked for, even 0.

    Attributes
    ----------
    features
        float32 (m, D), of the proposals, whatever box is reported.
    boxes, boxes_normalised
        float32 (m, 4) x1 y1 x2 y2 in pixels of the original; divided by its width and height. Mode fixed36: moved as
        the class says; other modes: the proposals.
    proposals
        float32 (m, 4) in pixels of the original: where the features were pooled.
    scores
        float32 (m,): what the mode goes by. Mode fixed36: the probability of the best class; other modes: that of the
        best class in which no better row overlaps this one.
    class_ids, class_scores
        int64 and float32 (m,): best class of 0..1599 and its probability.
    attribute_ids, attribute_scores
        int64 and float32 (m,), of 0..399; None if the weights have no attributes.
    rows, anchors
        int64 (m,): number among the proposals, and the anchor the proposal came from.
    overlap
        IoU that was allowed between boxes in the end.
    size
        (width, height) of the original in pixels.
    """

    features: Floats
    boxes: Floats
    boxes_normalised: Floats
    proposals: Floats
    scores: Floats
    class_ids: Ints
    class_scores: Floats
    attribute_ids: Ints | None
    attribute_scores: Floats | None
    rows: Ints
    anchors: Ints
    overlap: float
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        best = f", first of class {self.class_ids[0]} ({self.class_scores[0]:.2f})" if len(self) else ""
        return f"<{len(self)} regions of an image of {self.size[0]}x{self.size[1]}{best}>"
