"""Image embeddings as batches, from the feature cache or from an array: rows come when asked for, never all at once.

Knows nothing of labels or heads.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sentifuse.cache.reader import FeatureReader
from sentifuse.crowd.vectors import check_vector
from sentifuse.fuse.features.batches import BatchSource, FieldRequest

__all__ = ["CachedEmbeddings", "Embeddings", "HeldEmbeddings", "in_order"]

# Shapes: N images, B batch, D width of an embedding.
IntArray = npt.NDArray[np.int64]


class Embeddings(Protocol):
    """N vectors of `width` numbers, by position."""

    width: int

    def __len__(self) -> int:
        """N."""

    def stream(self, plan: Sequence[IntArray]) -> Generator[Tensor, None, None]:
        """float32 (B, D) of each of these positions; valid until the next one is asked for."""


class CachedEmbeddings:
    """A vector field of a feature set, rows of `ids` in this order; memory is that of two batches and of the ids.

    Raises
    ------
    CacheError
        The field is no vector; an id is not stored.
    """

    def __init__(self, reader: FeatureReader, field: str, ids: Sequence[str]) -> None:
        self.width = check_vector(reader, field)
        request = FieldRequest(encoder=reader.encoder, field=field)
        self._key = request.key
        self._source = BatchSource({reader.encoder: reader}, (request,), ids, reuse=True, read_ahead=True)

    def __len__(self) -> int:
        return len(self._source)

    def stream(self, plan: Sequence[IntArray]) -> Generator[Tensor, None, None]:
        with closing(self._source.stream(plan)) as batches:
            for batch in batches:
                yield batch.values[self._key]


class HeldEmbeddings:
    """An array (N, D) in memory."""

    def __init__(self, values: npt.NDArray[np.float32]) -> None:
        if values.ndim != 2 or values.dtype != np.float32:
            raise ValueError(f"embeddings: expected float32 (N, D), found {values.dtype} {values.shape}")
        self.width = values.shape[1]
        self._values = torch.from_numpy(values)

    def __len__(self) -> int:
        return len(self._values)

    def stream(self, plan: Sequence[IntArray]) -> Generator[Tensor, None, None]:
        for rows in plan:
            yield self._values[torch.from_numpy(rows)]


def in_order(embeddings: Embeddings, rows: IntArray, batch_rows: int) -> Iterator[tuple[IntArray, Tensor]]:
    """These positions in their order, a batch at a time."""
    plan = [rows[start : start + batch_rows] for start in range(0, len(rows), batch_rows)]
    with closing(embeddings.stream(plan)) as batches:
        yield from zip(plan, batches, strict=True)
