"""One process's hold on the shards of a reader: maps of the files, or HDF5 handles. Knows places, not ids or rows.

Both kinds give the same answers. A map costs no copy; a handle survives an input error of a network file system.
"""

import errno
import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import EllipsisType
from typing import TypeVar

import h5py
import numpy as np
import numpy.typing as npt

from sentifuse.cache.errors import CorruptShard, Unreadable, reading
from sentifuse.cache.record import ShardRecord
from sentifuse.cache.shard import DatasetPlace, FieldPlace
from sentifuse.cache.spec import Array

__all__ = ["HeldFiles", "MappedFiles", "ShardFiles", "merge_ranges"]

_GAP_BYTES = 128 << 10  # ranges closer than this are read ahead as one: the disk would read on anyway

# Shapes: V rows of a shard with values, T elements of a ragged field in all V rows.

Indices = npt.NDArray[np.int64]
Places = Sequence[Mapping[str, FieldPlace]]
Index = int | slice | EllipsisType | tuple[int | slice | EllipsisType, ...]
Opened = TypeVar("Opened")


class ShardFiles:
    """What both kinds share. Safe across a fork; threads may share it."""

    def __init__(self, directory: Path, records: Sequence[ShardRecord], places: Places) -> None:
        self.directory = directory
        self.records = records
        self.places = places

    def whole(self, field: str, shard_index: int) -> Array:
        """All values of a field in a shard, read-only: (V, *shape), or (T, *shape) of a ragged one."""
        raise NotImplementedError

    def piece(self, field: str, shard_index: int, index: Index) -> Array:
        """`whole(…)[index]`; no more than that is read."""
        raise NotImplementedError

    def read_ahead(self, shard_index: int, starts: Indices, stops: Indices) -> None:
        """Ask the system for byte ranges of a shard; returns at once, promises nothing."""
        raise NotImplementedError

    def _open(self, shard_index: int) -> tuple[Path, int]:
        """The shard's path and an open descriptor; its size is compared once more.

        A page past the end of a shortened file kills the process that touches it.
        """
        record = self.records[shard_index]
        path = self.directory / record.file
        with _opening(path):
            descriptor = _with_room_for_files(lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        size_bytes = os.fstat(descriptor).st_size
        if size_bytes != record.size_bytes:
            os.close(descriptor)
            raise CorruptShard(
                f"{path}: {size_bytes} bytes, expected {record.size_bytes}: changed since this reader was opened. "
                "Open the reader (run the command) again: it says what to do."
            )
        return path, descriptor


class MappedFiles(ShardFiles):
    """Shards mapped into memory when first touched. A map lives as long as an array made from it."""

    def __init__(self, directory: Path, records: Sequence[ShardRecord], places: Places) -> None:
        super().__init__(directory, records, places)
        self._maps: dict[int, mmap.mmap] = {}
        self._arrays: dict[tuple[str, int], Array] = {}

    def whole(self, field: str, shard_index: int) -> Array:
        array = self._arrays.get((field, shard_index))
        if array is None:
            place = self.places[shard_index][field].values
            array = self._arrays[field, shard_index] = _view(self._map(shard_index), place)
        return array

    def piece(self, field: str, shard_index: int, index: Index) -> Array:
        array: Array = self.whole(field, shard_index)[index]
        return array

    def read_ahead(self, shard_index: int, starts: Indices, stops: Indices) -> None:
        content = self._map(shard_index)
        if not hasattr(content, "madvise"):
            return
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            first = start - start % mmap.PAGESIZE
            content.madvise(mmap.MADV_WILLNEED, first, stop - first)

    def _map(self, shard_index: int) -> mmap.mmap:
        content = self._maps.get(shard_index)
        if content is None:
            path, descriptor = self._open(shard_index)
            try:
                with _opening(path):  # the map keeps a descriptor of its own
                    content = _with_room_for_files(lambda: mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
            finally:
                os.close(descriptor)
            self._maps[shard_index] = content
        return content


class HeldFiles(ShardFiles):
    """Shards opened through HDF5 when first touched; a process never uses a handle that another one opened."""

    def __init__(self, directory: Path, records: Sequence[ShardRecord], places: Places) -> None:
        super().__init__(directory, records, places)
        self._files: dict[int, h5py.File] = {}
        self._datasets: dict[tuple[str, int], h5py.Dataset] = {}
        self._process = os.getpid()

    def whole(self, field: str, shard_index: int) -> Array:
        return self.piece(field, shard_index, ...)

    def piece(self, field: str, shard_index: int, index: Index) -> Array:
        array = np.asarray(self._dataset(field, shard_index)[index])
        array.flags.writeable = False
        return array

    def read_ahead(self, shard_index: int, starts: Indices, stops: Indices) -> None:
        if not hasattr(os, "posix_fadvise"):
            return
        _, descriptor = self._open(shard_index)
        try:
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
                os.posix_fadvise(descriptor, start, stop - start, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)

    def _dataset(self, field: str, shard_index: int) -> h5py.Dataset:
        if self._process != os.getpid():  # HDF5 handles do not survive a fork
            self._files, self._datasets, self._process = {}, {}, os.getpid()
        dataset = self._datasets.get((field, shard_index))
        if dataset is None:
            is_ragged = self.places[shard_index][field].offsets is not None
            file = self._file(shard_index)
            dataset = self._datasets[field, shard_index] = file[f"fields/{field}" + ("/values" if is_ragged else "")]
        return dataset

    def _file(self, shard_index: int) -> h5py.File:
        file = self._files.get(shard_index)
        if file is None:
            path, descriptor = self._open(shard_index)
            os.close(descriptor)
            with _opening(path):
                file = _with_room_for_files(lambda: h5py.File(path, "r", locking=False))
            self._files[shard_index] = file
        return file


def merge_ranges(starts: Indices, stops: Indices) -> tuple[Indices, Indices]:
    """Byte ranges in order, near ones joined and empty ones left out.

    >>> merge_ranges(np.array([500_000, 0, 100]), np.array([600_000, 100, 300]))
    (array([     0, 500000]), array([   300, 600000]))
    """
    order = np.argsort(starts, kind="stable")
    order = order[stops[order] > starts[order]]
    if not len(order):
        return starts[:0], stops[:0]
    starts, ends = starts[order], np.maximum.accumulate(stops[order])
    is_first = np.concatenate([[True], starts[1:] > ends[:-1] + _GAP_BYTES])
    return starts[is_first], ends[np.concatenate([is_first[1:], [True]])]


def _view(content: mmap.mmap, place: DatasetPlace) -> Array:
    if 0 in place.shape:
        return np.empty(place.shape, dtype=place.dtype)  # nothing to map, and HDF5 gave it no place
    return np.ndarray(place.shape, dtype=place.dtype, buffer=content, offset=place.offset_bytes)


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    with reading(path):
        try:
            yield
        except FileNotFoundError as error:
            raise Unreadable(
                f"{path}: gone since this reader was opened; compact or repair may have replaced it. "
                "Open the reader (run the command) again."
            ) from error
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            raise Unreadable(
                f"{path}: too many open files; each shard in use holds one. Allow more (ulimit -n), "
                "or make the shards fewer with compact."
            ) from error


def _with_room_for_files(open_one: Callable[[], Opened]) -> Opened:
    """What `open_one` returns; with more files allowed, if the process had used up its number of them."""
    try:
        return open_one()
    except OSError as error:
        if error.errno != errno.EMFILE or not _allow_more_files():
            raise
    return open_one()


def _allow_more_files() -> bool:
    try:
        import resource
    except ImportError:  # not on Windows
        return False
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return True
