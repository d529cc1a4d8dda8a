import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sentifuse.extract.detector.winograd import DilatedConv, Workspace, axis_matrices


def test_along_an_axis_products_give_the_dilated_correlation() -> None:
    rng = np.random.default_rng(0)
    data, weights = rng.standard_normal(14), rng.standard_normal(3)
    forth, filters, back, groups = axis_matrices()
    at_points = np.concatenate(
        [[value] * (stop - start) for value, (start, stop) in zip(filters @ weights, groups, strict=True)]
    )
    padded = np.pad(data, 2)
    expected = [padded[i] * weights[0] + padded[i + 2] * weights[1] + padded[i + 4] * weights[2] for i in range(14)]
    assert forth.shape == (22, 14)
    assert np.allclose(back @ (at_points * (forth @ data)), expected, atol=1e-12)


@pytest.mark.parametrize("count", [1, 5])
def test_crops_equal_the_ordinary_convolution(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    weight, bias = torch.randn(32, 16, 3, 3, generator=generator), torch.randn(32, generator=generator)
    crops = torch.randn(14, 14, count, 16, generator=generator)
    made = DilatedConv(weight, bias, device=torch.device("cpu"))
    expected = F.conv2d(crops.permute(2, 3, 0, 1).double(), weight.double(), bias.double(), 1, 2, 2).relu()
    found = made(crops, Workspace(torch.device("cpu"))).permute(2, 3, 0, 1)
    assert torch.allclose(found.double(), expected, atol=2e-4)
