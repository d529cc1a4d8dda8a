import pytest
import torch
from torch.nn import functional as F

from sentifuse.extract.detector import kernels
from sentifuse.extract.detector.kernels import Pointwise, SquareConv

FLOATS = [torch.float32, torch.float64, torch.bfloat16]


@pytest.fixture(params=["fused", "ordinary"])
def operators(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once with oneDNN's operators where they are, once as if they were not."""
    if request.param == "ordinary":
        monkeypatch.setattr(kernels, "has_fused", lambda dtype: False)


def draw(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).to(dtype)


def is_close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    tolerance = {torch.float32: 1e-4, torch.float64: 1e-10, torch.bfloat16: 0.2}[found.dtype]
    return found.shape == expected.shape and torch.allclose(found.double(), expected, atol=tolerance)


@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("count", [1, 7, 64])
def test_rows_are_multiplied_added_and_clipped(dtype: torch.dtype, count: int) -> None:
    rows, weight, bias = draw(count, 32, dtype=dtype), draw(48, 32, dtype=dtype) / 4, draw(48, dtype=dtype)
    expected = F.linear(rows.double(), weight.double(), bias.double())
    made = Pointwise(weight, bias, dtype=dtype)
    assert is_close(made(rows), expected)
    assert is_close(made(rows, relu=True), expected.relu())
    target = draw(count, 48, dtype=dtype)
    wanted = (target.double() + expected).relu()
    assert is_close(made.add_to(target.clone(), rows), wanted)
    fixed = Pointwise(weight, bias, dtype=dtype, fixed_rows=count)
    assert is_close(fixed.add_to(target.clone(), rows), wanted)


@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("side", "stride"), [(3, 1), (7, 2)], ids=["plain", "stem"])
def test_squares_equal_the_ordinary_convolution(dtype: torch.dtype, side: int, stride: int) -> None:
    x, weight, bias = (
        draw(2, 70, 11, 16, dtype=dtype),
        draw(24, 16, side, side, dtype=dtype) / 16,
        draw(24, dtype=dtype),
    )
    expected = (
        F.conv2d(x.double().permute(0, 3, 1, 2), weight.double(), bias.double(), stride, side // 2)
        .relu()
        .permute(0, 2, 3, 1)
    )
    assert is_close(SquareConv(weight, bias, dtype=dtype, stride=stride)(x), expected)
