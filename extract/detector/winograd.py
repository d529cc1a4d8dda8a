"""A 3x3 convolution with dilation 2 on 14 x 14 crops by fewer products (Toom and Cook's, for filters Winograd's).

Dilation 2 means: four plain 3x3 convolutions, on the cells of even and odd rows and columns, 7 x 7 each. Along an axis
seven outputs are taken as four and three: four need products at six points, three at five of the same six. So 11
products stand for 21, 121 for 441 in the plane. The filters are the same for both, being values of polynomials.

In float32 only: differences of the order of 1e-5 of the largest value.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sentifuse.extract.detector.kernels import Pointwise
from sentifuse.extract.detector.stages import POOLED_SIDE

__all__ = ["POINTS", "DilatedConv", "Workspace", "axis_matrices"]

# Shapes: Q = 22 products along an axis, B crops, K channels in, N channels out.
POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)  # and infinity; the last is the one that three outputs do without
Matrix = npt.NDArray[np.float64]


class Workspace:
    """Memory that is used again: taking tens of megabytes from the system for every chunk costs more than the work."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """A float32 tensor with any content; what was taken under this name before is lost."""
        count = math.prod(shape)
        if name not in self._memory or len(self._memory[name]) < count:
            self._memory[name] = torch.empty(count, device=self._device)
        return self._memory[name][:count].view(shape)


class DilatedConv:
    """3x3, dilation 2, padding 2, bias and ReLU on crops (14, 14, B, K) → (14, 14, B, N): crops innermost but one.

    Parameters
    ----------
    weight, bias
        (N, K, 3, 3) and (N,).
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, device: torch.device) -> None:
        forth, filters, back, self.groups = axis_matrices()
        at_points = torch.einsum(
            "ia,jb,nkab->ijnk", torch.from_numpy(filters), torch.from_numpy(filters), weight.double().cpu()
        )
        nothing = torch.zeros(len(weight))
        self.products = [
            [Pointwise(matrix, nothing, dtype=torch.float32, device=device) for matrix in row] for row in at_points
        ]
        self.forth = torch.from_numpy(forth).float().to(device)  # (Q, 14)
        self.back = torch.from_numpy(back).float().to(device)  # (14, Q)
        self.bias = bias.to(device, torch.float32)

    def __call__(self, crops: Tensor, space: Workspace) -> Tensor:
        """See the class. The result lies in `space` and lasts until its next use."""
        _, _, count, wide_in = crops.shape
        q, side = self.forth.shape
        wide_out = self.products[0][0].width
        tall = torch.mm(self.forth, crops.reshape(side, -1), out=space.take("narrow", q, side * count * wide_in))
        values = space.take("values", q, q, count, wide_out)
        for column, (start, stop) in enumerate(self.groups):  # a point at a time: its products in one matrix
            width = stop - start
            data = torch.bmm(
                self.forth[start:stop].expand(q, width, side),
                tall.view(q, side, count * wide_in),
                out=space.take("data", q, width, count * wide_in),
            )
            for row, (top, bottom) in enumerate(self.groups):
                out = self.products[row][column](data[top:bottom].view(-1, wide_in))
                values[top:bottom, start:stop] = out.view(bottom - top, width, count, wide_out)
        narrow = torch.bmm(
            self.back.expand(q, side, q),
            values.view(q, q, count * wide_out),
            out=space.take("narrow", q, side, count * wide_out),
        )
        out = torch.mm(self.back, narrow.view(q, -1), out=space.take("out", side, side * count * wide_out))
        return out.view(side, side, count, wide_out).add_(self.bias).relu_()


def axis_matrices() -> tuple[Matrix, Matrix, Matrix, list[tuple[int, int]]]:
    """What happens along one axis of 14 cells.

    Returns
    -------
    forth
        (22, 14): the data at the points; grouped by point, within it by parity and by which outputs (four, three).
    filters
        (6, 3): a filter at the points.
    back
        (14, 22): from products to outputs.
    groups
        For each of the six points the rows of `forth` that belong to it.
    """
    points = len(POINTS) + 1
    forth: list[Matrix] = []
    back: list[Matrix] = []
    groups: list[tuple[int, int]] = []
    pieces = {0: _piece(4, (0, 1, 2, 3, 4, 5)), 4: _piece(3, (0, 1, 2, 3, 5))}  # by first output
    for point in range(points):
        start = len(forth)
        for parity in (0, 1):
            for first, (data, outputs) in pieces.items():
                if point not in data:
                    continue
                row, column = np.zeros(POOLED_SIDE), np.zeros(POOLED_SIDE)
                for i, value in enumerate(data[point]):  # from one cell before the first output; outside is zero
                    if 0 <= first - 1 + i < POOLED_SIDE // 2:
                        row[2 * (first - 1 + i) + parity] = value
                for i, value in enumerate(outputs[point]):
                    column[2 * (first + i) + parity] = value
                forth.append(row)
                back.append(column)
        groups.append((start, len(forth)))
    return np.array(forth), _filters(), np.array(back).T, groups


def _filters() -> Matrix:
    powers = np.vander(np.array(POINTS), 3, increasing=True)
    return np.vstack([powers, [0.0, 0.0, 1.0]])


def _piece(outputs: int, numbers: tuple[int, ...]) -> tuple[dict[int, Matrix], dict[int, Matrix]]:
    """Data and output coefficients by point of the shortest algorithm for `outputs` outputs of a filter of three.

    Multiplying polynomials by their values at points, and back, is E^-1 (E_a a * E_b b); the transpose of that
    computes a correlation: outputs = E_a^T (E_b filter * E^-T data).
    """
    length = outputs + 2
    finite = [POINTS[number] for number in numbers if number < len(POINTS)]
    full = np.zeros((length, length))
    full[:-1] = np.vander(np.array(finite), length, increasing=True)
    full[-1, -1] = 1.0
    data = np.linalg.inv(full).T  # (points, length)
    back = np.zeros((length, outputs))
    back[:-1] = np.vander(np.array(finite), outputs, increasing=True)
    back[-1, -1] = 1.0
    return dict(zip(numbers, data, strict=True)), dict(zip(numbers, back, strict=True))
