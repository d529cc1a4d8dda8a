"""One vector field of many cached rows as one array, proved byte by byte; `encoder.field` names it. Knows no labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse import CacheError, ConfigError
from sentifuse.cache.reader import FeatureReader

__all__ = ["check_vector", "gather", "parse_feature"]

# Shapes: N rows, D numbers of a row.


def parse_feature(text: str) -> tuple[str, str]:
    """Encoder and field of `encoder.field`.

    >>> parse_feature("context.vector")
    ('context', 'vector')
    """
    encoder, dot, field = text.strip().partition(".")
    if not (encoder and dot and field):
        raise ConfigError(f"--features {text}: expected encoder.field, such as context.vector or clip.image")
    return encoder, field


def check_vector(reader: FeatureReader, field: str) -> int:
    """D of a dense field with one vector for each row.

    Raises
    ------
    CacheError
        The field is no vector.
    """
    found = reader.field(field)
    if found.is_ragged or len(found.shape) != 1:
        raise CacheError(
            f"{reader.feature_set.directory}: {reader.encoder}.{field} is {found.shape}"
            f"{' per element' if found.is_ragged else ''}, expected one vector for each image. "
            "Take --features context.vector, or crowd.embedding or clip.image"
        )
    return found.shape[0]


def gather(
    reader: FeatureReader, field: str, ids: Sequence[str], dtype: npt.DTypeLike | None = None
) -> npt.NDArray[Any]:
    """(N, D) of a vector field, a copy; None: in the cache's own dtype.

    Every id must be there with values.

    Raises
    ------
    CacheError
        The field is no vector; a row is not stored, has no values, or is damaged.
    """
    width = check_vector(reader, field)
    reader.prove(ids)
    shards, places = reader.locate(ids)
    if len(places) and places.min() < 0:
        without = next(id_ for id_, place in zip(ids, places.tolist(), strict=True) if place < 0)
        raise CacheError(f"{reader.feature_set.directory}: no values of {without} ({reader.status(without)})")
    rows = np.zeros((len(ids), width), dtype=dtype or reader.field(field).dtype)
    for shard in np.unique(shards).tolist():
        values, _ = reader.mapped(field, shard)
        is_here = shards == shard
        rows[is_here] = values[places[is_here]]
    return rows
