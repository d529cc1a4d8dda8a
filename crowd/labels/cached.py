"""One field of many cached rows as one array, proved byte by byte. Knows no labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse import CacheError
from sentifuse.cache.reader import FeatureReader

__all__ = ["gather"]

# Shapes: N rows, D numbers of a row.


def gather(reader: FeatureReader, field: str, ids: Sequence[str]) -> npt.NDArray[Any]:
    """(N, D) of a dense field with one vector for each row, in the cache's own dtype; a copy.

    Every id must be there with values.

    Raises
    ------
    CacheError
        The field is no vector; a row is not stored, has no values, or is damaged.
    """
    found = reader.field(field)
    if found.is_ragged or len(found.shape) != 1:
        raise CacheError(
            f"{reader.feature_set.directory}: {reader.encoder}.{field} is {found.shape}"
            f"{' per element' if found.is_ragged else ''}, expected one vector for each row. Take another field"
        )
    reader.prove(ids)
    shards, places = reader.locate(ids)
    if len(places) and places.min() < 0:
        without = next(id_ for id_, place in zip(ids, places.tolist(), strict=True) if place < 0)
        raise CacheError(f"{reader.feature_set.directory}: no values of {without} ({reader.status(without)})")
    rows = np.zeros((len(ids), *found.shape), dtype=found.dtype)
    for shard in np.unique(shards).tolist():
        values, _ = reader.mapped(field, shard)
        is_here = shards == shard
        rows[is_here] = values[places[is_here]]
    return rows
