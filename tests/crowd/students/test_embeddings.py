"""Embeddings come by position, alike from the cache and from an array, whatever the batches."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sentifuse import CacheError
from sentifuse.cache.current import read_current
from sentifuse.cache.reader import FeatureReader
from sentifuse.crowd.students.embeddings import CachedEmbeddings, HeldEmbeddings, in_order


def test_the_cache_gives_what_an_array_gives(crowd_world: Callable[..., Any]) -> None:
    world = crowd_world()
    reader = FeatureReader(read_current(world.cache_dir).directory("context"))
    ids = [id_ for id_ in world.ids if reader.has_value(id_)][::-1]
    held = HeldEmbeddings(np.stack([reader.value(id_, "vector") for id_ in ids]))
    cached = CachedEmbeddings(reader, "vector", ids)
    assert (len(cached), cached.width) == (len(held), held.width) == (58, 6)
    plan = [np.array([3, 50, 4]), np.array([0]), np.arange(58)]
    for one, other in zip(cached.stream(plan), held.stream(plan), strict=True):
        assert np.array_equal(one.numpy(), other.numpy())


def test_rows_come_in_order_a_batch_at_a_time() -> None:
    held = HeldEmbeddings(np.arange(10, dtype=np.float32).reshape(5, 2))
    found = [(rows.tolist(), values[:, 0].tolist()) for rows, values in in_order(held, np.array([4, 0, 2]), 2)]
    assert found == [([4, 0], [8.0, 0.0]), ([2], [4.0])]


def test_a_field_that_is_no_vector_is_refused(crowd_world: Callable[..., Any], tmp_path: Any) -> None:
    from sentifuse.cache.featureset import create_feature_set
    from sentifuse.cache.spec import Field
    from sentifuse.cache.writer import FeatureWriter

    field = Field(name="states", dtype="float16", shape=(4,), is_ragged=True)
    feature_set = create_feature_set(tmp_path, encoder="tokens", recipe={}, fields=(field,))
    FeatureWriter(feature_set).close()
    with pytest.raises(CacheError, match=r"expected one vector for each image"):
        CachedEmbeddings(FeatureReader(feature_set), "states", [])
