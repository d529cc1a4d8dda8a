"""Rows of one field, copied from where they are stored into a batch's tensor and converted on the way.

Knows where a reader keeps what; knows nothing of batches, labels or devices. The price of a row is a few calls, so
everything that can be known beforehand is kept as numbers per row, and views are made only of the rows of a batch.
"""

# Shapes: N rows of a source, B of a batch, T the longest of the batch, W = numbers in one element of the field.

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sentifuse.cache.reader import FeatureReader
from sentifuse.fuse.features.requests import FieldRequest, element_of, find_field, is_sequence

TORCH_DTYPES = {
    "float16": torch.float16,
    "float32": torch.float32,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
}

# One call for all rows, many times cheaper than a call for each. Both names are private to torch, hence optional.
_copy_all: Callable[[list[torch.Tensor], list[torch.Tensor]], None] | None = getattr(torch, "_foreach_copy_", None)
_zero_all: Callable[[list[torch.Tensor]], None] | None = getattr(torch, "_foreach_zero_", None)

Numbers = npt.NDArray[np.int64]
Call = Callable[[], object]


class Column:
    """A requested field of the rows of a source: how many elements of each count, and where they lie.

    A vector is a row of one element; a row without a value has none. Pickles without its views of the files.
    """

    def __init__(self, reader: FeatureReader, request: FieldRequest, ids: Sequence[str]) -> None:
        self.request = request
        self.field = find_field({request.encoder: reader}, request)
        self.dtype = TORCH_DTYPES[self.field.dtype]
        self.is_sequence = is_sequence(self.field)
        self.element = element_of(self.field)
        self.width = math.prod(self.element)  # W
        # Elements of a row of a dense field, and how many of them may count.
        self._per_row = self.field.shape[0] if self.is_sequence and not self.field.is_ragged else 1
        limit = request.limit if self.is_sequence else None
        self._most = self._per_row if limit is None else min(self._per_row, limit)
        self._nothing = torch.empty(0, dtype=self.dtype)
        self._reader = reader
        self._shards, self._positions = reader.locate(ids)  # (N,) each; positions are -1 without a value
        self.counts, self._starts = self._measure()
        self.longest = max(1, int(self.counts.max(initial=0)))
        self._forget()

    def _forget(self) -> None:
        self._flat: dict[int, torch.Tensor] = {}  # shard -> all its numbers
        self._whole: dict[int, torch.Tensor] = {}  # of a dense field: shard -> (V, numbers of a row that may count)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_flat", "_whole")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    @property
    def limits(self) -> dict[str, int | None]:
        """What `FeatureReader.will_need` asks for."""
        return {self.request.field: self.request.limit if self.is_sequence else None}

    @property
    def is_mapped(self) -> bool:
        """Whether `sources` are views: they cost no reading."""
        return self._reader.reader == "mmap"

    def shape(self, batch_size: int, longest: int) -> tuple[int, ...]:
        """(B, T, *element) of a sequence, (B, *element) of a vector."""
        return (batch_size, longest, *self.element) if self.is_sequence else (batch_size, *self.element)

    def in_store_order(self) -> Numbers:
        """All rows as they follow each other on the disk."""
        return np.lexsort((self._positions, self._shards))

    def sources(self, rows: Numbers) -> list[torch.Tensor]:
        """The stored numbers of each row that count, (count · W,) of the stored dtype; read them only."""
        counts, shards = self.counts[rows].tolist(), self._shards[rows].tolist()
        if self.is_mapped:
            flat, width, nothing = self._flat, self.width, self._nothing
            for shard in set(shards).difference(flat):
                self._view(shard)
            if not self.field.is_ragged and counts.count(self._most) == len(counts):
                whole = self._whole  # a row of a matrix is a cheaper view than a slice of a line
                return [whole[shard][at] for shard, at in zip(shards, self._positions[rows].tolist(), strict=True)]
            places = zip(shards, (self._starts[rows] * width).tolist(), counts, strict=True)
            # Slicing is faster than narrow(), which torch composes of other calls.
            return [flat[shard][start : start + n * width] if n else nothing for shard, start, n in places]
        pieces = zip(shards, self._positions[rows].tolist(), counts, strict=True)
        return [self._read(shard, position, n) if n else self._nothing for shard, position, n in pieces]

    def _view(self, shard_index: int) -> None:
        flat = _as_tensor(self._reader.mapped(self.request.field, shard_index)[0].reshape(-1))
        self._flat[shard_index] = flat
        if not self.field.is_ragged:
            self._whole[shard_index] = flat.view(-1, self._per_row * self.width)[:, : self._most * self.width]

    def _read(self, shard_index: int, position: int, n: int) -> torch.Tensor:
        array = self._reader.piece(self.request.field, shard_index, position, n if self.is_sequence else None)
        return _as_tensor(array.reshape(-1))

    def _measure(self) -> tuple[Numbers, Numbers]:
        """(N,) elements that count and (N,) the number of a row's first element among those of its shard."""
        counts, starts = np.zeros_like(self._positions), np.zeros_like(self._positions)
        order = self.in_store_order()
        order = order[self._positions[order] >= 0]
        shards, firsts = np.unique(self._shards[order], return_index=True)
        for shard_index, chosen in zip(shards.tolist(), np.split(order, firsts)[1:], strict=True):
            at = self._positions[chosen]
            offsets = self._reader.offsets(self.request.field, shard_index)
            if offsets is None:
                starts[chosen] = at * self._per_row
                counts[chosen] = np.minimum(self._per_row, self._real(shard_index, at))
            else:
                starts[chosen], counts[chosen] = offsets[at], offsets[at + 1] - offsets[at]
        if self.is_sequence and self.request.limit is not None:
            counts = np.minimum(counts, self.request.limit)
        return counts, starts

    def _real(self, shard_index: int, at: Numbers) -> Numbers | int:
        """What the field of counts says, if there is one for this field."""
        name = self.request.count
        has_count = any(f.name == name and f.shape == () and not f.is_ragged for f in self._reader.fields)
        if not (self.is_sequence and has_count):
            return self._per_row
        values, _ = self._reader.mapped(name, shard_index)
        return np.maximum(values[at].astype(np.int64), 0)


