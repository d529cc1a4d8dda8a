"""Batch normalisation that also stands a batch of one pair. Nothing else is new in it."""

import torch
import torch.nn.functional as F
from torch import nn


class BatchNorm(nn.BatchNorm1d):
    """torch's, but one row in training is normalised by the running statistics: it has no variance of its own.

    Batch mates are seen in training only. The loop joins a last batch of one row to another; this is for a training
    part of one pair and for `batch_size=1`.
    """

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(B, D) → (B, D)."""
        if self.training and len(values) == 1:
            return F.batch_norm(values, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(values)
