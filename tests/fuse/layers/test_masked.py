"""The masked building blocks of all heads: exact where something is real, zero where nothing is, never NaN."""

import pytest
import torch

from sentifuse.fuse.layers.masked import keep_real, masked_mean, masked_softmax

VALUES = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]], [[5.0, 5.0], [5.0, 5.0], [5.0, 5.0]]])
MASK = torch.tensor([[True, True, False], [False, False, False]])


def test_mean_is_over_what_is_real() -> None:
    assert masked_mean(VALUES, MASK).tolist() == [[2.0, 4.0], [0.0, 0.0]]


def test_softmax_is_over_what_is_real() -> None:
    found = masked_softmax(torch.tensor([[0.0, 1.0, 50.0], [1.0, 2.0, 3.0]]), MASK)
    expected = torch.tensor([0.0, 1.0]).softmax(-1)
    torch.testing.assert_close(found[0], torch.tensor([*expected.tolist(), 0.0]))
    assert found[1].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("extreme", [1e30, -1e30])
def test_softmax_of_extreme_scores_has_a_finite_gradient(extreme: float) -> None:
    scores = torch.tensor([[extreme, 0.0, 1.0], [extreme, 0.0, 1.0]], requires_grad=True)
    (masked_softmax(scores, MASK) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert scores.grad[1].tolist() == [0.0, 0.0, 0.0]


def test_keep_real_clears_even_what_is_not_a_number() -> None:
    values = VALUES.clone()
    values[0, 2] = float("nan")
    assert keep_real(values, MASK)[0].tolist() == [[1.0, 2.0], [3.0, 6.0], [0.0, 0.0]]
