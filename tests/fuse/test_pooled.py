"""The single-modality heads see their modality, whole, and nothing else."""

from collections.abc import Callable

import torch

from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.heads import load_head
from sentifuse.fuse.heads.pooled import MlpConfig, pool

WIDTHS = {"tokens.states": 5, "context.vector": 3, "regions.features": 4}


def test_a_sequence_is_pooled_to_the_mean_of_what_is_real(make_batch: Callable[..., Batch]) -> None:
    batch = make_batch(WIDTHS)  # lengths 5, 1, 3, 0
    vector, has_value = pool(batch, "tokens.states")
    assert has_value.tolist() == [True, True, True, False]
    for row, n in enumerate((5, 1, 3)):
        torch.testing.assert_close(vector[row], batch.values["tokens.states"][row, :n].mean(0))
    assert (vector[3] == 0).all()


def test_a_vector_stays_as_it_is(make_batch: Callable[..., Batch]) -> None:
    batch = make_batch(WIDTHS)
    vector, has_value = pool(batch, "context.vector")
    assert torch.equal(has_value, batch.masks["context.vector"])
    assert torch.equal(vector[0], batch.values["context.vector"][0])


def test_single_modality_heads_ask_for_their_modality_only() -> None:
    encoders = {name: {r.encoder for r in load_head(name).needs} for name in ("text_only", "image_only")}
    assert encoders == {"text_only": {"tokens"}, "image_only": {"context", "regions"}}


def test_pooled_vectors_are_standardised_on_the_training_part(make_batch: Callable[..., Batch]) -> None:
    head = load_head("image_only")(MlpConfig(hidden=4), WIDTHS, 3).double()
    batches = [make_batch(WIDTHS, seed=seed) for seed in range(4)]
    head.prepare(batches)
    for request, layer in zip(head.needs, head.standardise, strict=True):
        rows = torch.cat([vector[real] for vector, real in (pool(batch, request.key) for batch in batches)])
        torch.testing.assert_close(layer.mean, rows.mean(0))
        torch.testing.assert_close(layer.scale, rows.std(0, correction=0))
