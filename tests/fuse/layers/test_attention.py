"""Both attentions against loops; weights obey their masks."""

from typing import Any

import numpy as np
import pytest
import torch

from sentifuse.fuse.layers.attention import AdditiveAttention, MultiHeadAttention


@pytest.fixture
def memory() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4, 5, 6, generator=generator, dtype=torch.float64)
    return values, torch.arange(5)[None] < torch.tensor([5, 1, 3, 0])[:, None]


@pytest.mark.parametrize("count", [1, 2])
def test_additive_attention_is_its_equation(loops: Any, memory: Any, count: int) -> None:
    keys, mask = memory
    layer = loops.stirred(AdditiveAttention(6, queries=count))
    queries = [torch.randn(4, 6, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(count)]
    result, weights = layer(keys, mask, *queries)
    for row in range(4):
        real = [loops.array(key) for key, is_real in zip(keys[row], mask[row], strict=True) if is_real]
        expected, shares = loops.additive(layer, real, *(loops.array(query[row]) for query in queries))
        np.testing.assert_allclose(loops.array(result[row]), expected, atol=1e-12)
        np.testing.assert_allclose(loops.array(weights[row]), shares + [0.0] * (5 - len(shares)), atol=1e-12)


def test_a_memory_may_be_asked_often(loops: Any, memory: Any) -> None:
    layer = loops.stirred(AdditiveAttention(6))
    prepared = layer.read(*memory)
    for seed in range(2):
        query = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for once, often in zip(layer(*memory, query), prepared.ask(query), strict=True):
            assert torch.equal(once, often)


@pytest.mark.parametrize("heads", [1, 3])
def test_multi_head_attention_is_its_equation(loops: Any, memory: Any, heads: int) -> None:
    values, mask = memory
    layer = loops.stirred(MultiHeadAttention(6, heads))
    asking = torch.randn(4, 2, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    result, weights = layer(asking, values, mask)
    for row in range(3):
        real = [loops.array(value) for value, is_real in zip(values[row], mask[row], strict=True) if is_real]
        expected = loops.multi_head(layer, [loops.array(one) for one in asking[row]], real)
        np.testing.assert_allclose(loops.array(result[row]), expected, atol=1e-12)
    torch.testing.assert_close(weights.sum(-1)[:3], torch.ones(3, 2).double())
    assert (weights[3] == 0).all()
    torch.testing.assert_close(result[3], layer.output.bias.expand(2, -1))  # nothing was read


def test_multi_head_attention_is_torchs_own(memory: Any) -> None:
    torch.manual_seed(0)
    values, mask = memory[0][:3], memory[1][:3]
    theirs = torch.nn.MultiheadAttention(6, 2, batch_first=True).double()
    ours = MultiHeadAttention(6, 2).double()
    for layer, weight, bias in zip(
        (ours.query, ours.key, ours.value), theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3), strict=True
    ):
        layer.load_state_dict({"weight": weight, "bias": bias})
    ours.output.load_state_dict(theirs.out_proj.state_dict())
    asking = torch.randn(3, 4, 6, dtype=torch.float64)
    for found, expected in zip(
        ours(asking, values, mask), theirs(asking, values, values, key_padding_mask=~mask), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_dropped_weights_keep_their_mean(memory: Any) -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(6, 2, weight_dropout=0.5).double().train()
    asking = torch.randn(4, 2, 6, dtype=torch.float64)
    mean = torch.stack([layer(asking, *memory)[0] for _ in range(500)]).mean(0)
    torch.testing.assert_close(mean, layer.eval()(asking, *memory)[0], atol=0.1, rtol=0)


def test_heads_must_share_the_width_equally() -> None:
    with pytest.raises(ValueError, match="3 heads can share equally, found 8"):
        MultiHeadAttention(8, 3)
