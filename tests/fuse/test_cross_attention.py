"""Cross-attention: both sequences read the old state of the other, every step as a loop."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sentifuse import ConfigError
from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.heads.cross_attention import CrossAttention, CrossAttentionConfig

WIDTHS = {"tokens.states": 6, "regions.features": 5, "regions.boxes_normalised": 4, "context.vector": 3}


def read(loops: Any, layer: Any, own: list[np.ndarray], other: list[np.ndarray]) -> list[np.ndarray]:
    asking = [loops.layer_norm(layer.own_norm, one) for one in own]
    found = loops.multi_head(layer.attention, asking, [loops.layer_norm(layer.other_norm, one) for one in other])
    own = [a + b for a, b in zip(own, found, strict=True)]
    inner = [
        loops.linear(layer.inner[2], loops.gelu(loops.linear(layer.inner[0], loops.layer_norm(layer.inner_norm, one))))
        for one in own
    ]
    return [a + b for a, b in zip(own, inner, strict=True)]


def cross_loop(loops: Any, head: CrossAttention, batch: Batch, row: int) -> np.ndarray:
    text = [loops.array(head.text_null)]
    text += [loops.linear(head.text, word) for word in loops.real(batch, "tokens.states", row)]
    image = [loops.array(head.image_null)]
    context = loops.vector(batch, "context.vector", row)
    if context is not None:
        image.append(loops.linear(head.context, loops.standardised(head.standardise["context_vector"], context, 3)))
    for region, box in zip(
        loops.real(batch, "regions.features", row), loops.real(batch, "regions.boxes_normalised", row), strict=True
    ):
        x1, y1, x2, y2 = box
        place = np.array([x1, y1, x2, y2, (x2 - x1) * (y2 - y1)])
        image.append(loops.linear(head.regions, region) + loops.linear(head.boxes, place))
    for text_layer, image_layer in zip(head.text_layers, head.image_layers, strict=True):
        text, image = read(loops, text_layer, text, image), read(loops, image_layer, image, text)
    both = [
        loops.mean([loops.layer_norm(norm, one) for one in sequence], head.config.width)
        for norm, sequence in ((head.text_norm, text), (head.image_norm, image))
    ]
    return loops.linear(head.classifier, np.concatenate(both))


@pytest.mark.parametrize("heads", [1, 2])
def test_forward_is_its_equations_written_as_loops(loops: Any, make_batch: Callable[..., Batch], heads: int) -> None:
    head = CrossAttention(CrossAttentionConfig(width=4, heads=heads), WIDTHS, 3)
    head.prepare([make_batch(WIDTHS, seed=1)])
    head, batch = loops.stirred(head), make_batch(WIDTHS)
    found = head(batch).logits
    for row in range(4):
        np.testing.assert_allclose(loops.array(found[row]), cross_loop(loops, head, batch, row), atol=1e-10, rtol=0)


def test_attention_of_words_and_regions_is_shown_without_the_learned_places(make_batch: Callable[..., Batch]) -> None:
    head = CrossAttention(CrossAttentionConfig(width=4, heads=2), WIDTHS, 3).double().eval()
    batch = make_batch(WIDTHS)
    details = head(batch).details
    assert details["region_attention"].shape == (4, 5, 3)
    assert details["word_attention"].shape == (4, 3, 5)
    assert (details["region_attention"].sum(-1) < 1).all()  # the rest went to the learned place and the context
    no_region = ~batch.masks["regions.features"][:, None].expand(-1, 5, -1)
    assert (details["region_attention"][no_region] == 0).all()


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ConfigError, match=r"width: expected a multiple of heads \(3\), found 128"):
        CrossAttentionConfig(heads=3)
