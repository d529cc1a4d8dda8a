"""MultiSentiNet: object and scene ask the words; every step as a loop, and the authors' recipe."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sentifuse.fuse.config import resolve
from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.heads.multisentinet import MultiSentiNet, MultiSentiNetConfig

WIDTHS = {"tokens.states": 6, "regions.features": 5, "context.vector": 4}


@pytest.mark.parametrize("standardise", ["none", "vectors"])
def test_forward_is_its_equations_written_as_loops(
    loops: Any, make_batch: Callable[..., Batch], standardise: str
) -> None:
    head = MultiSentiNet(MultiSentiNetConfig(width=4, standardise=standardise), WIDTHS, 3)
    head.prepare([make_batch(WIDTHS, seed=1)])
    head, batch = loops.stirred(head), make_batch(WIDTHS)
    found = head(batch)
    for row in range(4):
        given = {}
        for key in ("regions.features", "context.vector"):
            value = loops.vector(batch, key, row)
            if standardise == "none":
                given[key] = np.zeros(WIDTHS[key]) if value is None else value
            else:
                given[key] = loops.standardised(head.standardise[key.replace(".", "_")], value, WIDTHS[key])
        o = loops.relu(loops.linear(head.object, given["regions.features"]))
        s = loops.relu(loops.linear(head.scene, given["context.vector"]))
        h = loops.lstm(head.words.lstm, loops.real(batch, "tokens.states", row))
        z, weights = loops.additive(head.attention, h, o, s) if h else (np.zeros(4), [])
        f = loops.relu(loops.linear(head.fuse, np.concatenate([s, o, z])))
        expected = loops.linear(head.classifier, f)
        np.testing.assert_allclose(loops.array(found.logits[row]), expected, atol=1e-10, rtol=0)
        np.testing.assert_allclose(
            loops.array(found.details["word_weights"][row]), weights + [0.0] * (5 - len(weights)), atol=1e-10
        )


def test_the_run_says_what_object_and_scene_are() -> None:
    notes = MultiSentiNet(MultiSentiNetConfig(width=4), WIDTHS, 3).notes()
    assert notes == {"object": "mean of regions.features", "scene": "context.vector"}


def test_authors_preset_is_their_recipe() -> None:
    resolved = resolve("multisentinet", MultiSentiNetConfig, MultiSentiNet.PRESETS, preset="authors")
    head, train = resolved.head, resolved.train
    assert (head.width, head.dropout, head.input_dropout) == (128, 0.0, 0.0)
    assert (train.optimiser, train.learning_rate, train.weight_decay, train.batch_size) == ("rmsprop", 1e-3, 0.0, 32)
    assert (train.schedule, train.epochs, train.select, train.patience) == ("constant", 100, "loss", 5)
    multiple = resolve(
        "multisentinet", MultiSentiNetConfig, MultiSentiNet.PRESETS, preset="authors", dataset="mvsa_multiple"
    )
    assert multiple.train.batch_size == 128
