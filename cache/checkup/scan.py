"""A shard file read once, from its first byte to its last: its SHA-256, and what its values say row by row.

Memory does not grow with the file, and a store larger than memory comes from the disk once. Judges nothing.
"""

# Shapes: N rows of the shard, V rows with values (V ≤ N), T elements of a ragged field in all V rows.

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import crc32c
import numpy as np

from sentifuse.cache.checksum import row_crc32c
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.shard import FieldPlace, ShardLayout
from sentifuse.cache.spec import Array

__all__ = ["Scan", "scan"]

_PIECE_BYTES = 4 << 20  # a multiple of the page on which each dataset starts, so no element lies in two pieces

# The bits of a float but its sign, read as a whole number, rise with its size; infinity and NaN are the highest. So one
# maximum tells whether a row is all zeros and whether it is finite, some ten times faster than numpy's float16.
_BITS: Mapping[np.dtype[Any], tuple[np.dtype[Any], int, int]] = {
    np.dtype("<f2"): (np.dtype("<u2"), 0x7FFF, 0x7C00),
    np.dtype("<f4"): (np.dtype("<u4"), 0x7FFFFFFF, 0x7F800000),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scan:
    """What was seen of a file; the last three of a file whose layout is known.

    Attributes
    ----------
    row_crc32c : (N,) uint32 or None
        The checksum of each row as it lies there; None where the fields do not lie in their order.
    is_infinite : mapping of field name to (N,) bool
        Rows with NaN or infinite values.
    is_zero : (N,) bool
        Rows with values of floating point, all of which are zero.
    """

    sha256: str
    row_crc32c: Array | None
    is_infinite: Mapping[str, Array]
    is_zero: Array


def scan(
    path: Path,
    feature_set: FeatureSet,
    layout: ShardLayout | None,
    progress: Callable[[int], None] = lambda count: None,
) -> Scan:
    """Read a file. `progress` is called with the number of bytes newly read. Raises OSError."""
    claims = zip(layout.ids, layout.digests, layout.statuses, strict=True) if layout else ()
    crcs = [row_crc32c(row_id, digest, status, ()) for row_id, digest, status in claims]
    holders = np.flatnonzero(layout.value_index >= 0) if layout else np.zeros(0, np.int64)  # (V,) rows with values
    sums = [crcs[row] for row in holders.tolist()]
    places = {field.name: layout.fields[field.name] for field in feature_set.fields} if layout else {}
    runs = {name: _Run(place, sums) for name, place in places.items()}
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        at_bytes = 0
        for piece in _pieces(file):
            digest.update(piece)
            for run in runs.values():
                run.take(at_bytes, piece)
            at_bytes += len(piece)
            progress(len(piece))
    for row, crc in zip(holders.tolist(), sums, strict=True):
        crcs[row] = crc
    starts = [run.start_bytes for run in runs.values() if run.start_bytes < run.stop_bytes]
    floats = {name: run for name, run in runs.items() if run.is_float}
    is_zero = (
        np.logical_or.reduce([run.has_elements for run in floats.values()]) if floats else np.zeros(len(sums), "?")
    )
    for run in floats.values():
        is_zero = is_zero & (run.peaks == 0)
    return Scan(
        sha256=digest.hexdigest(),
        row_crc32c=np.array(crcs, dtype="<u4") if layout and starts == sorted(starts) else None,
        is_infinite={name: _spread(run.is_infinite, holders, len(crcs)) for name, run in floats.items()},
        is_zero=_spread(is_zero, holders, len(crcs)),
    )


class _Run:
    """The values of one field, as the pieces of the file go by; `sums` are the rows' checksums so far."""

    def __init__(self, place: FieldPlace, sums: list[int]) -> None:
        row_shape = place.values.shape[1:]
        element_bytes = place.values.dtype.itemsize * int(np.prod(row_shape, dtype=np.int64))
        offsets = place.offsets if place.offsets is not None else np.arange(len(sums) + 1)
        self.start_bytes = place.values.offset_bytes
        self.stop_bytes = self.start_bytes + place.values.size_bytes
        self.has_elements: Array = np.diff(offsets) > 0
        self.is_float = place.values.dtype in _BITS
        self._bounds = offsets * element_bytes  # (V + 1,) of rows, in bytes from the start
        self._sums = sums
        self._kind, self._mask, self._infinite = _BITS.get(place.values.dtype, (np.dtype("u1"), 0, 1))
        self.peaks: Array = np.zeros(len(sums), dtype=self._kind)

    @property
    def is_infinite(self) -> Array:
        return self.peaks >= self._infinite

    def take(self, at_bytes: int, piece: memoryview) -> None:
        """Look at what of the values lies in a piece that starts at this place of the file."""
        start, stop = max(self.start_bytes, at_bytes), min(self.stop_bytes, at_bytes + len(piece))
        if start >= stop:
            return
        part = piece[start - at_bytes : stop - at_bytes]
        first, last = start - self.start_bytes, stop - self.start_bytes
        row = int(np.searchsorted(self._bounds, first, side="right")) - 1
        end = int(np.searchsorted(self._bounds, last, side="left"))
        cuts = np.clip(self._bounds[row : end + 1], first, last) - first
        for slot, (begin, until) in enumerate(pairwise(cuts.tolist()), start=row):
            if begin < until:
                self._sums[slot] = crc32c.crc32c(part[begin:until], self._sums[slot])
        if self.is_float:
            values = np.frombuffer(part, self._kind, count=len(part) // self._kind.itemsize) & self._kind.type(
                self._mask
            )
            slots = np.flatnonzero(np.diff(cuts) > 0)
            found = np.maximum.reduceat(values, cuts[slots] // self._kind.itemsize)
            self.peaks[row + slots] = np.maximum(self.peaks[row + slots], found)


def _pieces(file: BinaryIO) -> Iterator[memoryview]:
    """The file in order, in pieces that are full but for the last; each is overwritten by the next."""
    buffer = memoryview(bytearray(_PIECE_BYTES))
    is_more = True
    while is_more:
        count = 0
        while count < _PIECE_BYTES and is_more:
            read = file.readinto(buffer[count:])  # type: ignore[attr-defined]  # typeshed: raw files have it
            is_more = bool(read)
            count += read or 0
        if count:
            yield buffer[:count]


def _spread(of_values: Array, holders: Array, count: int) -> Array:
    """(V,) bool of the rows with values, as (N,) of all rows."""
    spread = np.zeros(count, dtype=np.bool_)
    spread[holders] = of_values
    return spread
