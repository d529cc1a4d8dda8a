"""The fair comparison's MLP: unit length, one layer per modality, and its training recipe."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sentifuse.fuse.config import resolve
from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.heads.concat_mlp import ConcatMlp, ConcatMlpConfig

FIELDS = {"tokens": ("tokens.states", "context.vector"), "clip": ("clip.text", "clip.image")}


def unit(x: np.ndarray | None, width: int) -> np.ndarray:
    return np.zeros(width) if x is None else x / np.sqrt((x**2).sum())


@pytest.mark.parametrize("fields", ["tokens", "clip"])
def test_forward_is_its_equations_written_as_loops(loops: Any, make_batch: Callable[..., Batch], fields: str) -> None:
    text, image = FIELDS[fields]
    widths = {text: 6, image: 5}
    head = loops.stirred(ConcatMlp(ConcatMlpConfig(width=4, fields=fields), widths, 3))
    batch = make_batch(widths)
    found = head(batch)
    for row in range(4):
        x, v = unit(loops.vector(batch, text, row), 6), unit(loops.vector(batch, image, row), 5)
        x = loops.relu(loops.batch_norm(head.text_norm, loops.linear(head.text, x)))
        v = loops.relu(loops.batch_norm(head.image_norm, loops.linear(head.image, v)))
        expected = loops.linear(head.classifier, np.concatenate([x, v]))
        np.testing.assert_allclose(loops.array(found.logits[row]), expected, atol=1e-10, rtol=0)
        np.testing.assert_allclose(loops.array(found.details["text_feature"][row]), x, atol=1e-10)


def test_clips_vectors_are_asked_for_instead() -> None:
    assert [request.key for request in ConcatMlp.requests(ConcatMlpConfig(fields="clip"))] == list(FIELDS["clip"])
    assert [request.key for request in ConcatMlp.requests(ConcatMlpConfig())] == list(FIELDS["tokens"])


def test_smoothing_over_the_other_classes_is_a_larger_share_of_all(make_batch: Callable[..., Batch]) -> None:
    widths = {"tokens.states": 6, "context.vector": 5}
    head = ConcatMlp(ConcatMlpConfig(width=4, label_smoothing=0.15), widths, 3).double().eval()
    batch = make_batch(widths)
    output = head(batch)
    targets = torch.full((4, 3), 0.05).double().scatter(1, batch.labels[:, None], 0.9)  # theirs with 0.1
    expected = -(targets * output.logits.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(head.loss(output, batch), expected)


def test_paper_preset_is_the_authors_network_and_recipe() -> None:
    resolved = resolve("concat_mlp", ConcatMlpConfig, ConcatMlp.PRESETS, preset="paper")
    head, train = resolved.head, resolved.train
    assert (head.width, head.dropout, head.standardise, head.input_dropout) == (128, 0.5, "none", 0.0)
    assert (train.optimiser, train.learning_rate, train.weight_decay, train.batch_size) == ("adam", 2e-5, 0.0, 32)
    assert (train.schedule, train.step_epochs, train.step_factor) == ("plateau", 5, 0.1)
    assert (train.epochs, train.select, train.patience) == (100, "loss", 0)
