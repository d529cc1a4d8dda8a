"""The co-memory network: the order in which the two states read, its options, every hop as a loop."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sentifuse import ConfigError
from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.heads.comn_like import ComnConfig, ComnLike

WIDTHS = {"tokens.states": 6, "regions.features": 5}


def attend(loops: Any, layer: Any, keys: list[np.ndarray], query: np.ndarray) -> tuple[np.ndarray, list[float]]:
    return loops.additive(layer, keys, query) if keys else (np.zeros(len(query)), [])


def comn_loop(loops: Any, head: ComnLike, batch: Batch, row: int) -> tuple[np.ndarray, list[float]]:
    """Logits of a pair, and the weights of its words in the last hop."""
    d, is_sum = head.config.width, head.config.update == "sum"
    words = loops.real(batch, "tokens.states", row)
    h = loops.both_ways(head.words, words) if words else []
    g = [np.tanh(loops.linear(head.regions, region)) for region in loops.real(batch, "regions.features", row)]
    q_t, q_v = loops.mean(h, d), loops.mean(g, d)
    weights: list[float] = []
    for _ in range(head.config.hops):
        old = q_t
        read, weights = attend(loops, head.text_attention, h, q_v)
        update = head.text_update
        q_t = read + loops.linear(update, q_t) if is_sum else loops.gru_cell(update, read, q_t)
        read, _ = attend(loops, head.image_attention, g, old if head.config.simultaneous else q_t)
        update = head.image_update
        q_v = read + loops.linear(update, q_v) if is_sum else loops.gru_cell(update, read, q_v)
    return loops.linear(head.classifier, np.concatenate([q_t, q_v])), weights


@pytest.mark.parametrize(
    ("update", "share", "simultaneous"), list(itertools.product(["sum", "gru"], [False, True], [False, True]))
)
def test_forward_is_its_equations_written_as_loops(
    loops: Any, make_batch: Callable[..., Batch], update: str, share: bool, simultaneous: bool
) -> None:
    config = ComnConfig(width=4, hops=3, update=update, share=share, simultaneous=simultaneous)
    head, batch = loops.stirred(ComnLike(config, WIDTHS, 3)), make_batch(WIDTHS)
    found = head(batch)
    assert found.details["word_weights_per_hop"].shape == (4, 3, 5)
    for row in range(4):
        expected, weights = comn_loop(loops, head, batch, row)
        np.testing.assert_allclose(loops.array(found.logits[row]), expected, atol=1e-10, rtol=0)
        np.testing.assert_allclose(
            loops.array(found.details["word_weights"][row]), weights + [0.0] * (5 - len(weights)), atol=1e-10
        )


def test_shared_weights_are_counted_once() -> None:
    own, shared = (ComnLike(ComnConfig(width=4, share=share), WIDTHS, 3) for share in (False, True))
    attention, update = (4 * 4 + 4) + 4 * 4 + 4, 4 * 4 + 4
    count = [sum(parameter.numel() for parameter in head.parameters()) for head in (own, shared)]
    assert count[0] - count[1] == attention + update
    assert not [name for name in shared.state_dict() if name not in own.state_dict()]


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="width: expected an even number, half of it for each direction, found 5"):
        ComnConfig(width=5)
    with pytest.raises(ConfigError, match="hops: expected at least 1, found 0"):
        ComnConfig(hops=0)
