"""Reads a feature set by pair id, mapped from the disk without a copy. Never loads the store, writes nothing.

A reader is a snapshot: it sees the shards of the index at the moment it was opened, whatever a writer adds meanwhile.
It is a path and some numbers, so it pickles and forks; files are mapped in each process when first needed.
"""

# Shapes: N rows of a shard, V of them with values, T elements of a ragged field in all V rows.

import mmap
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from sentifuse.cache.errors import CacheError, FingerprintMismatch, NotStored, reading
from sentifuse.cache.featureset import FeatureSet, open_feature_set
from sentifuse.cache.journal import ShardRecord, read_index
from sentifuse.cache.shard import DatasetPlace, FieldPlace, corrupt, read_layout, row_crc32c
from sentifuse.cache.spec import Array, Field

__all__ = ["READERS", "FeatureReader"]

READERS = ("mmap", "h5py")


class _Dataset:
    """An HDF5 dataset that answers to an index as a read-only array does."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset

    def __getitem__(self, index: Any) -> Array:
        array = np.asarray(self._dataset[index])
        array.flags.writeable = False
        return array


Views = dict[str, tuple[Array | _Dataset, Array | None]]  # field -> values, offsets


class FeatureReader:
    """The rows of a feature set that count, by id.

    Parameters
    ----------
    feature_set : FeatureSet or path of its folder
    reader : {"mmap", "h5py"}
        "mmap" maps the shards: reading costs no copy, memory is the page cache shared by all processes. On network
        file systems an input error of a mapped page kills the process (SIGBUS); "h5py" reads through HDF5 instead,
        slower, with the same answers.

    Raises
    ------
    NoFeatures, CorruptIndex, CorruptShard, FutureVersion, FingerprintMismatch
        Every shard is checked against index and recipe here; bytes of values are proved by `check`.
    """

    def __init__(self, feature_set: FeatureSet | Path | str, *, reader: str = "mmap") -> None:
        if reader not in READERS:
            raise CacheError(f"reader {reader!r}: expected one of {', '.join(READERS)}")
        if not isinstance(feature_set, FeatureSet):
            feature_set = open_feature_set(Path(feature_set))
        self.feature_set = feature_set
        self.reader = reader
        index = read_index(feature_set.index)
        if index.fingerprint != feature_set.fingerprint:
            raise FingerprintMismatch(
                f"{feature_set.index}: fingerprint {str(index.fingerprint)[:12]}, recipe.json says "
                f"{feature_set.fingerprint[:12]}. Files of two feature sets were mixed: extract this one again."
            )
        self.generation = index.generation
        self.shards: tuple[ShardRecord, ...] = index.shards
        self._places: list[Mapping[str, FieldPlace]] = []
        self._crcs: list[Array] = []
        self._read_shards()
        self._forget()

    def _read_shards(self) -> None:
        digests: list[str] = []  # of every stored row, as the next three
        statuses: list[str] = []
        value_indices: list[npt.NDArray[np.int64]] = []
        shard_indices: list[npt.NDArray[np.int64]] = []
        rows: dict[str, int] = {}  # id -> stored row that counts; a later shard wins, the first place in order stays
        for shard_index, record in enumerate(self.shards):
            layout = read_layout(self.feature_set, record)
            rows.update(zip(layout.ids, range(len(digests), len(digests) + record.rows), strict=True))
            digests += layout.digests
            statuses += layout.statuses
            value_indices.append(layout.value_index)
            shard_indices.append(np.full(record.rows, shard_index, dtype=np.int64))
            self._places.append(layout.fields)
            self._crcs.append(layout.crc32c[layout.value_index >= 0])
        kept = np.fromiter(rows.values(), dtype=np.int64, count=len(rows))
        self.ids: tuple[str, ...] = tuple(rows)
        self._row = dict(zip(self.ids, range(len(rows)), strict=True))
        self._digests = [digests[row] for row in rows.values()]
        self._statuses = [statuses[row] for row in rows.values()]
        self._shard_index = np.concatenate([*shard_indices, np.empty(0, np.int64)])[kept]
        self._value_index = np.concatenate([*value_indices, np.empty(0, np.int64)])[kept]
        # Python numbers: indexing a list is several times faster than indexing an array one by one.
        self._place_of = list(zip(self._shard_index.tolist(), self._value_index.tolist(), strict=True))

    @property
    def encoder(self) -> str:
        return self.feature_set.encoder

    @property
    def fingerprint(self) -> str:
        return self.feature_set.fingerprint

    @property
    def recipe(self) -> dict[str, Any]:
        return self.feature_set.recipe

    @property
    def fields(self) -> tuple[Field, ...]:
        return self.feature_set.fields

    def field(self, name: str) -> Field:
        """The field of a name. Raises NotStored with the names there are."""
        for field in self.fields:
            if field.name == name:
                return field
        names = ", ".join(field.name for field in self.fields)
        raise NotStored(f"{self.feature_set.directory}: no field {name!r}; there are: {names}")

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __contains__(self, row_id: object) -> bool:
        return row_id in self._row

    def status(self, row_id: str) -> str:
        """ "ok", "missing", "unreadable: reason" or "failed: reason"."""
        return self._statuses[self._number(row_id)]

    def digest(self, row_id: str) -> str:
        """SHA-256 of the input the row was made from, "" when there was none."""
        return self._digests[self._number(row_id)]

    def statuses(self) -> dict[str, int]:
        """How many rows there are of each status, commonest first."""
        return dict(Counter(self._statuses).most_common())

    def has_value(self, row_id: str) -> bool:
        """Whether the row is there with values."""
        row = self._row.get(row_id)
        return row is not None and self._place_of[row][1] >= 0

    def value(self, row_id: str, field: str) -> Array:
        """One value: (*shape), or (n, *shape) of a ragged field; read-only, a view of the mapped file.

        Raises
        ------
        NotStored
            No such row or field, or a row without values.
        """
        shard_index, value_index = self._place(row_id)
        try:
            values, offsets = self._views(shard_index)[field]
        except KeyError:
            self.field(field)
            raise
        if offsets is None:
            return values[value_index, ...]  # the dots keep a value of shape () an array
        return values[offsets[value_index] : offsets[value_index + 1]]

    def locate(self, ids: Iterable[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Where rows lie: indices into `shards` and positions among that shard's values, -1 for rows without.

        Raises
        ------
        NotStored
            An id that is not in the set.
        """
        try:
            rows = np.fromiter(map(self._row.__getitem__, ids), dtype=np.int64)
        except KeyError as error:
            raise self._unknown(error.args[0]) from None
        return self._shard_index[rows], self._value_index[rows]

    def mapped(self, field: str, shard_index: int) -> tuple[Array, Array | None]:
        """All values of a field in one shard: values (V, *shape), or values (T, *shape) and offsets (V + 1,) int64.

        Read-only. With reader="h5py" the whole piece is read into memory at each call.
        """
        self.field(field)
        values, offsets = self._views(shard_index)[field]
        return (values[...] if isinstance(values, _Dataset) else values), offsets

    def check(self, row_id: str) -> None:
        """Prove a row's values by their CRC32C. Raises CorruptShard naming the row."""
        shard_index, value_index = self._place(row_id)
        found = row_crc32c([self.value(row_id, field.name) for field in self.fields])
        expected = int(self._crcs[shard_index][value_index])
        if found != expected:
            path = self.feature_set.directory / self.shards[shard_index].file
            raise corrupt(path, f"the values of row {row_id!r} have CRC32C {found:08x}, expected {expected:08x}")

    def _number(self, row_id: str) -> int:
        try:
            return self._row[row_id]
        except KeyError:
            raise self._unknown(row_id) from None

    def _place(self, row_id: str) -> tuple[int, int]:
        row = self._number(row_id)
        place = self._place_of[row]
        if place[1] < 0:
            raise NotStored(
                f"{self.feature_set.directory}: row {row_id!r} has no values, its status is {self._statuses[row]!r}"
            )
        return place

    def _unknown(self, row_id: object) -> NotStored:
        return NotStored(
            f"{self.feature_set.directory}: no row {row_id!r} among its {len(self)}. Was the pair added later? "
            "Run the same extract command again."
        )

    # What follows belongs to one process and is neither pickled nor shared.

    def _forget(self) -> None:
        self._open: list[Views | None] = [None] * len(self.shards)
        self._files: list[h5py.File] = []
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_open", "_files", "_process")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _views(self, shard_index: int) -> Views:
        views = self._open[shard_index]
        if views is None or (self._files and self._process != os.getpid()):
            views = self._map(shard_index) if self.reader == "mmap" else self._read(shard_index)
        return views

    def _path(self, shard_index: int) -> Path:
        """The shard's path, its size compared once more: touching a mapped page past the end kills the process."""
        record = self.shards[shard_index]
        path = self.feature_set.directory / record.file
        with reading(path):
            size_bytes = path.stat().st_size
        if size_bytes != record.size_bytes:
            raise corrupt(path, f"{size_bytes} bytes, expected {record.size_bytes}")
        return path

    def _map(self, shard_index: int) -> Views:
        path = self._path(shard_index)
        with reading(path), path.open("rb") as file:
            # The mapping lives as long as an array made from it.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        views: Views = {
            name: (_view(content, place.values), _read_only(place.offsets))
            for name, place in self._places[shard_index].items()
        }
        self._open[shard_index] = views
        return views

    def _read(self, shard_index: int) -> Views:
        if self._process != os.getpid():
            self._forget()  # HDF5 handles do not survive a fork
        path = self._path(shard_index)
        with reading(path):
            file = h5py.File(path, "r", locking=False)
        self._files.append(file)
        views: Views = {}
        for name, place in self._places[shard_index].items():
            dataset = file[f"fields/{name}" if place.offsets is None else f"fields/{name}/values"]
            views[name] = (_Dataset(dataset), _read_only(place.offsets))
        self._open[shard_index] = views
        return views


def _view(content: mmap.mmap, place: DatasetPlace) -> Array:
    if 0 in place.shape:
        return np.empty(place.shape, dtype=place.dtype)  # nothing to map, and HDF5 gave it no place
    return np.ndarray(place.shape, dtype=place.dtype, buffer=content, offset=place.offset_bytes)


def _read_only(array: Array | None) -> Array | None:
    if array is not None:
        array.flags.writeable = False
    return array
