"""A 3x3 convolution with dilation 2 on 14 x 14 crops by fewer products (Toom and Cook's, for filters Winograd's).

Dilation 2 means: four plain 3x3 convolutions, on the cells of even and odd rows and columns, 7 x 7 each. Along an axis
seven outputs are taken as four and three: four need products at six points, three at five of the same six. So 11
products stand for 21, 121 for 441 in the plane. The filters are the same for both, being values of polynomials.

In float32 differences of the order of 1e-6 of the largest value. In bfloat16 they are four times those of the ordinary
convolution, but of either sign: a crop's mean is off by as little. All seven outputs at once would take 81 products,
and fifteen times the error.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sentifuse.extract.detector.kernels import Pointwise
from sentifuse.extract.detector.stages import POOLED_SIDE

__all__ = ["GRID_SIDE", "POINTS", "DilatedConv", "Workspace", "axis_matrices"]

# Shapes: Q = 11 products along an axis, G = 4 B grids of 7 x 7 cells of B crops, K channels in, N channels out.
POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)  # and infinity; the last is the one that three outputs do without
GRID_SIDE = POOLED_SIDE // 2
Matrix = npt.NDArray[np.float64]


class Workspace:
    """Memory that is used again: taking tens of megabytes from the system for every chunk costs more than the work."""

    def __init__(self) -> None:
        self._memory: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, *shape: int, dtype: torch.dtype) -> Tensor:
        """A tensor with any content; what was taken under this name and dtype before is lost."""
        count, key = math.prod(shape), (name, dtype)
        if key not in self._memory or len(self._memory[key]) < count:
            self._memory[key] = torch.empty(count, dtype=dtype)
        return self._memory[key][:count].view(shape)


class DilatedConv:
    """3x3, dilation 2, padding 2, bias and ReLU on the grids of crops: (7, 7, G, K) → (7, 7, G, N).

    A crop's cell (2 y + i, 2 x + j) is cell (y, x) of its grid (i, j); which grid comes when does not matter.

    Parameters
    ----------
    weight, bias
        (N, K, 3, 3) and (N,).
    dtype
        float32 or bfloat16: of the grids, the products and all between.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, dtype: torch.dtype) -> None:
        forth, filters, back, self.groups = axis_matrices()
        at_points = torch.einsum(
            "ia,jb,nkab->ijnk", torch.from_numpy(filters), torch.from_numpy(filters), weight.double()
        )
        nothing = torch.zeros(len(weight))
        self.products = [[Pointwise(matrix, nothing, dtype=dtype) for matrix in row] for row in at_points]
        self.forth = torch.from_numpy(forth).to(dtype)  # (Q, 7)
        self.back = torch.from_numpy(back).to(dtype)  # (7, Q)
        self.bias = bias.to(dtype)

    def __call__(self, grids: Tensor, space: Workspace) -> Tensor:
        """See the class. The result lies in `space` and lasts until its next use."""
        side, _, count, wide_in = grids.shape
        q, wide_out, dtype = len(self.forth), len(self.bias), grids.dtype
        data_width, value_width = count * wide_in, count * wide_out
        forth, back = self.forth.expand(side, q, side), self.back.expand(side, side, q)
        data = torch.bmm(
            forth, grids.view(side, side, data_width), out=space.take("planes", side, q, data_width, dtype=dtype)
        ).view(side, -1)
        values = space.take("values", side, q * value_width, dtype=dtype)
        for column, (start, stop) in enumerate(self.groups):  # of one point: its products in one matrix
            at_point = torch.mm(
                self.forth,
                data[:, start * data_width : stop * data_width],
                out=space.take("data of a point", q, (stop - start) * data_width, dtype=dtype),
            )
            products = space.take("products", q, (stop - start) * value_width, dtype=dtype)
            for row, (top, bottom) in enumerate(self.groups):
                out = self.products[row][column](at_point[top:bottom].view(-1, wide_in))
                products[top:bottom] = out.view(bottom - top, -1)
            torch.mm(self.back, products, out=values[:, start * value_width : stop * value_width])
        out = torch.bmm(
            back, values.view(side, q, value_width), out=space.take("planes", side, side, value_width, dtype=dtype)
        )
        return out.view(side, side, count, wide_out).add_(self.bias).relu_()


def axis_matrices() -> tuple[Matrix, Matrix, Matrix, list[tuple[int, int]]]:
    """What happens along one axis of 7 cells.

    Returns
    -------
    forth
        (11, 7): the data at the points; grouped by point, within it by which outputs (four, three).
    filters
        (6, 3): a filter at the points.
    back
        (7, 11): from products to outputs.
    groups
        For each of the six points the rows of `forth` that belong to it.
    """
    forth: list[Matrix] = []
    back: list[Matrix] = []
    groups: list[tuple[int, int]] = []
    pieces = {0: _piece(4, (0, 1, 2, 3, 4, 5)), 4: _piece(3, (0, 1, 2, 3, 5))}  # by first output
    for point in range(len(POINTS) + 1):
        start = len(forth)
        for first, (data, outputs) in pieces.items():
            if point not in data:
                continue
            row, column = np.zeros(GRID_SIDE), np.zeros(GRID_SIDE)
            for i, value in enumerate(data[point]):  # from one cell before the first output; outside is zero
                if 0 <= first - 1 + i < GRID_SIDE:
                    row[first - 1 + i] = value
            column[first : first + len(outputs[point])] = outputs[point]
            forth.append(row)
            back.append(column)
        groups.append((start, len(forth)))
    return np.array(forth), _filters(), np.array(back).T, groups


def _filters() -> Matrix:
    """Values at the points, divided by what the data were not divided by."""
    rows = [
        np.power(point, np.arange(3.0)) / math.prod(point - other for other in POINTS if other != point)
        for point in POINTS
    ]
    return np.vstack([*rows, [0.0, 0.0, 1.0]])


def _piece(outputs: int, numbers: tuple[int, ...]) -> tuple[dict[int, Matrix], dict[int, Matrix]]:
    """Data and output coefficients by point of the shortest algorithm for `outputs` outputs of a filter of three.

    Multiplying polynomials by their values at points, and back, is E^-1 (E_a a * E_b b); the transpose of that
    computes a correlation: outputs = E_a^T (E_b filter * E^-T data). The rows of E^-T are Lagrange's polynomials. Their
    denominators are left to the filters: without them all coefficients are short binary numbers, exact in bfloat16.
    """
    finite = [POINTS[number] for number in numbers if number < len(POINTS)]
    left_out = [point for point in POINTS if point not in finite]
    data: dict[int, Matrix] = {}
    back: dict[int, Matrix] = {}
    for number in numbers:
        if number == len(POINTS):
            data[number] = np.poly(finite)[::-1].astype(np.float64)
            back[number] = np.eye(outputs)[-1]
            continue
        point = POINTS[number]
        data[number] = np.append(np.poly([other for other in finite if other != point])[::-1], 0.0)
        # The filters are divided by the distance to every point, but this piece knows nothing of some.
        back[number] = np.power(point, np.arange(float(outputs))) * math.prod(point - other for other in left_out)
    return data, back
