"""Dropout: the share that is zeroed, the scale of the rest, that the seed decides; and words that are left out."""

import pytest
import torch

from sentifuse.fuse.layers.dropout import dropout, leave_out


@pytest.mark.parametrize("p", [0.1, 0.4, 0.5, 0.9])
def test_share_and_scale(p: float) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = dropout(torch.ones(401, 997), p, training=True)
    n = found.numel()
    assert float((found == 0).float().mean()) == pytest.approx(p, abs=5 * (p * (1 - p) / n) ** 0.5)
    kept = found[found != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)), rtol=1e-3, atol=0)
    assert found.double().mean() == pytest.approx(1.0, abs=0.02)


def test_every_position_of_a_word_of_random_bits_is_as_likely() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        zeros = dropout(torch.ones(100_000, 4), 0.3, training=True) == 0
    assert zeros.float().mean(0).tolist() == pytest.approx([0.3] * 4, abs=0.01)
    together = torch.corrcoef(zeros.float().T) - torch.eye(4)
    assert together.abs().max() < 0.02


def test_the_seed_decides() -> None:
    with torch.random.fork_rng(devices=[]):
        found = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            found.append(dropout(torch.ones(3, 5, 7), 0.5, training=True))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_evaluation_and_p_0_change_nothing() -> None:
    values = torch.randn(3, 4)
    assert dropout(values, 0.5, training=False) is values
    assert dropout(values, 0.0, training=True) is values


def test_gradient_passes_where_the_value_passes() -> None:
    values = torch.ones(50, 3, requires_grad=True)
    found = dropout(values, 0.5, training=True)
    found.sum().backward()
    assert torch.equal(values.grad, found.detach())
    assert values.numel() % 4  # a size that does not fill the last word of random bits


def test_a_shared_axis_has_one_mask() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = dropout(torch.ones(200, 7, 50), 0.3, training=True, shared_axis=1)
    assert torch.equal(found, found[:, :1].expand_as(found))
    assert float((found[:, 0] == 0).float().mean()) == pytest.approx(0.3, abs=0.03)


def test_left_out_words_never_empty_a_text() -> None:
    mask = torch.arange(9)[None] < torch.tensor([9, 1, 4, 0])[:, None]
    kept = [leave_out(mask, 0.95, training=True) for _ in range(20)]
    assert all((one <= mask).all() for one in kept)
    assert all(torch.equal(one.any(1), mask.any(1)) for one in kept)
    assert any(one.sum() < mask.sum() for one in kept)


def test_the_share_of_left_out_words_is_what_was_asked_for() -> None:
    mask = torch.ones(400, 101, dtype=torch.bool)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kept = leave_out(mask, 0.15, training=True)
    assert kept[:, 0].all()
    assert float(kept[:, 1:].float().mean()) == pytest.approx(0.85, abs=0.01)


def test_no_word_is_left_out_in_evaluation_or_with_share_0() -> None:
    mask = torch.ones(3, 4, dtype=torch.bool)
    assert leave_out(mask, 0.5, training=False) is mask
    assert leave_out(mask, 0.0, training=True) is mask
    assert leave_out(torch.zeros(2, 0, dtype=torch.bool), 0.5, training=True).shape == (2, 0)
