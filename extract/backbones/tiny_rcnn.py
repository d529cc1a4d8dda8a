"""A miniature of torchvision's Faster R-CNN with random weights: for demonstrations and tests. Detects nothing."""

from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from sentifuse.extract.backbones.tiny_conv import WIDTHS, TinyConv

__all__ = ["tiny_rcnn"]

FEATURE_WIDTH = 32
POOLED_SIDE = 3


class TinyBody(nn.Module):
    """One map of the tiny network, as a detector wants it."""

    out_channels = sum(WIDTHS)

    def __init__(self) -> None:
        super().__init__()
        self.body = TinyConv()

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) → {"0": (B, 64, H / 16, W / 16)}."""
        return {"0": self.body(pixels)}


def tiny_rcnn(*, num_classes: int = 8, **sizes: Any) -> Any:
    """A FasterRCNN whose boxes have 32 features; called like torchvision's own builders.

    Parameters
    ----------
    num_classes
        Background included.
    sizes
        Other arguments of FasterRCNN; by default images have a short side of 96 pixels, a long one of at most 160.
    """
    return FasterRCNN(
        TinyBody(),
        rpn_anchor_generator=AnchorGenerator(sizes=((16, 32, 64),), aspect_ratios=((0.5, 1.0, 2.0),)),
        box_roi_pool=MultiScaleRoIAlign(featmap_names=["0"], output_size=POOLED_SIDE, sampling_ratio=2),
        box_head=TwoMLPHead(TinyBody.out_channels * POOLED_SIDE**2, FEATURE_WIDTH),
        box_predictor=FastRCNNPredictor(FEATURE_WIDTH, num_classes),
        rpn_post_nms_top_n_test=100,
        **{"min_size": 96, "max_size": 160, **sizes},
    )
