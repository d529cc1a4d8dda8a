"""Convolutions on rows of channels, each with its bias, ReLU and addition: the building blocks of `fast.py`.

On processors oneDNN's fused operators are taken where this torch has them (they are what torch.compile emits): on
AMD's they run 1x1 convolutions 2.3 times as fast as the BLAS behind `linear`, and nothing is written twice. They are
tried once with small numbers; where they are missing or wrong the ordinary operators do the same.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Pointwise", "SquareConv", "has_fused"]

# Shapes: M rows (cells of a map or of crops), K channels in, N channels out.
# The tail of every convolution operator below: padding, stride, dilation, groups.
_PLAIN = ([0, 0], [1, 1], [1, 1], 1)
_USUAL_ROWS = 2000
_STRIP = 32  # lines of output


class Pointwise:
    """A 1x1 convolution: rows (M, K) → (M, N).

    Parameters
    ----------
    weight, bias
        (N, K) and (N,), any floating dtype; kept in `dtype`.
    fixed_rows
        If M is always the same in `add_to`: that M. oneDNN's layout of the weights depends on it, and weights in
        another layout are converted at every call, which takes longer than the product.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, dtype: torch.dtype, fixed_rows: int = 0) -> None:
        self.width = len(weight)
        self.bias = bias.to(dtype, copy=True)
        self.weight = weight.to(dtype, copy=True).contiguous()
        self.fixed_rows = fixed_rows
        self.is_fused = has_fused(dtype)
        if not self.is_fused:
            return
        if fixed_rows:
            size = [1, self.weight.shape[1], fixed_rows, 1]
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight[:, :, None, None], *_PLAIN, size)
        else:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, _USUAL_ROWS)

    def __call__(self, rows: Tensor, *, relu: bool = False) -> Tensor:
        """W rows + b, (M, N); not for weights with `fixed_rows`."""
        if self.is_fused:
            after = "relu" if relu else "none"
            fused: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, after, [], "")
            return fused
        out = F.linear(rows, self.weight, self.bias)
        return out.relu_() if relu else out

    def add_to(self, target: Tensor, rows: Tensor) -> Tensor:
        """relu(target + W rows + b); `target` is overwritten or let go of."""
        if self.is_fused and self.fixed_rows:
            torch.ops.mkldnn._convolution_pointwise_.binary(
                _as_map(target), _as_map(rows), self.weight, self.bias, *_PLAIN, "add", 1.0, "relu", [], None
            )
            return target
        if self.is_fused:
            fused: Tensor = torch.ops.mkldnn._linear_pointwise.binary(rows, target, self.weight, self.bias, "add")
            return fused.relu_()
        return target.add_(F.linear(rows, self.weight, self.bias)).relu_()


class SquareConv:
    """A convolution that keeps the size, but for its stride, and ReLU: (B, h, w, K) → (B, h / stride, w / stride, N).

    Parameters
    ----------
    weight, bias
        (N, K, k, k) and (N,). oneDNN converts the weights at every call, from a layout from which that is quick.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        *,
        dtype: torch.dtype,
        stride: int = 1,
    ) -> None:
        self.bias = bias.to(dtype, copy=True)
        self.weight = weight.to(dtype, copy=True, memory_format=torch.channels_last)
        self.padding, self.stride = weight.shape[2] // 2, stride
        self.is_fused = has_fused(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """See the class."""
        if self.weight.dtype == torch.float64:
            return self._by_taps(x) if self.stride == 1 else self._by_strips(x)
        nchw = x.permute(0, 3, 1, 2)
        if self.is_fused:
            shape = ([self.padding] * 2, [self.stride] * 2, [1, 1], 1)
            out = torch.ops.mkldnn._convolution_pointwise(nchw, self.weight, self.bias, *shape, "relu", [], None)
        else:
            out = F.conv2d(nchw, self.weight, self.bias, self.stride, self.padding).relu_()
        rows: Tensor = out.permute(0, 2, 3, 1)
        return rows.contiguous()

    def _by_taps(self, x: Tensor) -> Tensor:
        """A matrix product for each tap: torch's own float64 would first write the map out nine times."""
        count, height, width, _ = x.shape
        outs = []
        wide = width + 2 * self.padding
        last = height * wide - 2 * self.padding  # rows that are computed; those between two lines are not meant
        for one in F.pad(x, (0, 0, *[self.padding] * 4)):
            rows = one.reshape(-1, x.shape[3])
            out = self.bias.repeat(height * wide, 1)
            for dy in range(self.weight.shape[2]):
                for dx in range(self.weight.shape[3]):
                    start = dy * wide + dx
                    out[:last].addmm_(rows[start : start + last], self.weight[:, :, dy, dx].t())
            outs.append(out.view(height, wide, -1)[:, :width].relu())
        return torch.stack(outs) if count > 1 else outs[0][None]

    def _by_strips(self, x: Tensor) -> Tensor:
        """A few lines at a time, for the same reason."""
        padded = F.pad(x, (0, 0, *[self.padding] * 4)).permute(0, 3, 1, 2)
        reach = self.weight.shape[2]
        lines = (padded.shape[2] - reach) // self.stride + 1
        strips = []
        for first in range(0, lines, _STRIP):
            last = min(first + _STRIP, lines) - 1
            part = padded[:, :, first * self.stride : last * self.stride + reach]
            strips.append(F.conv2d(part, self.weight, self.bias, self.stride).relu_())
        return torch.cat(strips, dim=2).permute(0, 2, 3, 1).contiguous()


def _as_map(rows: Tensor) -> Tensor:
    """Rows (M, K) as a channels-last map (1, K, M, 1) on the same memory."""
    return rows.t()[None, :, :, None]


@cache
def has_fused(dtype: torch.dtype) -> bool:
    """Whether oneDNN's fused operators are there and right for a dtype."""
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    try:
        return _try_fused(dtype)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):  # absent, or with other arguments
        return False


def _try_fused(dtype: torch.dtype) -> bool:
    """Each operator once, against the same in float64."""
    ops = torch.ops.mkldnn
    generator = torch.Generator().manual_seed(0)
    sizes = ((6, 32), (6, 16), (16, 32), (16,))
    with torch.inference_mode():
        rows, target, weight, bias = (torch.randn(size, generator=generator).to(dtype) for size in sizes)
        expected = F.linear(rows.double(), weight.double(), bias.double())
        added = torch.relu(target.double() + expected)
        packed = ops._reorder_linear_weight(weight, _USUAL_ROWS)
        pairs = [
            (ops._linear_pointwise(rows, packed, bias, "relu", [], ""), torch.relu(expected)),
            (ops._linear_pointwise.binary(rows, target, packed, bias, "add").relu_(), added),
        ]
        square = weight[:, :, None, None].contiguous(memory_format=torch.channels_last)
        convolved = ops._convolution_pointwise(_as_map(rows), square, bias, *_PLAIN, "relu", [], None)
        pairs.append((convolved[0, :, :, 0].t(), torch.relu(expected)))
        packed = ops._reorder_convolution_weight(square, *_PLAIN, [1, 32, 6, 1])
        ops._convolution_pointwise_.binary(
            _as_map(target), _as_map(rows), packed, bias, *_PLAIN, "add", 1.0, "relu", [], None
        )
        pairs.append((target, added))
        tolerance = 1e-4 if dtype == torch.float32 else 0.25
        return all(torch.allclose(found.double(), wanted, atol=tolerance) for found, wanted in pairs)
