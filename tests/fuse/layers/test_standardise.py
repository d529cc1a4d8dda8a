"""Statistics of the real rows, however they are cut into batches."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.layers.standardise import Standardise, learn_statistics

WIDTHS = {"tokens.states": 4, "context.vector": 3}


def layers() -> dict[str, Standardise]:
    return {key: Standardise(width).double() for key, width in WIDTHS.items()}


def test_real_rows_get_mean_0_and_variance_1(make_batch: Callable[..., Batch]) -> None:
    batches = [make_batch(WIDTHS, seed=seed) for seed in range(5)]
    found = layers()
    learn_statistics(found, batches)
    for key, layer in found.items():
        rows = torch.cat([layer(batch.values[key], batch.masks[key])[batch.masks[key]] for batch in batches])
        torch.testing.assert_close(rows.mean(0), torch.zeros(WIDTHS[key]).double(), atol=1e-12, rtol=0)
        torch.testing.assert_close(rows.square().mean(0), torch.ones(WIDTHS[key]).double(), atol=1e-12, rtol=0)


def test_masked_places_are_zero_and_teach_nothing(make_batch: Callable[..., Batch]) -> None:
    batch = make_batch(WIDTHS)
    values = {k: v.masked_fill(~batch.masks[k].unsqueeze(-1), 1e6) for k, v in batch.values.items()}
    one, other = layers(), layers()
    learn_statistics(one, [batch])
    learn_statistics(other, [replace(batch, values=values)])
    for key in WIDTHS:
        assert torch.equal(one[key].mean, other[key].mean)
        assert (one[key](values[key], batch.masks[key])[~batch.masks[key]] == 0).all()


def test_a_constant_feature_keeps_its_scale() -> None:
    values = torch.full((50, 2), 0.1, dtype=torch.float32)
    values[:, 1] = torch.arange(50)
    layer = {"v": Standardise(2)}
    learn_statistics(layer, [Batch(ids=(), values={"v": values}, masks={"v": torch.ones(50, dtype=torch.bool)})] * 3)
    assert layer["v"].scale[0] == 1.0
    assert layer["v"].scale[1] == pytest.approx(14.430869689661812)


def test_a_large_offset_cancels_nothing() -> None:
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(400, 1, generator=rng, dtype=torch.float64)
    mask = torch.ones(100, dtype=torch.bool)
    layer = {"v": Standardise(1).double()}
    learn_statistics(layer, [Batch(ids=(), values={"v": part + 1e8}, masks={"v": mask}) for part in noise.split(100)])
    assert float(layer["v"].scale) == pytest.approx(float(noise.std(correction=0)), rel=1e-6)


def test_nothing_seen_leaves_the_identity() -> None:
    layer = {"v": Standardise(2)}
    learn_statistics(layer, [])
    values = torch.tensor([[1.0, 2.0]])
    assert torch.equal(layer["v"](values, torch.tensor([True])), values)
