"""Rows of the feature cache become batches of masked tensors; rows of any order, converted while they are copied.

A mask says what is real (True); whatever a mask leaves out is zero in the values. Knows nothing of labels' names,
of heads, or of how features were made.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from sentifuse import CacheError
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Field

TORCH_DTYPES = {
    "float16": torch.float16,
    "float32": torch.float32,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
}

# Shapes: B rows of a batch, T the longest row of the batch, D a feature's width.


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRequest:
    """A field that a head reads."""

    encoder: str
    field: str
    limit: int | None = None  # sequences: only the first `limit` elements (regions are stored best first)
    optional: bool = False  # True: a pair without this value is used all the same, with an all-False mask
    count: str = "count"  # dense sequences: the scalar field that says how many elements are real, if it exists

    @property
    def key(self) -> str:
        """Name in `Batch.values` and in a head's `widths`: "encoder.field"."""
        return f"{self.encoder}.{self.field}"


@dataclass(slots=True, kw_only=True)
class Batch:
    """B pairs.

    `values[key]` is float32: (B, D) or (B,) for a field with one vector or number per pair, (B, T, D) or
    (B, T) for a sequence.
    `masks[key]` is bool, True = real: (B,) whether the pair has the value, or (B, T) which elements are there.
    """

    ids: tuple[str, ...]
    values: dict[str, torch.Tensor]
    masks: dict[str, torch.Tensor]
    labels: torch.Tensor | None = None  # (B,) int64

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return replace(
            self,
            values={key: value.to(device, non_blocking=True) for key, value in self.values.items()},
            masks={key: mask.to(device, non_blocking=True) for key, mask in self.masks.items()},
            labels=None if self.labels is None else self.labels.to(device, non_blocking=True),
        )


class _Buffers:
    """Memory for batches by name; kept for the next batch, so that a training does not ask for pages at every step."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._kept: dict[tuple[str, torch.dtype], torch.Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor of this shape with any content."""
        if not self._keep:
            return torch.empty(shape, dtype=dtype)
        n = math.prod(shape)
        kept = self._kept.get((name, dtype))
        if kept is None or kept.numel() < n:
            kept = self._kept[name, dtype] = torch.empty(n, dtype=dtype)
        return kept[:n].view(shape)


