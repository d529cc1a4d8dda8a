"""From what a detector says about its proposals to the regions of an image; the rule where its authors left none."""

import torch
from torch import Tensor
from torchvision.ops import nms

from sentifuse.extract.detector.boxes import clip_boxes, scale_boxes
from sentifuse.extract.encoders.regions_detected import Detected

__all__ = ["SMALLEST_SIDE_PX", "regions_of_proposals", "to_detected"]

# Shapes: R proposals, K classes without background, D features.
SMALLEST_SIDE_PX = 0.01  # a box that was moved out of the image is clipped to a line; torchvision drops it at this side


def regions_of_proposals(
    features: Tensor,
    probabilities: Tensor,
    moved: Tensor,
    *,
    net_hw: tuple[int, int],
    size: tuple[int, int],
    count: int,
    overlap: float,
) -> Detected:
    """Each proposal once, as its best class moves it; of those that overlap the most probable; `count` at most.

    A detector's own list of detections may name a proposal once for each class, and no proposal at all of an image in
    which nothing is certain: neither suits features that a later network weighs by itself.

    Parameters
    ----------
    features
        (R, D), of the proposals.
    probabilities
        (R, K).
    moved
        (R, K, 4) in pixels of the network's input, (R, 1, 4) if all classes move a box alike.
    net_hw, size
        (height, width) of the network's input, (width, height) of the original.
    overlap
        IoU above which the less probable box goes, whatever the classes.
    """
    scores, ids = probabilities.max(dim=1)
    columns = ids if moved.shape[1] > 1 else torch.zeros_like(ids)
    boxes = clip_boxes(moved[torch.arange(len(ids), device=ids.device), columns], *net_hw)
    has_area = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= SMALLEST_SIDE_PX
    real = torch.nonzero(has_area).flatten()
    rows = real[nms(boxes[real], scores[real], overlap)[:count]]
    return to_detected(features[rows], boxes[rows], scores[rows], ids[rows], net_hw=net_hw, size=size)


def to_detected(
    features: Tensor, boxes: Tensor, scores: Tensor, ids: Tensor, *, net_hw: tuple[int, int], size: tuple[int, int]
) -> Detected:
    """Regions on the CPU, their boxes in pixels of the original; ranked by the probability of their class."""
    width, height = size
    in_original = clip_boxes(scale_boxes(boxes.float(), net_hw, (height, width)), height, width)
    probabilities = scores.to("cpu", torch.float32).numpy()
    return Detected(
        features=features.to("cpu", torch.float32).numpy(),
        boxes=in_original.cpu().numpy(),
        scores=probabilities,
        object_ids=ids.to("cpu", torch.int64).numpy(),
        object_scores=probabilities,
        size=size,
    )
