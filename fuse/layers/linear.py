"""Linear layers in float32 on a CPU through oneDNN, which torch carries but does not use for them.

torch gives them to MKL, and MKL keeps its widest instructions for one maker's processors: on a recent AMD one oneDNN
takes half the time. Everywhere else, in other precisions and if the operator is not there, torch's own. Where products
are to be rounded to bfloat16, they are, and what comes out is float32 again.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from sentifuse.fuse.precision import are_products_rounded

# Shapes: B rows, N / M widths of a layer's input and output.

SMALLEST = 1 << 20  # multiplications under which a call costs more than it saves


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x Wᵀ + b, as `torch.nn.functional.linear`; (B, N), (M, N), (M,) → (B, M). Differentiable once."""
    if are_products_rounded(x.device):
        return F.linear(x, weight, bias).to(x.dtype)
    if not _pays(x, weight):
        return F.linear(x, weight, bias)
    found: torch.Tensor = _Linear.apply(x, weight, bias)
    return found


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """A Bᵀ without a gradient; (M, K), (N, K) → (M, N)."""
    if are_products_rounded(a.device):
        return (a @ b.T).to(a.dtype)
    return _onednn(a, b, None) if _pays(a, b) else a @ b.T


def as_factor(parameter: torch.Tensor) -> torch.Tensor:
    """A parameter that no gradient is asked of as products take it; done once for all uses of a step."""
    return parameter.bfloat16() if are_products_rounded(parameter.device) else parameter


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _onednn(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        return (
            product(gradient, weight.T) if wants_x else None,
            product(gradient.T, x.T) if wants_weight else None,
            gradient.sum(0) if ctx.has_bias and wants_bias else None,
        )


def _pays(x: torch.Tensor, weight: torch.Tensor) -> bool:
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and x.dim() == 2
        and len(x) * weight.numel() >= SMALLEST
        and bool(torch.backends.mkldnn.enabled)
        and _is_there()
    )


@cache
def _is_there() -> bool:
    """Whether this torch has the operator, and it computes what its name says. It is none of torch's public ones."""
    if not torch._C._has_mkldnn:
        return False
    x, weight, bias = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3), torch.arange(4.0)
    try:
        found = _onednn(x, weight, bias)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(found, F.linear(x, weight, bias))


def _onednn(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(_dense(x), _dense(weight), bias, "none", [], "")
    return found


def _dense(matrix: torch.Tensor) -> torch.Tensor:
    """Without gaps between its rows or columns: for columns of a wider matrix oneDNN takes 30 times as long."""
    return matrix if matrix.is_contiguous() or matrix.T.is_contiguous() else matrix.contiguous()