class BatchSource:
    """Pairs in a fixed order, any rows of which can be gathered into a batch.

    Parameters
    ----------
    readers
        One per encoder that the requests name.
    ids
        Every id must be in every reader, with a value unless the request is optional.
    labels
        (len(ids),) int64, or None.
    reuse
        True: a batch is valid only until the next one is gathered, since both share memory.
    """

    def __init__(
        self,
        readers: Mapping[str, FeatureReader],
        requests: Sequence[FieldRequest],
        ids: Sequence[str],
        labels: np.ndarray[Any, np.dtype[np.int64]] | None = None,
        *,
        reuse: bool = False,
    ) -> None:
        if labels is not None and labels.shape != (len(ids),):
            raise ValueError(f"labels have shape {labels.shape}, expected ({len(ids)},)")
        self.ids = tuple(ids)
        self.labels = labels
        self.requests = tuple(requests)
        self._readers = dict(readers)
        self._buffers = _Buffers(keep=reuse)
        self._fields = {request.key: find_field(readers, request) for request in requests}
        self._has_count = {r.key: _has_count(self._readers[r.encoder], r) for r in self.requests}
        self.widths = {key: width_of(found) for key, found in self._fields.items()}
        self.lengths = self._measure_lengths()  # (len(ids),) int64: the longest sequence of each pair

    def __len__(self) -> int:
        return len(self.ids)

    def gather(self, rows: Sequence[int] | np.ndarray[Any, Any]) -> Batch:
        """The pairs at these positions, in this order, as one batch on the CPU."""
        ids = tuple(self.ids[int(row)] for row in rows)
        values, masks = {}, {}
        for request in self.requests:
            values[request.key], masks[request.key] = self._gather_field(request, ids)
        labels = None if self.labels is None else torch.from_numpy(self.labels[np.asarray(rows, dtype=np.int64)])
        return Batch(ids=ids, values=values, masks=masks, labels=labels)

    def batches(self, batch_size: int) -> Iterator[tuple[np.ndarray[Any, np.dtype[np.int64]], Batch]]:
        """Every pair once, short ones first; yields positions and batch."""
        order = np.argsort(self.lengths, kind="stable")
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            yield rows, self.gather(rows)

    def _measure_lengths(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        lengths = np.zeros(len(self.ids), dtype=np.int64)
        for request in self.requests:
            if not self._fields[request.key].is_ragged:
                continue
            reader = self._readers[request.encoder]
            for position, id_ in enumerate(self.ids):
                if reader.status(id_) == "ok":
                    n = len(reader.value(id_, request.field))
                    lengths[position] = max(lengths[position], n if request.limit is None else min(n, request.limit))
        return lengths

    def _gather_field(self, request: FieldRequest, ids: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        reader = self._readers[request.encoder]
        found = self._fields[request.key]
        rows = [reader.value(id_, request.field) if reader.status(id_) == "ok" else None for id_ in ids]
        dtype = TORCH_DTYPES[found.dtype]
        if not (found.is_ragged or len(found.shape) >= 2):
            stored = self._buffers.take(request.key, (len(ids), *found.shape), dtype)
            out = stored.numpy()
            for i, row in enumerate(rows):
                out[i] = 0 if row is None else row
            return self._to_float(request.key, stored), torch.tensor([row is not None for row in rows])

        counts = [0 if row is None else self._count(request, id_, row) for id_, row in zip(ids, rows, strict=True)]
        element = found.shape if found.is_ragged else found.shape[1:]
        longest = max([1, *counts])  # never 0: a batch of empty texts is legal, an axis of length 0 is a trap
        stored = self._buffers.take(request.key, (len(ids), longest, *element), dtype)
        out = stored.numpy()
        for i, (row, n) in enumerate(zip(rows, counts, strict=True)):
            if row is not None:
                out[i, :n] = row[:n]
            out[i, n:] = 0
        mask = torch.arange(longest)[None, :] < torch.tensor(counts)[:, None]
        return self._to_float(request.key, stored), mask

    def _to_float(self, key: str, stored: torch.Tensor) -> torch.Tensor:
        # Rows are gathered as they are stored and converted together: five times faster than row by row in numpy.
        if stored.dtype == torch.float32:
            return stored
        return self._buffers.take(key, tuple(stored.shape), torch.float32).copy_(stored)

    def _count(self, request: FieldRequest, id_: str, row: np.ndarray[Any, Any]) -> int:
        n = len(row)
        if self._has_count[request.key]:
            n = min(n, int(self._readers[request.encoder].value(id_, request.count)))
        return n if request.limit is None else min(n, request.limit)


def find_field(readers: Mapping[str, FeatureReader], request: FieldRequest) -> Field:
    """The declaration of a requested field.

    Raises
    ------
    CacheError
        The feature set has no such field.
    """
    reader = readers[request.encoder]
    for declared in reader.fields:
        if declared.name == request.field:
            return declared
    names = ", ".join(declared.name for declared in reader.fields)
    raise CacheError(
        f"feature set {request.encoder}: expected a field {request.field!r}, found {names or 'none'}. "
        f"Add it to the profile and run: sentifuse extract --encoders {request.encoder}"
    )


def width_of(found: Field) -> int:
    """The last dimension of a field: the width of its vectors, 1 for a number."""
    return found.shape[-1] if found.shape else 1


def shuffled_batches(
    lengths: np.ndarray[Any, np.dtype[np.int64]],
    batch_size: int,
    rng: np.random.Generator,
    *,
    window: int = 8,
) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """Every row once, in shuffled batches of similar length.

    Rows are shuffled, sorted by length inside windows of `window` batches, cut, and the batches shuffled: a batch costs
    what its longest row costs. A rest of one row joins another batch.
    """
    order = rng.permutation(len(lengths)).astype(np.int64)
    span = batch_size * window
    batches = []
    for start in range(0, len(order), span):
        part = order[start : start + span]
        if window > 1:
            part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return [batches[i] for i in rng.permutation(len(batches))]


def _has_count(reader: FeatureReader, request: FieldRequest) -> bool:
    return any(f.name == request.count and f.shape == () and not f.is_ragged for f in reader.fields)
