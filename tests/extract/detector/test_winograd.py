import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sentifuse.extract.detector.winograd import DilatedConv, Workspace, axis_matrices


def test_along_an_axis_products_give_the_correlation() -> None:
    rng = np.random.default_rng(0)
    data, weights = rng.standard_normal(7), rng.standard_normal(3)
    forth, filters, back, groups = axis_matrices()
    at_points = np.concatenate(
        [[value] * (stop - start) for value, (start, stop) in zip(filters @ weights, groups, strict=True)]
    )
    expected = np.correlate(np.pad(data, 1), weights)
    assert forth.shape == (11, 7)
    assert np.allclose(back @ (at_points * (forth @ data)), expected, atol=1e-12)


def test_coefficients_of_data_and_outputs_are_exact_in_half_precision() -> None:
    """Rounded ones would be wrong everywhere in the same direction, which no mean takes away."""
    forth, _, back, _ = axis_matrices()
    for matrix in (torch.from_numpy(forth), torch.from_numpy(back)):
        assert torch.equal(matrix.to(torch.bfloat16).double(), matrix)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
def test_crops_equal_the_ordinary_convolution(count: int, dtype: torch.dtype, tolerance: float) -> None:
    """By root of mean square; the mean of a crop, which is what is kept of it, is nearer."""
    generator = torch.Generator().manual_seed(count)
    weight, bias = torch.randn(32, 16, 3, 3, generator=generator), torch.randn(32, generator=generator)
    crops = torch.randn(count, 16, 14, 14, generator=generator).to(dtype)
    made = DilatedConv(weight, bias, dtype=dtype)
    expected = F.conv2d(crops.double(), weight.double(), bias.double(), 1, 2, 2).relu()
    grids = crops.view(count, 16, 7, 2, 7, 2).permute(2, 4, 3, 5, 0, 1)  # (7, 7, 2, 2, count, 16)
    out = made(grids.reshape(7, 7, 4 * count, 16), Workspace())
    found = out.view(7, 7, 2, 2, count, 32).permute(4, 5, 0, 2, 1, 3).reshape(count, 32, 14, 14).double()
    scale = expected.square().mean().sqrt()
    assert (found - expected).square().mean().sqrt() < tolerance * scale
    assert (found - expected).mean(dim=(2, 3)).abs().max() < tolerance * scale / 2
