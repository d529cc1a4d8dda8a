"""What every implementation of the network offers: its stages one by one, so that each can be checked alone."""

from typing import Protocol

import torch
from torch import Tensor

__all__ = ["POOLED_SIDE", "STRIDE", "Stages"]

# Shapes: H, W network input; h, w = H / 16, W / 16 rounded up; R boxes; C = 1600 classes; D = 2048.
POOLED_SIDE = 14
STRIDE = 16


class Stages(Protocol):
    """One set of weights on one device. Maps go in and out as (1, channels, rows, columns), in any memory layout."""

    has_attributes: bool
    cell_anchors: Tensor  # (12, 4) float32
    dtype: torch.dtype  # of boxes and scores; parts of the network may run in less
    device: torch.device
    crop_chunk: int  # crops that go through the last stage at a time; may be lowered where a GPU's memory is short

    def backbone(self, pixels: Tensor) -> dict[str, Tensor]:
        """(1, 3, H, W) BGR minus mean → maps "stem", "res2", "res3", "res4"; the last (1, 1024, h, w)."""

    def proposal_head(self, res4: Tensor) -> tuple[Tensor, Tensor]:
        """Objectness logits (1, 12, h, w) and deltas (1, 48, h, w)."""

    def pooled(self, res4: Tensor, boxes: Tensor) -> Tensor:
        """The crops: (R, 1024, 14, 14)."""

    def features(self, res4: Tensor, boxes: Tensor) -> Tensor:
        """(R, D): mean over each crop after the last stage."""

    def class_logits(self, features: Tensor) -> Tensor:
        """(R, C + 1), background last."""

    def class_deltas(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """(R, 4): raw deltas of one foreground class for each row."""

    def attribute_logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """(R, attributes + 1) for the class, background included, that each row most looks like."""
