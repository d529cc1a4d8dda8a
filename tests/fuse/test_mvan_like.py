"""The multi-view network: three states that read the old states of each other, every hop as a loop."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sentifuse import ConfigError
from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.heads.mvan_like import MvanConfig, MvanLike

WIDTHS = {"tokens.states": 6, "regions.features": 5, "context.vector": 3}


def mvan_loop(loops: Any, head: MvanLike, batch: Batch, row: int) -> np.ndarray:
    d = head.config.width

    def attend(layer: Any, keys: list[np.ndarray], query: np.ndarray) -> np.ndarray:
        return loops.additive(layer, keys, query)[0] if keys else np.zeros(d)

    words = loops.real(batch, "tokens.states", row)
    h = loops.both_ways(head.words, words) if words else []
    g = [np.tanh(loops.linear(head.regions, region)) for region in loops.real(batch, "regions.features", row)]
    v = loops.standardised(head.standardise["context_vector"], loops.vector(batch, "context.vector", row), 3)
    scene = np.tanh(loops.linear(head.scene, v))
    q_t, q_o, q_s = loops.mean(h, d), loops.mean(g, d), scene
    for _ in range(head.config.hops):
        a_o = attend(head.object_attention, g, q_t)
        t_o, t_s = attend(head.by_object, h, q_o), attend(head.by_scene, h, q_s)
        q_t, q_o, q_s = (
            loops.gru_cell(head.text_update, np.concatenate([t_o, t_s]), q_t),
            loops.gru_cell(head.object_update, a_o, q_o),
            loops.gru_cell(head.scene_update, scene, q_s),
        )
    stack = np.array([q_t, q_o, q_s])
    f = loops.relu(loops.linear(head.fuse, np.concatenate([q_t, q_o, q_s, stack.max(0), stack.mean(0)])))
    return loops.linear(head.classifier, f)


@pytest.mark.parametrize("hops", [1, 3])
def test_forward_is_its_equations_written_as_loops(loops: Any, make_batch: Callable[..., Batch], hops: int) -> None:
    head = MvanLike(MvanConfig(width=4, hops=hops), WIDTHS, 3)
    head.prepare([make_batch(WIDTHS, seed=1)])
    head, batch = loops.stirred(head), make_batch(WIDTHS)
    found = head(batch).logits
    for row in range(4):
        np.testing.assert_allclose(loops.array(found[row]), mvan_loop(loops, head, batch, row), atol=1e-10, rtol=0)


def test_weights_add_up_to_one_where_there_is_something(make_batch: Callable[..., Batch]) -> None:
    details = MvanLike(MvanConfig(width=4), WIDTHS, 3).double().eval()(make_batch(WIDTHS)).details
    for name, empty in (("region_weights", 2), ("word_weights", 3)):
        sums = details[name].sum(-1).tolist()
        assert sums.pop(empty) == 0.0
        assert sums == pytest.approx([1.0] * 3)


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="even number"):
        MvanConfig(width=5)
