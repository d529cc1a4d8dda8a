"""CLMLF: the encoders and both contrastive losses as loops, in their usual and in the authors' form."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sentifuse import ConfigError
from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.heads.clmlf_like import ClmlfConfig, ClmlfLike, authors_contrast, data_contrast, label_contrast

WIDTHS = {"tokens.states": 6, "regions.features": 5, "context.vector": 3}
SMALL = {"width": 4, "heads": 2, "image_layers": 1, "fusion_layers": 2}


def encode(loops: Any, layers: Any, values: list[np.ndarray]) -> list[np.ndarray]:
    for layer in layers:
        read = loops.multi_head(layer.attention, values, values)
        values = [loops.layer_norm(layer.attention_norm, v + r) for v, r in zip(values, read, strict=True)]
        inner = [loops.linear(layer.inner[2], loops.gelu(loops.linear(layer.inner[0], v))) for v in values]
        values = [loops.layer_norm(layer.inner_norm, v + i) for v, i in zip(values, inner, strict=True)]
    return values


def clmlf_loop(loops: Any, head: ClmlfLike, batch: Batch, row: int) -> tuple[np.ndarray, list[float]]:
    """Logits of a pair, and the weights of its words, its context and its regions."""
    text = [loops.gelu(loops.linear(head.text, word)) for word in loops.real(batch, "tokens.states", row)]
    v = loops.standardised(head.standardise["context_vector"], loops.vector(batch, "context.vector", row), 3)
    image = [loops.gelu(loops.linear(head.context, v))]
    image += [loops.gelu(loops.linear(head.regions, region)) for region in loops.real(batch, "regions.features", row)]
    joint = encode(loops, head.fusion_encoder, text + encode(loops, head.image_encoder, image))
    scores = [loops.linear(head.pool[2], loops.gelu(loops.linear(head.pool[0], z)))[0] for z in joint]
    weights = loops.softmax(scores)
    f = loops.weighted(weights, joint, head.config.width)
    logits = loops.linear(head.classifier[2], loops.gelu(loops.linear(head.classifier[0], f)))
    return logits, weights


def test_forward_is_its_equations_written_as_loops(loops: Any, make_batch: Callable[..., Batch]) -> None:
    head = ClmlfLike(ClmlfConfig(**SMALL), WIDTHS, 3)
    head.prepare([make_batch(WIDTHS, seed=1)])
    head, batch = loops.stirred(head), make_batch(WIDTHS)
    found = head(batch)
    for row in range(4):
        expected, weights = clmlf_loop(loops, head, batch, row)
        np.testing.assert_allclose(loops.array(found.logits[row]), expected, atol=1e-10, rtol=0)
        words = len(loops.real(batch, "tokens.states", row))
        np.testing.assert_allclose(loops.array(found.details["word_weights"][row, :words]), weights[:words], atol=1e-10)
        np.testing.assert_allclose(found.details["context_weight"][row].item(), weights[words], atol=1e-10)
        np.testing.assert_allclose(
            loops.array(found.details["region_weights"][row, : len(weights) - words - 1]),
            weights[words + 1 :],
            atol=1e-10,
        )


@pytest.fixture
def views() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, other = (torch.randn(6, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    return q, other, torch.tensor([0, 1, 0, 2, 1, 0])  # the fourth pair has no partner


def test_each_view_looks_for_its_own_other_view(loops: Any, views: Any) -> None:
    q, other, _ = (loops.array(value) for value in views)
    losses = [-math.log(loops.softmax([float(q[i] @ o) / 0.5 for o in other])[i]) for i in range(6)]
    np.testing.assert_allclose(data_contrast(*views[:2], 0.5).item(), np.mean(losses), atol=1e-12)


def test_authors_contrast_divides_by_the_temperature_outside_and_counts_itself(loops: Any, views: Any) -> None:
    q, labels = loops.array(views[0]), views[2].tolist()
    parts = [
        math.log(loops.softmax([float(q[i] @ one) for one in q])[j]) / 0.5
        for i in range(6)
        for j in range(6)
        if labels[i] == labels[j]
    ]
    np.testing.assert_allclose(authors_contrast(views[0], views[2], 0.5).item(), -np.mean(parts), atol=1e-12)


def test_label_contrast_pulls_partners_together_at_unit_length(loops: Any, views: Any) -> None:
    q, labels = loops.array(views[0]), views[2].tolist()
    q = [one / math.sqrt(one @ one) for one in q]
    per_pair = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        shares = dict(zip(others, loops.softmax([float(q[i] @ q[j]) / 0.5 for j in others]), strict=True))
        partners = [j for j in others if labels[j] == labels[i]]
        if partners:
            per_pair.append(-np.mean([math.log(shares[j]) for j in partners]))
    assert len(per_pair) == 5
    np.testing.assert_allclose(label_contrast(views[0], views[2], 0.5).item(), np.mean(per_pair), atol=1e-12)


def test_pairs_without_a_partner_give_no_label_contrast(views: Any) -> None:
    q = views[0].clone().requires_grad_()
    loss = label_contrast(q, torch.arange(6), 0.07)
    loss.backward()
    assert loss.item() == 0.0
    assert q.grad.isfinite().all()


@pytest.mark.parametrize("contrast", ["usual", "authors", "none"])
def test_loss_in_training_is_the_sum_of_its_parts(make_batch: Callable[..., Batch], contrast: str) -> None:
    torch.manual_seed(0)
    config = ClmlfConfig(**SMALL, contrast=contrast, data_weight=0.3, label_weight=0.6)
    head, batch = ClmlfLike(config, WIDTHS, 3).double().train(), make_batch(WIDTHS)
    output = head(batch)
    expected = torch.nn.functional.cross_entropy(output.logits, batch.labels)
    if contrast == "none":
        assert "first_view" not in output.details
        assert not hasattr(head, "first_view")
    else:
        q, other = output.details["first_view"], output.details["second_view"]
        assert not torch.allclose(q, other)
        expected = expected + 0.3 * data_contrast(q, other, 0.07)
        if contrast == "usual":
            expected = expected + 0.6 * label_contrast(q, batch.labels, 0.07)
        else:
            expected = (expected + 0.6 * authors_contrast(q, batch.labels, 0.07)) / 4
    torch.testing.assert_close(head.loss(output, batch), expected)
    assert "first_view" not in head.eval()(batch).details


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ConfigError, match=r"width: expected a multiple of 2 and of heads \(3\), found 128"):
        ClmlfConfig(heads=3)
