"""Inputs with zero mean and unit variance, by statistics of the real rows of the training part. Learns nothing else."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from sentifuse.fuse.features.batches import Batch

# Shapes: B pairs, T elements, D width.

CONSTANT = 16  # deviations up to so many roundings of the mean count as none


class Standardise(nn.Module):
    """(x − mean) / scale per feature, zero where the mask is False; the identity until statistics were learned.

    A feature that never varies keeps scale 1. Mean and scale are buffers: they travel with the weights.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, D) with (B,), or (B, T, D) with (B, T)."""
        return ((values - self.mean) / self.scale).masked_fill(~mask.unsqueeze(-1), 0.0)


def layer_name(key: str) -> str:
    """What the layer of a field "encoder.field" is called in a module: torch forbids dots there."""
    return key.replace(".", "_")


def learn_statistics(
    layers: Mapping[str, Standardise],
    batches: Iterable[Batch],
    rows_of: Callable[[Batch], Mapping[str, torch.Tensor]] | None = None,
) -> None:
    """Set mean and scale of every layer in one pass over the batches.

    Parameters
    ----------
    rows_of
        The rows (n, D) of a batch that count, by the layers' keys; by default the real elements of the key's field.
    """
    moments = {key: _Moments() for key in layers}
    for batch in batches:
        rows = None if rows_of is None else rows_of(batch)
        for key, moment in moments.items():
            moment.add(batch.values[key][batch.masks[key]] if rows is None else rows[key])
    for key, layer in layers.items():
        mean, scale = moments[key].result(layer.mean)
        layer.mean.copy_(mean)
        layer.scale.copy_(scale)


class _Moments:
    """Count, mean and squared deviations of rows, joined batch by batch (Chan et al.: no cancellation)."""

    def __init__(self) -> None:
        self.count = 0
        self.precision = 0.0
        self.mean = torch.zeros(())
        self.deviations = torch.zeros(())

    def add(self, rows: torch.Tensor) -> None:
        if not len(rows):
            return
        self.precision = torch.finfo(rows.dtype).eps
        rows = rows.double()
        count, mean = len(rows), rows.mean(0)
        delta = mean - self.mean
        total = self.count + count
        self.deviations = (
            self.deviations + (rows - mean).square().sum(0) + delta.square() * (self.count * count / total)
        )
        self.mean = self.mean + delta * (count / total)
        self.count = total

    def result(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.count:
            return torch.zeros_like(like), torch.ones_like(like)
        scale = (self.deviations / self.count).sqrt()
        # Rounding leaves a feature that never varies a tiny deviation; dividing by it would make noise of it.
        is_constant = scale <= CONSTANT * self.precision * self.mean.abs()
        return self.mean.to(like), torch.where(is_constant, torch.ones_like(scale), scale).to(like)
