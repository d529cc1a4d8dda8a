"""Gathering: masks tell the truth, values are the stored ones, and every pair comes once."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentifuse import CacheError
from sentifuse.cache.reader import FeatureReader
from sentifuse.fuse.features.batches import Batch, BatchSource, FieldRequest, shuffled_batches
from sentifuse.fuse.features.samples import open_features

STATES = FieldRequest(encoder="tokens", field="states")
VECTOR = FieldRequest(encoder="context", field="vector")
REGIONS = FieldRequest(encoder="regions", field="features", limit=2)
COUNT = FieldRequest(encoder="regions", field="count")
REQUESTS = (STATES, VECTOR, REGIONS, COUNT)


@pytest.fixture
def readers(world: Any) -> dict[str, FeatureReader]:
    return open_features(world.artifacts, world.name, REQUESTS)


def assert_stored(batch: Batch, readers: dict[str, FeatureReader]) -> None:
    for row, id_ in enumerate(batch.ids):
        states = readers["tokens"].value(id_, "states")
        mask = batch.masks["tokens.states"][row]
        assert int(mask.sum()) == len(states)
        assert mask[: len(states)].all()
        np.testing.assert_array_equal(batch.values["tokens.states"][row, : len(states)].numpy(), states)
        assert (batch.values["tokens.states"][row, len(states) :] == 0).all()
        np.testing.assert_array_equal(
            batch.values["context.vector"][row].numpy(), readers["context"].value(id_, "vector")
        )
        count = min(2, int(readers["regions"].value(id_, "count")))
        assert int(batch.masks["regions.features"][row].sum()) == count
        stored = readers["regions"].value(id_, "features")[:count]
        np.testing.assert_array_equal(batch.values["regions.features"][row, :count].numpy(), stored)
        assert int(batch.values["regions.count"][row]) == int(readers["regions"].value(id_, "count"))


@pytest.mark.parametrize("reuse", [False, True])
def test_any_rows_are_gathered_as_stored(readers: dict[str, FeatureReader], reuse: bool) -> None:
    ids = readers["tokens"].ids
    source = BatchSource(readers, REQUESTS, ids, np.arange(len(ids)), reuse=reuse)
    rng = np.random.default_rng(0)
    for _ in range(10):
        rows = rng.permutation(len(ids))[: int(rng.integers(1, 30))]
        batch = source.gather(rows)
        assert batch.ids == tuple(ids[i] for i in rows)
        assert batch.labels is not None
        assert batch.labels.tolist() == rows.tolist()
        assert {value.dtype for value in batch.values.values()} == {torch.float32}
        assert_stored(batch, readers)


def test_widths_and_lengths_are_those_of_the_fields(readers: dict[str, FeatureReader]) -> None:
    source = BatchSource(readers, REQUESTS, readers["tokens"].ids)
    widths = {"tokens.states": 12, "context.vector": 7, "regions.features": 9, "regions.count": 1}
    assert source.widths == widths
    assert source.lengths.tolist() == [len(readers["tokens"].value(id_, "states")) for id_ in source.ids]


def test_batches_cover_every_pair_once_short_ones_first(readers: dict[str, FeatureReader]) -> None:
    source = BatchSource(readers, (STATES,), readers["tokens"].ids)
    rows = np.concatenate([rows for rows, _ in source.batches(16)])
    assert sorted(rows.tolist()) == list(range(len(source)))
    assert (np.diff(source.lengths[rows]) >= 0).all()


def test_a_batch_of_empty_texts_has_one_masked_place(make_world: Callable[..., Any]) -> None:
    world = make_world(n=60)
    reader = open_features(world.artifacts, world.name, (STATES,))
    empty = [id_ for id_ in reader["tokens"].ids if not len(reader["tokens"].value(id_, "states"))]
    batch = BatchSource(reader, (STATES,), empty).gather(range(len(empty)))
    assert empty
    assert batch.values["tokens.states"].shape == (len(empty), 1, 12)
    assert not batch.masks["tokens.states"].any()
    assert (batch.values["tokens.states"] == 0).all()


def test_a_missing_modality_is_masked_and_zero(make_world: Callable[..., Any]) -> None:
    world = make_world(n=60, statuses={"context": {"p3": "missing"}, "regions": {"p3": "unreadable: empty file"}})
    readers = open_features(world.artifacts, world.name, REQUESTS)
    batch = BatchSource(readers, REQUESTS, ("p3", "p4")).gather([0, 1])
    assert batch.masks["context.vector"].tolist() == [False, True]
    assert not batch.masks["regions.features"][0].any()
    assert (batch.values["context.vector"][0] == 0).all()
    assert (batch.values["regions.features"][0] == 0).all()


def test_a_limit_keeps_the_first_elements(readers: dict[str, FeatureReader]) -> None:
    first = FieldRequest(encoder="tokens", field="states", limit=3)
    source = BatchSource(readers, (first,), readers["tokens"].ids)
    batch = source.gather(range(len(source)))
    assert batch.values["tokens.states"].shape[1] == 3
    assert source.lengths.max() == 3
    for row, id_ in enumerate(batch.ids):
        stored = readers["tokens"].value(id_, "states")[:3]
        assert int(batch.masks["tokens.states"][row].sum()) == len(stored) == source.lengths[row]
        np.testing.assert_array_equal(batch.values["tokens.states"][row, : len(stored)].numpy(), stored)


def test_moving_a_batch_keeps_it(readers: dict[str, FeatureReader]) -> None:
    batch = BatchSource(readers, REQUESTS, ("p1", "p2"), np.array([1, 2])).gather([0, 1])
    moved = batch.to("cpu")
    assert moved.ids == batch.ids
    assert len(moved) == 2
    assert all(torch.equal(moved.values[key], batch.values[key]) for key in batch.values)


def test_labels_of_each_modality_travel_with_their_pairs(readers: dict[str, FeatureReader]) -> None:
    ids = readers["tokens"].ids[:10]
    text, image = np.arange(10) - 1, np.arange(10)[::-1].copy()
    source = BatchSource(readers, REQUESTS, ids, np.arange(10), text_labels=text, image_labels=image)
    batch = source.gather([7, 0, 3]).to("cpu")
    assert batch.text_labels.tolist() == [6, -1, 2]
    assert batch.image_labels.tolist() == [2, 9, 6]
    without = BatchSource(readers, REQUESTS, ids).gather([1])
    assert (without.labels, without.text_labels, without.image_labels) == (None, None, None)
    with pytest.raises(ValueError, match=r"labels have shape \(4,\), expected \(10,\)"):
        BatchSource(readers, REQUESTS, ids, image_labels=np.arange(4))


@pytest.mark.parametrize("resident", [None, "ram"])
def test_a_part_is_a_source_of_these_pairs_alone(readers: dict[str, FeatureReader], resident: str | None) -> None:
    ids = readers["tokens"].ids
    source = BatchSource(
        readers, REQUESTS, ids, np.arange(len(ids)), text_labels=np.arange(len(ids)) + 1, reuse=True, resident=resident
    )
    rows = np.array([4, 2, 11])
    part = source.part(rows)
    kept = source.gather([0])  # the part has buffers of its own: what the whole gives stays as it is
    before = {key: value.clone() for key, value in kept.values.items()}
    batch = part.gather(range(3))
    assert part.ids == batch.ids == tuple(ids[row] for row in rows)
    assert batch.labels.tolist() == rows.tolist()
    assert batch.text_labels.tolist() == (rows + 1).tolist()
    assert batch.image_labels is None
    assert_stored(batch, readers)
    assert all(torch.equal(kept.values[key], value) for key, value in before.items())
    assert part.widths == source.widths


def test_an_absent_field_is_named(readers: dict[str, FeatureReader]) -> None:
    absent = FieldRequest(encoder="tokens", field="pooled")
    with pytest.raises(CacheError, match=r"tokens: expected a field 'pooled', found states\. .* --encoders tokens"):
        BatchSource(readers, (absent,), ("p1",))


def test_labels_must_be_one_per_id(readers: dict[str, FeatureReader]) -> None:
    with pytest.raises(ValueError, match=r"labels have shape \(3,\), expected \(2,\)"):
        BatchSource(readers, (STATES,), ("p1", "p2"), np.zeros(3, dtype=np.int64))


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=300),
    batch_size=st.integers(1, 64),
    window=st.integers(1, 9),
    seed=st.integers(0, 5),
)
def test_shuffled_batches_are_a_partition(lengths: list[int], batch_size: int, window: int, seed: int) -> None:
    found = shuffled_batches(np.array(lengths), batch_size, np.random.default_rng(seed), window=window)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))
    assert max(len(batch) for batch in found) <= batch_size + 1
    if batch_size > 1 and len(lengths) > 1:
        assert min(len(batch) for batch in found) > 1


def test_shuffled_batches_differ_by_epoch_and_repeat_by_seed() -> None:
    lengths = np.arange(200) % 37
    rng = np.random.default_rng(1)
    first, second = (shuffled_batches(lengths, 16, rng) for _ in range(2))
    again = shuffled_batches(lengths, 16, np.random.default_rng(1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_sorting_inside_windows_saves_padding() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 60, size=1000)

    def places(window: int) -> int:
        batches = shuffled_batches(lengths, 32, np.random.default_rng(0), window=window)
        return sum(len(batch) * int(lengths[batch].max()) for batch in batches)

    assert places(8) < 1.2 * lengths.sum() < 1.5 * lengths.sum() < places(1)
