"""Means and softmaxes that count real elements only; never NaN, whatever is missing."""

import torch

from sentifuse.fuse.precision import full_precision, widen

# Shapes: B pairs, T elements of a sequence, D width.  Masks are bool, True = real.


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the real elements; zero where there are none. (B, T, D), (B, T) → (B, D)."""
    values = widen(values)
    weights = mask.to(values.dtype)
    with full_precision(values.device):  # may be a mean of raw inputs, whose deviations are small beside it
        return torch.einsum("btd,bt->bd", values, weights) / weights.sum(1, keepdim=True).clamp_min(1.0)


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Softmax over the real elements of the last axis; all zeros where there are none, never NaN."""
    scores = widen(scores)
    # The lowest finite value, not -inf: a row without anything real would become NaN, in the gradient too.
    lowest = torch.finfo(scores.dtype).min
    weights = scores.masked_fill(~mask, lowest).softmax(-1)
    return weights * mask.to(scores.dtype)


def keep_real(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Values with zeros wherever the mask says that nothing is there."""
    return values.masked_fill(~mask.unsqueeze(-1), 0.0)
