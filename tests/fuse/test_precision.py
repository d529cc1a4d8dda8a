"""Rounded products: only inside, only where asked for; sums, softmax and means of inputs keep every bit."""

import pytest
import torch

from sentifuse.fuse.heads.head import HeadOutput
from sentifuse.fuse.layers.masked import masked_mean, masked_softmax
from sentifuse.fuse.precision import are_products_rounded, full_precision, rounded_products, widen

CPU = torch.device("cpu")


def test_products_are_rounded_inside_and_only_there() -> None:
    a, b = torch.randn(8, 8), torch.randn(8, 8)
    with rounded_products("bfloat16", CPU):
        assert are_products_rounded(CPU)
        assert (a @ b).dtype == torch.bfloat16
        with full_precision(CPU):
            assert not are_products_rounded(CPU)
            assert (a @ b).dtype == torch.float32
        assert are_products_rounded(CPU)
    assert not are_products_rounded(CPU)


def test_float32_leaves_what_the_caller_had() -> None:
    with rounded_products("float32", CPU):
        assert not are_products_rounded(CPU)
    with rounded_products("bfloat16", CPU), rounded_products("float32", CPU):
        assert are_products_rounded(CPU)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.bool, torch.bool),
        (torch.int64, torch.int64),
    ],
)
def test_halves_become_float32_and_nothing_else_changes(given: torch.dtype, expected: torch.dtype) -> None:
    assert widen(torch.ones(2, dtype=given)).dtype == expected


def test_a_loss_sees_no_half() -> None:
    half = torch.ones(2, 3, dtype=torch.bfloat16)
    found = HeadOutput(logits=half, details={"vector": half, "absent": half > 0}).widened()
    assert found.logits.dtype == found.details["vector"].dtype == torch.float32
    assert found.details["absent"].dtype == torch.bool


def test_a_mean_of_raw_features_is_not_rounded() -> None:
    torch.manual_seed(0)
    values, mask = 100.0 + 0.1 * torch.randn(4, 5, 6), torch.ones(4, 5, dtype=torch.bool)
    expected = masked_mean(values, mask)
    with rounded_products("bfloat16", CPU):
        assert torch.equal(masked_mean(values, mask), expected)


def test_a_mean_of_halves_counts_every_element() -> None:
    count = 515  # bfloat16 has 512 and 516 only
    values = torch.ones(1, count, 2, dtype=torch.bfloat16)
    assert torch.equal(masked_mean(values, torch.ones(1, count, dtype=torch.bool)), torch.ones(1, 2))


def test_weights_of_a_softmax_add_up_in_float32() -> None:
    scores = torch.linspace(-2.0, 2.0, 300, dtype=torch.bfloat16)[None]
    with rounded_products("bfloat16", CPU):
        weights = masked_softmax(scores, torch.arange(300)[None] < 290)
    assert weights.dtype == torch.float32
    assert weights.sum().item() == pytest.approx(1.0, abs=1e-6)
    assert not weights[0, 290:].any()
