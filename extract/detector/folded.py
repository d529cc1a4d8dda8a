"""A convolution and the frozen norm behind it as one convolution with bias: folded in float64, rounded once."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["EPSILON", "Folded", "fold"]

EPSILON = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """Weight (out, in, k, k) and bias (out,), both float64."""

    weight: Tensor
    bias: Tensor


def fold(state: Mapping[str, Tensor], name: str) -> Folded:
    """The convolution `name` of a state dict with the norm stored beside it."""
    weight = state[f"{name}.weight"].double()
    scale = state[f"{name}.norm.weight"].double() / torch.sqrt(state[f"{name}.norm.running_var"].double() + EPSILON)
    bias = state[f"{name}.norm.bias"].double() - state[f"{name}.norm.running_mean"].double() * scale
    return Folded(weight=weight * scale[:, None, None, None], bias=bias)
