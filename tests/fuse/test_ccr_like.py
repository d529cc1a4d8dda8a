"""Three linear voices, their divergence, and which of them answers when a modality is missing."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.heads.ccr_like import CcrConfig, CcrLike, mean_divergence

WIDTHS = {"tokens.states": 6, "context.vector": 5}


def voices(loops: Any, head: CcrLike, batch: Batch, row: int) -> list[np.ndarray]:
    """Joint, text and image logits of a pair."""
    x, v = (
        loops.standardised(head.standardise[key.replace(".", "_")], loops.vector(batch, key, row), width)
        for key, width in WIDTHS.items()
    )
    return [
        loops.linear(head.joint, np.concatenate([x, v])),
        loops.linear(head.text, x),
        loops.linear(head.image, v),
    ]


def divergence(p: list[float], q: list[float]) -> float:
    return math.fsum((a - b) * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))


def test_forward_and_loss_are_their_equations_written_as_loops(loops: Any, make_batch: Callable[..., Batch]) -> None:
    head = CcrLike(CcrConfig(voice_weight=0.7, consistency_weight=1.3), WIDTHS, 3)
    head.prepare([make_batch(WIDTHS, seed=1)])
    head, batch = loops.stirred(head), make_batch(WIDTHS, has_context=(True, False, True, True))
    found = head(batch)
    total = 0.0
    for row in range(4):
        joint, text, image = voices(loops, head, batch, row)
        answer = {1: text, 3: image}.get(row, joint)  # pair 1 has no image, pair 3 no words
        np.testing.assert_allclose(loops.array(found.logits[row]), answer, atol=1e-10, rtol=0)
        p_c, p_t, p_v = (loops.softmax(list(logits)) for logits in (joint, text, image))
        label = int(batch.labels[row])
        total -= math.log(p_c[label]) + 0.7 * (math.log(p_t[label]) + math.log(p_v[label]))
        total += 1.3 * (divergence(p_c, p_t) + divergence(p_c, p_v))
    np.testing.assert_allclose(head.loss(found, batch).item(), total / 4, atol=1e-10, rtol=0)


def test_divergence_of_equal_answers_is_zero_and_of_opposite_ones_finite() -> None:
    logits = torch.tensor([[500.0, -500.0], [0.0, 1.0]]).double().requires_grad_()
    assert mean_divergence(logits, logits.detach()).item() == 0.0
    far = mean_divergence(logits, -logits.detach())
    far.backward()
    assert far.isfinite()
    assert logits.grad.isfinite().all()
