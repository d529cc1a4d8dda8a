"""Three ways a field's rows come to where the head works: converted on the way, through pinned memory, or kept there.

All three give the same numbers. Knows columns and devices; knows nothing of batches, masks or labels.
"""

# Shapes: N rows of a source, B of a batch, T the longest of the batch, W = numbers in one element of the field.

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from sentifuse import ResourceError
from sentifuse.cache.memory import free_memory_bytes
from sentifuse.fuse.features.gather import Column, plan_copy

CPU = torch.device("cpu")
RESIDENT = ("device", "ram")

_BLOCK_ROWS = 256  # rows moved at a time when a cache is made resident

Rows = npt.NDArray[np.int64]


Finish = Callable[[], torch.Tensor]


class Delivery(Protocol):
    """How the values of a batch are made: `begin`, `values` of each column, all that these return, what `begin` did.

    What `values` returns gives the tensor; it may be called in another thread, where it does little else than copy.
    Views are made before, by the caller: a hundred small calls of two threads at once wait for Python more than they
    work.
    """

    device: torch.device  # where the values are

    def begin(self, *, copy: bool) -> Callable[[], None]:
        """A new batch; `copy`: in memory of its own. What it returns is called when all tensors were made.

        By then the next batch may have begun: what is to be known of this one is kept here.
        """

    def values(self, column: Column, rows: Rows, longest: int) -> Finish:
        """(B, T, *element) of a sequence, (B, *element) of a vector."""


class Buffers:
    """Memory for batches by name: two sets in turn, so that a batch outlives the making of the next one."""

    def __init__(self, *, keep: bool, is_pinned: bool = False) -> None:
        self.keep = keep
        self.is_pinned = is_pinned
        self.place = 0  # of the set in use
        self._is_fresh = not keep
        self._sets: tuple[dict[Any, torch.Tensor], ...] = ({}, {})

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_sets": ({}, {})}

    def turn(self, *, copy: bool) -> None:
        """Go on to the other set; `copy`: the next tensors are in neither."""
        self._is_fresh = copy or not self.keep
        if not self._is_fresh:
            self.place = 1 - self.place

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype, *, room: int = 0) -> torch.Tensor:
        """A tensor with any content; `room`: numbers that later batches may need, asked for at once."""
        n = math.prod(shape)
        if self._is_fresh:
            return torch.empty(shape, dtype=dtype)
        kept = self._sets[self.place].get((name, dtype))
        if kept is None or kept.numel() < n:
            kept = _memory(max(1, n, room), dtype, is_pinned=self.is_pinned)
            self._sets[self.place][name, dtype] = kept
        return kept[:n].view(shape)


class Converted:
    """On the CPU: rows are converted while they are copied out of the files."""

    device = CPU

    def __init__(self, dtype: torch.dtype, *, keep: bool) -> None:
        self._dtype = dtype
        self._buffers = Buffers(keep=keep)

    def begin(self, *, copy: bool) -> Callable[[], None]:
        self._buffers.turn(copy=copy)
        return _nothing

    def values(self, column: Column, rows: Rows, longest: int) -> Finish:
        return _gathering(column, rows, longest, self._dtype, self._buffers)


