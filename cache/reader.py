"""Reads a feature set by pair id, mapped from the disk without a copy. Never loads the store, writes nothing.

A reader is a snapshot: it sees the shards of the index at the moment it was opened, whatever a writer adds meanwhile.
It is a path and some numbers, so it pickles and forks; files are mapped in each process when first needed.
A row costs some 300 bytes of memory here, whatever its values weigh.
"""

# Shapes: N rows of the set, V of a shard's rows with values, T elements of a ragged field in all V rows.

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse import ConfigError
from sentifuse.cache.access import HeldFiles, MappedFiles, ShardFiles, merge_ranges
from sentifuse.cache.checksum import row_crc32c
from sentifuse.cache.errors import CorruptShard, FingerprintMismatch, NotStored
from sentifuse.cache.featureset import FeatureSet, open_feature_set
from sentifuse.cache.journal import Index, read_index
from sentifuse.cache.record import ShardRecord
from sentifuse.cache.shard import FieldPlace, corrupt, read_layout
from sentifuse.cache.spec import Array, Field

__all__ = ["READERS", "FeatureReader"]

READERS = ("mmap", "h5py")

_TRIES = 5  # to open a set while others rewrite it

Rows = npt.NDArray[np.int64]


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
    ConfigError
        No such reader.
    NoFeatures, CorruptIndex, CorruptShard, FutureVersion, FingerprintMismatch
        Every shard is checked against index and recipe here; bytes of values are proved by `check`.
    """

    def __init__(self, feature_set: FeatureSet | Path | str, *, reader: str = "mmap") -> None:
        if reader not in READERS:
            raise ConfigError.unknown("reader", reader, READERS, where="--reader")
        if not isinstance(feature_set, FeatureSet):
            feature_set = open_feature_set(Path(feature_set))
        self.feature_set = feature_set
        self.reader = reader
        for tries_left in reversed(range(_TRIES)):
            index = self._read_index()
            self.generation = index.generation
            self.shards: tuple[ShardRecord, ...] = index.shards
            try:
                self._read_shards()
                break
            except CorruptShard:
                # Compaction or a repair may have replaced the index since, and removed the shards that it named.
                if not tries_left or self._read_index().generation == index.generation:
                    raise
        self._forget()

    def _read_index(self) -> Index:
        index = read_index(self.feature_set.index)
        if index.fingerprint != self.feature_set.fingerprint:
            raise FingerprintMismatch(
                f"{self.feature_set.index}: fingerprint {str(index.fingerprint)[:12]}, recipe.json says "
                f"{self.fingerprint[:12]}. Files of two feature sets were mixed: extract this one again."
            )
        return index

    def _read_shards(self) -> None:
        self._places: list[Mapping[str, FieldPlace]] = []
        digests: list[Array] = []  # of every stored row, shard by shard, as the next four
        statuses: list[Array] = []
        value_indices: list[Array] = []
        shard_indices: list[Array] = []
        crcs: list[Array] = []
        codes: dict[str, int] = {}  # status -> its number: there are few, in many rows
        rows: dict[str, int] = {}  # id -> stored row that counts; a later shard wins, the first place in order stays
        stored = 0
        for shard_index, record in enumerate(self.shards):
            layout = read_layout(self.feature_set, record)
            # Interned: the readers of a dataset's other encoders have the same ids.
            rows.update(zip(map(sys.intern, layout.ids), range(stored, stored + record.rows), strict=True))
            stored += record.rows
            digests.append(np.array(layout.digests, dtype="S64"))
            statuses.append(np.array([codes.setdefault(status, len(codes)) for status in layout.statuses], np.int32))
            value_indices.append(layout.value_index)
            shard_indices.append(np.full(record.rows, shard_index, dtype=np.int64))
            crcs.append(layout.crc32c)
            self._places.append({name: _frozen(place) for name, place in layout.fields.items()})
        kept = np.fromiter(rows.values(), dtype=np.int64, count=len(rows))
        self.ids: tuple[str, ...] = tuple(rows)
        self._row = dict(zip(self.ids, range(len(rows)), strict=True))
        self._status_names: tuple[str, ...] = tuple(codes)
        self._digests = np.concatenate([*digests, np.empty(0, "S64")])[kept]
        self._status_codes = np.concatenate([*statuses, np.empty(0, np.int32)])[kept]
        self._shard_index = np.concatenate([*shard_indices, np.empty(0, np.int64)])[kept]
        self._value_index = np.concatenate([*value_indices, np.empty(0, np.int64)])[kept]
        self._crcs = np.concatenate([*crcs, np.empty(0, np.uint32)])[kept]
        self._is_proven = np.zeros(len(rows), dtype=np.bool_)

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
        return self._status_names[int(self._status_codes[self._number(row_id)])]

    def digest(self, row_id: str) -> str:
        """SHA-256 of the input the row was made from, "" when there was none."""
        return str(self._digests[self._number(row_id)], "ascii")

    def statuses(self) -> dict[str, int]:
        """How many rows there are of each status, commonest first."""
        counts = Counter(self._status_codes.tolist()).most_common()
        return {self._status_names[code]: count for code, count in counts}

    def has_value(self, row_id: str) -> bool:
        """Whether the row is there with values."""
        row = self._row.get(row_id)
        return row is not None and bool(self._value_index[row] >= 0)

    def value(self, row_id: str, field: str) -> Array:
        """One value: (*shape), or (n, *shape) of a ragged field; read-only, a view of the mapped file.

        Raises
        ------
        NotStored
            No such row or field, or a row without values.
        """
        return self.piece(field, *self._place(row_id))

    def piece(self, field: str, shard_index: int, value_index: int, limit: int | None = None) -> Array:
        """The value at a place that `locate` gave; of a sequence only the first `limit` elements are read.

        Dense: (*shape), its first axis cut to `limit`. Ragged: (n, *shape) with n at most `limit`. Read-only.
        """
        offsets = self.offsets(field, shard_index)
        if offsets is None:
            # The dots keep a value of shape () an array.
            index = (value_index, ...) if limit is None else (value_index, slice(0, limit), ...)
            return self._access.piece(field, shard_index, index)
        first, last = int(offsets[value_index]), int(offsets[value_index + 1])
        return self._access.piece(field, shard_index, slice(first, last if limit is None else min(last, first + limit)))

    def offsets(self, field: str, shard_index: int) -> Array | None:
        """(V + 1,) int64: where the values of a ragged field begin and end in a shard; None of a dense field."""
        try:
            return self._places[shard_index][field].offsets
        except KeyError:
            self.field(field)
            raise

    def locate(self, ids: Iterable[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Where rows lie: indices into `shards` and positions among that shard's values, -1 for rows without.

        Raises
        ------
        NotStored
            An id that is not in the set.
        """
        rows = self._numbers(ids)
        return self._shard_index[rows], self._value_index[rows]

    def mapped(self, field: str, shard_index: int) -> tuple[Array, Array | None]:
        """All values of a field in one shard: values (V, *shape), or values (T, *shape) and offsets (V + 1,) int64.

        Read-only. With reader="h5py" the whole piece is read into memory at each call.
        """
        offsets = self.offsets(field, shard_index)
        return self._access.whole(field, shard_index), offsets

    def check(self, row_id: str) -> None:
        """Prove a row (id, digest, status and values) by its CRC32C. Raises CorruptShard naming the row."""
        row = self._number(row_id)
        values = [self.value(row_id, field.name) for field in self.fields] if self.has_value(row_id) else []
        found = row_crc32c(row_id, self.digest(row_id), self.status(row_id), values)
        expected = int(self._crcs[row])
        if found != expected:
            path = self.feature_set.directory / self.shards[self._shard_index[row]].file
            raise corrupt(path, f"row {row_id!r} has CRC32C {found:08x}, expected {expected:08x}")

    def prove(self, ids: Iterable[str] | None = None) -> None:
        """Check rows (None: all), each once in the life of this reader, in the order of the store.

        Reads every byte of their values, ahead of the checking, so that it also fills the page cache.

        Raises
        ------
        NotStored, CorruptShard
            An id that is not in the set; a row that is not what was written, by name.
        """
        rows = self._numbers(self.ids if ids is None else ids)
        parts = self._by_shard(np.unique(rows[~self._is_proven[rows]]))
        if parts:
            self._read_ahead(parts[0], None)
        for place, part in enumerate(parts):
            if place + 1 < len(parts):
                self._read_ahead(parts[place + 1], None)
            for row in part.tolist():
                self.check(self.ids[row])
            self._is_proven[part] = True

    def will_need(self, ids: Iterable[str], limits: Mapping[str, int | None] | None = None) -> None:
        """Ask the system to fetch rows from the disk; returns at once and changes no answer.

        Parameters
        ----------
        limits : mapping of field to number, optional
            The fields that will be read, and how many elements of each row (None: all); without it all fields.
        """
        self._read_ahead(self._numbers(ids), limits)

    def size_bytes(self, ids: Iterable[str] | None = None) -> int:
        """Bytes of the values of rows (None: all), over all fields."""
        rows = self._numbers(self.ids if ids is None else ids)
        return sum(int((stops - starts).sum()) for _, starts, stops in self._ranges(rows, None))

    def values_bytes(self) -> dict[str, int]:
        """Field to the bytes of its values in all shards, superseded rows included."""
        return {
            field.name: sum(places[field.name].values.size_bytes for places in self._places) for field in self.fields
        }

    def _by_shard(self, rows: Rows) -> list[Rows]:
        """Rows in the order of the store, a shard's at a time."""
        rows = rows[np.lexsort((self._value_index[rows], self._shard_index[rows]))]
        _, firsts = np.unique(self._shard_index[rows], return_index=True)
        return np.split(rows, firsts)[1:]

    def _read_ahead(self, rows: Rows, limits: Mapping[str, int | None] | None) -> None:
        for shard_index, starts, stops in self._ranges(rows, limits):
            self._access.read_ahead(shard_index, *merge_ranges(starts, stops))

    def _ranges(self, rows: Rows, limits: Mapping[str, int | None] | None) -> Iterator[tuple[int, Rows, Rows]]:
        """Shard, first bytes and last bytes + 1 of rows with values, a field of a shard at a time."""
        wanted = dict.fromkeys((field.name for field in self.fields), None) if limits is None else limits
        for part in self._by_shard(rows[self._value_index[rows] >= 0]):
            shard_index, at = int(self._shard_index[part[0]]), self._value_index[part]
            for name, limit in wanted.items():
                field, place = self.field(name), self._places[shard_index][name]
                if place.offsets is None:
                    size = field.element_bytes
                    starts = at * size
                    if limit is not None and field.shape:
                        size = min(limit, field.shape[0]) * (size // field.shape[0])
                    stops = starts + size
                else:
                    starts, stops = place.offsets[at], place.offsets[at + 1]
                    stops = stops if limit is None else np.minimum(stops, starts + limit)
                    starts, stops = starts * field.element_bytes, stops * field.element_bytes
                yield shard_index, starts + place.values.offset_bytes, stops + place.values.offset_bytes

    def _number(self, row_id: str) -> int:
        try:
            return self._row[row_id]
        except KeyError:
            raise self._unknown(row_id) from None

    def _numbers(self, ids: Iterable[str]) -> Rows:
        try:
            return np.fromiter(map(self._row.__getitem__, ids), dtype=np.int64)
        except KeyError as error:
            raise self._unknown(error.args[0]) from None

    def _place(self, row_id: str) -> tuple[int, int]:
        row = self._number(row_id)
        value_index = int(self._value_index[row])
        if value_index < 0:
            raise NotStored(
                f"{self.feature_set.directory}: row {row_id!r} has no values, its status is {self.status(row_id)!r}"
            )
        return int(self._shard_index[row]), value_index

    def _unknown(self, row_id: object) -> NotStored:
        return NotStored(
            f"{self.feature_set.directory}: no row {row_id!r} among its {len(self)}. Was the pair added later? "
            "Run the same extract command again."
        )

    # What follows belongs to one process and is neither pickled nor shared.

    def _forget(self) -> None:
        kind = MappedFiles if self.reader == "mmap" else HeldFiles
        self._access: ShardFiles = kind(self.feature_set.directory, self.shards, self._places)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_access"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()


def _frozen(place: FieldPlace) -> FieldPlace:
    if place.offsets is not None:
        place.offsets.flags.writeable = False
    return place
