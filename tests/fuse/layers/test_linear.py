"""Linear layers through oneDNN: torch's numbers and gradients to rounding, and torch's own where they do not pay."""

import pytest
import torch
import torch.nn.functional as F

from sentifuse.fuse.layers import linear as linear_module
from sentifuse.fuse.layers.linear import as_factor, linear, product
from sentifuse.fuse.precision import rounded_products


def inputs(dtype: torch.dtype, rows: int = 32, width: int = 300, out: int = 200) -> list[torch.Tensor]:
    torch.manual_seed(0)
    found = [torch.randn(rows, width), torch.randn(out, width), torch.randn(out)]
    return [tensor.to(dtype).requires_grad_() for tensor in found]


def close(found: torch.Tensor, exact: torch.Tensor) -> bool:
    """To float32's rounding of a sum of some hundred products."""
    return bool((found.double() - exact).abs().max() < 1e-5 * exact.abs().max())


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("is_there", [True, False])
def test_value_and_gradients_are_those_of_torch(
    with_bias: bool, is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_there:
        monkeypatch.setattr(linear_module, "_is_there", lambda: False)
    x, weight, bias = inputs(torch.float32)
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, weight, bias)]
    upstream = torch.randn(32, 200)
    found = linear(x, weight, bias if with_bias else None)
    expected = F.linear(exact[0], exact[1], exact[2] if with_bias else None)
    found.backward(upstream)
    expected.backward(upstream.double())
    assert close(found.detach(), expected.detach())
    for ours, theirs in zip((x, weight, bias)[: 2 + with_bias], exact, strict=False):
        assert close(ours.grad, theirs.grad)


def test_a_gradient_that_nobody_wants_is_not_made() -> None:
    x, weight, bias = inputs(torch.float32)
    y = linear(x, weight.detach(), bias.detach())
    (gradient,) = torch.autograd.grad(y.sum(), [x])
    assert close(gradient, weight.detach().double().sum(0).expand(32, -1))


def test_float64_and_small_layers_are_torch_s_own_to_the_bit() -> None:
    for x, weight, bias in (inputs(torch.float64), inputs(torch.float32, rows=2, width=3, out=4)):
        assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))
        assert torch.equal(product(x.detach(), weight.detach()), x.detach() @ weight.detach().T)


def test_where_products_are_rounded_the_result_is_float32_of_bfloat16_factors() -> None:
    x, weight, bias = inputs(torch.float32)
    halves = [tensor.detach().bfloat16().double() for tensor in (x, weight, bias)]
    exact = F.linear(*halves)
    with rounded_products("bfloat16", x.device):
        found = linear(x, weight, bias)
        multiplied = product(x.detach(), weight.detach())
        prepared = linear(x, as_factor(weight.detach()), as_factor(bias.detach()))
    assert found.dtype == multiplied.dtype == torch.float32
    assert (found.double() - exact).abs().max() < 2**-8 * exact.abs().max()
    assert (multiplied.double() - halves[0] @ halves[1].T).abs().max() < 2**-8 * exact.abs().max()
    assert torch.equal(prepared, found)
    assert as_factor(weight) is weight
    found.sum().backward()
    for tensor, expected in ((x, halves[1].sum(0).expand(32, -1)), (weight, halves[0].sum(0).expand(200, -1))):
        assert tensor.grad.dtype == torch.float32
        assert (tensor.grad.double() - expected).abs().max() < 2**-7 * expected.abs().max()


def test_a_product_takes_matrices_in_any_layout() -> None:
    transposed = torch.randn(400, 64).T, torch.randn(400, 100).T
    columns = torch.randn(64, 900)[:, 100:500], torch.randn(100, 900)[:, 300:700]
    for a, b in (transposed, columns, (columns[0], transposed[1])):
        assert close(product(a, b), a.double() @ b.double().T)
        assert product(a, b).shape == (64, 100)


def test_an_operator_that_is_gone_or_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*arguments: object) -> torch.Tensor:
        raise AttributeError("no such operator")

    def other(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return F.linear(x, weight)

    for replacement in (gone, other):
        monkeypatch.setattr(linear_module, "_onednn", replacement)
        linear_module._is_there.cache_clear()
        assert not linear_module._is_there()
    linear_module._is_there.cache_clear()


def test_it_is_differentiable_once_and_says_so() -> None:
    x, weight, bias = inputs(torch.float32)
    if not linear_module._is_there():
        return  # torch's own layer then, which knows the second derivative
    (gradient,) = torch.autograd.grad(linear(x, weight, bias).square().sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
