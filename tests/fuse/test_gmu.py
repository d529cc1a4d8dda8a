"""The gated unit: every step of the authors' program as a loop."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.heads.gmu import Gmu, GmuConfig

WIDTHS = {"tokens.states": 6, "context.vector": 5}


def test_forward_is_its_equations_written_as_loops(loops: Any, make_batch: Callable[..., Batch]) -> None:
    head = Gmu(GmuConfig(width=4), WIDTHS, 3)
    head.prepare([make_batch(WIDTHS, seed=1)])
    head, batch = loops.stirred(head), make_batch(WIDTHS)
    found = head(batch)
    for row in range(4):
        x, v = (
            loops.standardised(head.standardise[key.replace(".", "_")], loops.vector(batch, key, row), width)
            for key, width in WIDTHS.items()
        )
        a_v = loops.linear(head.image, loops.batch_norm(head.image_norm, v))
        a_t = loops.linear(head.text, loops.batch_norm(head.text_norm, x))
        z = loops.sigmoid(loops.linear(head.gate, np.concatenate([a_v, a_t])))
        hidden = z * np.tanh(a_v) + (1 - z) * np.tanh(a_t)
        for norm, maxout in zip(head.norms[:2], head.maxouts, strict=True):
            pieces = loops.linear(maxout.pieces, loops.batch_norm(norm, hidden))
            hidden = np.array([max(pieces[2 * unit], pieces[2 * unit + 1]) for unit in range(4)])
        expected = loops.linear(head.classifier, loops.batch_norm(head.norms[2], hidden))
        np.testing.assert_allclose(loops.array(found.logits[row]), expected, atol=1e-10, rtol=0)
        np.testing.assert_allclose(loops.array(found.details["gate"][row]), z, atol=1e-10)
        np.testing.assert_allclose(found.details["image_share"][row].item(), z.mean(), atol=1e-10)


def test_an_open_gate_is_the_picture_and_a_shut_one_the_text(make_batch: Callable[..., Batch]) -> None:
    head = Gmu(GmuConfig(width=4), WIDTHS, 3).double().eval()
    batch = make_batch(WIDTHS)
    features = {}
    for name, weight in (("picture", 1e3), ("text", -1e3)):
        with torch.no_grad():
            head.gate.weight.copy_(torch.zeros_like(head.gate.weight))
            # A gate that does not depend on its input needs one that is always positive.
            head.gate.register_forward_hook(lambda module, given, out, weight=weight: torch.full_like(out, weight))
        features[name] = head(batch).details["fused"]
        head.gate._forward_hooks.clear()
    v = torch.tanh(head.image(head.image_norm(head.inputs(batch)["context.vector"][0])))
    x = torch.tanh(head.text(head.text_norm(head.inputs(batch)["tokens.states"][0])))
    torch.testing.assert_close(features["picture"], v)
    torch.testing.assert_close(features["text"], x)