class Staged:
    """To a device: rows as they are stored go through pinned memory (half the bytes) and are converted there.

    What is delivered lies in memory of its own; on the CPU, where the tests run, what needs no conversion does not.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.device = device
        self._dtype = dtype
        self._buffers = Buffers(keep=True, is_pinned=device.type == "cuda")
        self._events: list[torch.cuda.Event | None] = [None, None]  # when the device had read a set of buffers

    def begin(self, *, copy: bool) -> Callable[[], None]:
        self._buffers.turn(copy=copy and self.device.type == "cpu")
        place = self._buffers.place
        event = self._events[place]
        if event is not None:
            event.synchronize()
        return partial(self._sent, place)

    def values(self, column: Column, rows: Rows, longest: int) -> Finish:
        stored = _gathering(column, rows, longest, column.dtype, self._buffers)
        return lambda: stored().to(self.device, non_blocking=True).to(self._dtype)

    def _sent(self, place: int) -> None:
        """The transfers out of a set of buffers are under way: note when they will be through."""
        if self.device.type == "cuda":
            event = self._events[place] = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch has no annotation here
            event.record(torch.cuda.current_stream(self.device))


class Resident:
    """In memory for good: what counts of each row is moved to the device (or into RAM) once, then selected by index.

    Raises
    ------
    ResourceError
        It does not fit.
    """

    def __init__(
        self, columns: Sequence[Column], dtype: torch.dtype, device: torch.device = CPU, *, keep: bool
    ) -> None:
        self.device = device
        self._dtype = dtype
        self._buffers = Buffers(keep=keep)
        _refuse_too_large(columns, device)
        self._kept = {column.request.key: _resident(column, device) for column in columns}

    def begin(self, *, copy: bool) -> Callable[[], None]:
        self._buffers.turn(copy=copy)
        return _nothing

    def values(self, column: Column, rows: Rows, longest: int) -> Finish:
        flat, starts = self._kept[column.request.key]
        place = np.arange(longest)[None]  # (1, T)
        index = np.where(place < column.counts[rows][:, None], starts[rows][:, None] + place, len(flat) - 1)
        shape = column.shape(len(rows), longest)
        chosen = torch.from_numpy(index.reshape(-1)).to(self.device)
        if self.device.type != "cpu":
            return lambda: flat.index_select(0, chosen).to(self._dtype).view(shape)
        key, size = column.request.key, (len(chosen), column.width)
        stored = self._buffers.take(f"stored {key}", size, flat.dtype)
        if flat.dtype == self._dtype:
            return lambda: torch.index_select(flat, 0, chosen, out=stored).view(shape)
        converted = self._buffers.take(key, size, self._dtype)
        return lambda: converted.copy_(torch.index_select(flat, 0, chosen, out=stored)).view(shape)


def _memory(n: int, dtype: torch.dtype, *, is_pinned: bool) -> torch.Tensor:
    if is_pinned:
        return torch.empty(n, dtype=dtype, pin_memory=True)
    # numpy asks for huge pages, torch does not: a twentieth less time per batch.
    return torch.from_numpy(np.empty(n * dtype.itemsize, dtype=np.uint8)).view(dtype)


def _gathering(column: Column, rows: Rows, longest: int, dtype: torch.dtype, buffers: Buffers) -> Finish:
    size = (len(rows), longest * column.width)
    room = len(rows) * column.longest * column.width
    out = buffers.take(column.request.key, size, dtype, room=room)
    values = out.view(column.shape(len(rows), longest))
    lengths = (column.counts[rows] * column.width).tolist()
    # What has to be read first is read where it is copied; views of mapped files are made here.
    calls = plan_copy(out, column.sources(rows), lengths) if column.is_mapped else None

    def finish() -> torch.Tensor:
        for call in plan_copy(out, column.sources(rows), lengths) if calls is None else calls:
            call()
        return values

    return finish


def _resident(column: Column, device: torch.device) -> tuple[torch.Tensor, Rows]:
    """The elements that count of all rows, (n + 1, W) of which the last is zero, and (N,) where each row begins."""
    order = column.in_store_order()
    ends = np.cumsum(column.counts[order])
    starts = np.empty_like(ends)
    starts[order] = ends - column.counts[order]
    n = int(ends[-1]) if len(ends) else 0
    flat = torch.empty((n + 1, column.width), dtype=column.dtype, device=device)
    flat[n] = 0
    for first in range(0, len(order), _BLOCK_ROWS):
        block = order[first : first + _BLOCK_ROWS]
        sources = [source for source in column.sources(block) if len(source)]
        if sources:
            begin = int(starts[block[0]])
            end = begin + int(column.counts[block].sum())
            flat[begin:end].view(-1).copy_(torch.cat(sources))
    return flat, starts


def _nothing() -> None:
    """Nothing is to be noted at the end of a batch."""


def _refuse_too_large(columns: Sequence[Column], device: torch.device) -> None:
    needed = sum(int(column.counts.sum()) * column.width * column.dtype.itemsize for column in columns)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory_bytes()
    if free is not None and needed > free:
        raise ResourceError(
            f"resident features: {needed / 1e9:.1f} GB are needed on {device}, found {free / 1e9:.1f} GB free. "
            "Leave the features on the disk (without --resident), or ask for fewer regions"
        )
