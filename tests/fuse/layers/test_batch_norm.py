"""Batch normalisation is torch's, but for a batch of one pair."""

import pytest
import torch

from sentifuse.fuse.layers.batch_norm import BatchNorm


@pytest.fixture
def pair() -> tuple[BatchNorm, torch.nn.BatchNorm1d]:
    torch.manual_seed(0)
    ours, theirs = BatchNorm(3).double(), torch.nn.BatchNorm1d(3).double()
    return ours, theirs


def test_several_rows_are_normalised_as_by_torch(pair: tuple[BatchNorm, torch.nn.BatchNorm1d]) -> None:
    ours, theirs = pair
    values = torch.randn(5, 3, dtype=torch.float64) * 4 + 1
    assert torch.equal(ours(values), theirs(values))
    assert torch.equal(ours.running_var, theirs.running_var)
    assert torch.equal(ours.eval()(values), theirs.eval()(values))


def test_one_row_is_normalised_by_what_was_seen_before(pair: tuple[BatchNorm, torch.nn.BatchNorm1d]) -> None:
    ours, theirs = pair
    seen, one = torch.randn(5, 3, dtype=torch.float64), torch.randn(1, 3, dtype=torch.float64)
    ours(seen), theirs(seen)
    before = ours.running_mean.clone()
    with pytest.raises(ValueError, match="more than 1 value"):
        theirs(one)
    assert torch.equal(ours(one), theirs.eval()(one))
    assert torch.equal(ours.running_mean, before)