def plan_copy(out: torch.Tensor, sources: list[torch.Tensor], lengths: list[int]) -> list[Call]:
    """The few calls that fill `out` (B, T · W) with B rows of numbers, each converted and followed by zeros.

    All views are made now. The calls do nothing but copy, so a thread that makes them leaves Python to others.

    Parameters
    ----------
    out
        Contiguous, of the stored dtype, float32 or bfloat16; its content before does not matter.
    sources
        One (n,) for each row, n ≤ T · W.
    lengths
        Their n.
    """
    if not lengths:
        return []
    room = out.shape[1]
    is_full = min(lengths) == room
    if out.dtype == sources[0].dtype:
        if not is_full:
            zeros = torch.zeros(room, dtype=out.dtype)
            sources = [piece for source, n in zip(sources, lengths, strict=True) for piece in (source, zeros[n:])]
        return [partial(torch.cat, sources, out=out.view(-1))]
    if out.dtype == torch.bfloat16 and sources[0].dtype == torch.float16:
        # torch has no fast path from one half to the other; by way of float32, which is exact, it takes a third.
        exact = torch.empty(out.shape)
        return [*plan_copy(exact, sources, lengths), partial(out.copy_, exact)]
    if is_full:
        return [partial(_copy, list(out.unbind()), sources)]
    parts = out.view(-1).split_with_sizes([size for n in lengths for size in (n, room - n)])
    tails = [part for part, n in zip(parts[1::2], lengths, strict=True) if n < room]
    return [partial(_copy, list(parts[::2]), sources), partial(_zero, tails)]


def _copy(targets: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
    if _copy_all is not None:
        _copy_all(targets, sources)
        return
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


def _zero(targets: list[torch.Tensor]) -> None:
    if _zero_all is not None:
        _zero_all(targets)
        return
    for target in targets:
        target.zero_()


class _Writeable:
    """A read-only array told to be writeable, for torch, which warns of any other. Nobody writes."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array  # keeps the memory alive
        self.__array_interface__ = array.__array_interface__ | {"data": (array.ctypes.data, False)}


def _as_tensor(array: npt.NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.asarray(_Writeable(array)))
