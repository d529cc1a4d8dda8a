"""One shard: the HDF5 file that holds a run of rows, written whole and checked before use. Knows no journal.

A shard is plain HDF5, readable by h5py without this project. What is written here, and nothing else, is accepted by
`read_layout`: a file made by another tool, cut short or changed is refused before a value is looked at.
"""

# Shapes: N rows of the shard, V rows with values (V ≤ N), T elements of a ragged field in all V rows.

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crc32c
import h5py
import numpy as np

from sentifuse.cache.errors import BadRow, CacheError, CorruptShard, FingerprintMismatch, FutureVersion
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.fingerprint import canonical_json
from sentifuse.cache.journal import ShardRecord
from sentifuse.cache.spec import (
    ALIGNMENT_BYTES,
    FORMAT_NAME,
    FORMAT_VERSION,
    MAX_ID_BYTES,
    MAX_STATUS_BYTES,
    STATUS_KINDS,
    Array,
    Field,
    Row,
    is_finite,
    status_kind,
)

__all__ = ["DatasetPlace", "FieldPlace", "ShardLayout", "check_rows", "read_layout", "row_crc32c", "write_shard_file"]

_DIGEST_BYTES = 64
_WRITE_BYTES = 4 << 20  # rows are gathered into pieces of about this size: large enough for the disk, small in memory

_ERRNO = re.compile(r"errno = ([0-9]+)")

COLUMNS = ("ids", "digests", "status", "value_index", "crc32c")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPlace:
    """Where a dataset's bytes lie in the file; `offset_bytes` is 0 for one without elements."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FieldPlace:
    """A field's values (V, *shape), or (T, *shape) with the offsets (V + 1,) of a ragged one."""

    values: DatasetPlace
    offsets: Array | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardLayout:
    """What a checked shard holds besides its values."""

    ids: list[str]
    digests: list[str]
    statuses: list[str]
    value_index: Array  # (N,) int64
    crc32c: Array  # (N,) uint32
    fields: Mapping[str, FieldPlace]


def check_rows(feature_set: FeatureSet, rows: Sequence[Row]) -> None:
    """Refuse rows that must not be stored.

    Raises
    ------
    BadRow
        No rows at all, an id twice, a field missing or unknown, a wrong dtype or shape, NaN or infinity.
    """
    if not rows:
        raise BadRow(f"{feature_set.directory}: a shard of no rows, expected at least one")
    twice = [row_id for row_id, count in Counter(row.id for row in rows).items() if count > 1]
    if twice:
        raise BadRow(f"{feature_set.directory}: id {twice[0]!r} more than once in one shard")
    names = {field.name for field in feature_set.fields}
    for row in rows:
        if row.values is None:
            continue
        if set(row.values) != names:
            raise BadRow(f"row {row.id!r}: fields {sorted(row.values)}, expected {sorted(names)}")
        for field in feature_set.fields:
            value = row.values[field.name]
            field.check(value, row.id)
            if not is_finite(value):
                raise BadRow(
                    f"row {row.id!r}, field {field.name!r}: NaN or infinity. The encoder's output is not usable; "
                    "the row belongs into the store as 'failed: …', not as values"
                )


def size_estimate(feature_set: FeatureSet, rows: Sequence[Row]) -> int:
    """About how many bytes the shard of these rows takes, for the message of a full disk."""
    values = sum(np.asarray(value).nbytes for row in rows if row.values for value in row.values.values())
    per_row = _DIGEST_BYTES + MAX_STATUS_BYTES // 4 + 64
    return values + len(rows) * per_row + ALIGNMENT_BYTES * (8 + 2 * len(feature_set.fields))


def row_crc32c(values: Sequence[Array]) -> int:
    """CRC32C over the bytes of a row's values, in the order of the set's fields."""
    crc = 0
    for value in values:
        crc = _crc(value, crc)
    return crc


def write_shard_file(path: Path, feature_set: FeatureSet, number: int, rows: Sequence[Row]) -> dict[str, int]:
    """Write rows, already checked, as a new HDF5 file and return how many there are of each kind of status.

    The same rows give the same bytes: no clocks, one order of writing, one HDF5 version range.

    Raises
    ------
    OSError
        The disk refuses; the file at `path` is then good for nothing.
    """
    try:
        _write_file(path, feature_set, number, rows)
    except RuntimeError as error:
        # A failed write comes out of HDF5 once more when the file is closed, as a RuntimeError with errno in its text.
        found = _ERRNO.search(str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
    return dict(sorted(Counter(status_kind(row.status) for row in rows).items()))


def read_layout(feature_set: FeatureSet, record: ShardRecord) -> ShardLayout:
    """Open a shard, check it against its record and recipe, and return where everything lies.

    The file is closed again. Values are not read; `FeatureReader.check` proves them.

    Raises
    ------
    CorruptShard
        Missing, truncated, foreign, or not what the format asks for.
    FutureVersion, FingerprintMismatch
        Of a later format, or of another recipe.
    """
    path = feature_set.directory / record.file
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise corrupt(path, f"cannot be found ({error.strerror}), but the index names it") from error
    if size_bytes != record.size_bytes:
        raise corrupt(path, f"{size_bytes} bytes, expected {record.size_bytes}")
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _Checker(feature_set, record, path, size_bytes).layout(file)
    except CacheError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise corrupt(path, f"not readable as HDF5 ({type(error).__name__}: {error})") from error


def corrupt(path: Path, problem: str) -> CorruptShard:
    """The error for a shard file, with what to do."""
    return CorruptShard(
        f"{path}: {problem}. Delete this file and run the same extract command again: only its rows are recomputed."
    )


class _Checker:
    """The checks of one open file; each says what it found."""

    def __init__(self, feature_set: FeatureSet, record: ShardRecord, path: Path, size_bytes: int) -> None:
        self.feature_set = feature_set
        self.record = record
        self.path = path
        self.size_bytes = size_bytes

    def layout(self, file: h5py.File) -> ShardLayout:
        self._attributes(file)
        self._members(file, "/", {*COLUMNS, "fields"})
        rows = self.record.rows
        ids = self._texts(file, "ids", MAX_ID_BYTES)
        digests = self._texts(file, "digests", _DIGEST_BYTES)
        statuses = self._texts(file, "status", MAX_STATUS_BYTES)
        value_index = self._column(file, "value_index", np.dtype("<i8"))
        crcs = self._column(file, "crc32c", np.dtype("<u4"))
        if len(set(ids)) != rows or "" in ids:
            raise self._wrong("ids", "an id twice or an empty one")
        counts = dict(Counter(status_kind(status) for status in statuses))
        if counts != dict(self.record.counts) or not set(counts) <= set(STATUS_KINDS):
            raise self._wrong("status", f"{counts}, expected {dict(self.record.counts)}")
        if not np.array_equal(value_index, _positions(np.array([status == "ok" for status in statuses]))):
            raise self._wrong("value_index", "it does not number the rows with status 'ok'")
        self._members(file, "fields", {field.name for field in self.feature_set.fields})
        fields = {field.name: self._field(file, field) for field in self.feature_set.fields}
        return ShardLayout(
            ids=ids, digests=digests, statuses=statuses, value_index=value_index, crc32c=crcs, fields=fields
        )

    def _attributes(self, file: h5py.File) -> None:
        found = {name: _attribute(value) for name, value in file.attrs.items()}
        if found.get("format") != FORMAT_NAME:
            raise corrupt(self.path, f"format {found.get('format')!r}, expected {FORMAT_NAME!r}: not a shard of ours")
        if isinstance(found.get("version"), int) and found["version"] > FORMAT_VERSION:
            raise FutureVersion(
                f"{self.path}: format version {found['version']}, this program reads up to {FORMAT_VERSION}. "
                "Install a later sentifuse."
            )
        if found.get("fingerprint") != self.feature_set.fingerprint:
            raise FingerprintMismatch(
                f"{self.path}: fingerprint {str(found.get('fingerprint'))[:12]}, expected "
                f"{self.feature_set.fingerprint[:12]}. It was made by another recipe and copied here: delete it and "
                "run the same extract command again."
            )
        expected = {**_attributes(self.feature_set), "version": FORMAT_VERSION, "number": self.record.number}
        if found != expected:
            names = [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]
            raise corrupt(self.path, f"attributes {', '.join(names)} are not those of this feature set and shard")

    def _members(self, file: h5py.File, group: str, expected: set[str]) -> None:
        node = file[group]
        found = set(node) if isinstance(node, h5py.Group) else set()
        # A soft or external link would make HDF5 read something else than this file.
        linked = [name for name in sorted(found) if not isinstance(node.get(name, getlink=True), h5py.HardLink)]
        if found != expected or linked:
            raise self._wrong(group, f"holds {sorted(found)} (links: {linked}), expected {sorted(expected)}")

    def _field(self, file: h5py.File, field: Field) -> FieldPlace:
        name = f"fields/{field.name}"
        if not field.is_ragged:
            shape = (self.record.ok, *field.shape)
            return FieldPlace(values=self._place(file, name, shape, field.numpy_dtype), offsets=None)
        self._members(file, name, {"values", "offsets"})
        offsets = self._read(file, f"{name}/offsets", (self.record.ok + 1,), np.dtype("<i8"))
        if offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise self._wrong(f"{name}/offsets", "they do not rise from 0")
        shape = (int(offsets[-1]), *field.shape)
        return FieldPlace(values=self._place(file, f"{name}/values", shape, field.numpy_dtype), offsets=offsets)

    def _texts(self, file: h5py.File, name: str, limit_bytes: int) -> list[str]:
        dtype = file[name].dtype
        if dtype.kind != "S" or not 0 < dtype.itemsize <= limit_bytes:
            raise self._wrong(name, f"dtype {dtype}, expected fixed-length bytes of at most {limit_bytes}")
        return [value.decode("utf-8") for value in self._column(file, name, dtype).tolist()]

    def _column(self, file: h5py.File, name: str, dtype: np.dtype[Any]) -> Array:
        return self._read(file, name, (self.record.rows,), dtype)

    def _read(self, file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        self._place(file, name, shape, dtype)  # before reading: a damaged shape must not ask for all memory
        column: Array = file[name][()]
        return column

    def _place(self, file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DatasetPlace:
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise self._wrong(name, "no dataset")
        if dataset.shape != shape or dataset.dtype != dtype:
            raise self._wrong(name, f"{dataset.dtype} {dataset.shape}, expected {dtype} {shape}")
        is_contiguous = dataset.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
        if not is_contiguous or dataset.external or dataset.is_virtual:
            raise self._wrong(name, "not stored as one contiguous piece of this file")
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        offset = dataset.id.get_offset()
        if nbytes == 0:
            return DatasetPlace(shape=shape, dtype=dtype, offset_bytes=0)
        if offset is None or offset + nbytes > self.size_bytes:
            raise self._wrong(name, f"bytes {offset} + {nbytes} do not lie in a file of {self.size_bytes}")
        if offset % ALIGNMENT_BYTES:
            raise self._wrong(name, f"starts at byte {offset}, expected a multiple of {ALIGNMENT_BYTES}")
        return DatasetPlace(shape=shape, dtype=dtype, offset_bytes=int(offset))

    def _wrong(self, name: str, problem: str) -> CorruptShard:
        return corrupt(self.path, f"{name}: {problem}")


def _write_file(path: Path, feature_set: FeatureSet, number: int, rows: Sequence[Row]) -> None:
    kept = [row.values for row in rows if row.values is not None]
    has_values = np.array([row.values is not None for row in rows])
    value_index = _positions(has_values)
    crcs = [0] * len(kept)
    with h5py.File(
        path,
        "x",
        libver=("v110", "v110"),  # the oldest range whose metadata carries checksums
        alignment_threshold=1,
        alignment_interval=ALIGNMENT_BYTES,
        locking=False,  # the name is ours alone, and some network file systems have no locks
    ) as file:
        for name, text in _attributes(feature_set).items():
            encoded = text.encode("utf-8")
            file.attrs.create(name, np.array(encoded, dtype=h5py.string_dtype("utf-8", len(encoded))))
        file.attrs.create("version", np.int64(FORMAT_VERSION))
        file.attrs.create("number", np.int64(number))
        _write(file, "ids", _fixed([row.id for row in rows]))
        _write(file, "digests", _fixed([row.digest for row in rows], _DIGEST_BYTES))
        _write(file, "status", _fixed([row.status for row in rows]))
        _write(file, "value_index", value_index)
        group = file.create_group("fields")
        for field in feature_set.fields:
            _write_field(group, field, [np.asarray(values[field.name]) for values in kept], crcs)
        column = np.zeros(len(rows), dtype="<u4")
        column[has_values] = crcs
        _write(file, "crc32c", column)


def _attributes(feature_set: FeatureSet) -> dict[str, str]:
    return {
        "format": FORMAT_NAME,
        "encoder": feature_set.encoder,
        "fingerprint": feature_set.fingerprint,
        "recipe": canonical_json(feature_set.recipe).decode("utf-8"),
    }


def _attribute(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return value.item() if isinstance(value, np.generic) else value


def _positions(has_values: Array) -> Array:
    """(N,) int64: a row's place among the rows with values, -1 without: [T, F, T] -> [0, -1, 1]."""
    return np.where(has_values, np.cumsum(has_values) - 1, -1).astype("<i8")


def _fixed(texts: Sequence[str], width_bytes: int = 1) -> Array:
    encoded = [text.encode("utf-8") for text in texts]
    width_bytes = max(width_bytes, *(len(text) for text in encoded))
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", width_bytes))


def _write(file: h5py.Group, name: str, data: Array) -> None:
    file.create_dataset(name, data=data, fill_time="never")


def _write_field(group: h5py.Group, field: Field, values: list[Array], crcs: list[int]) -> None:
    if not field.is_ragged:
        shape = (len(values), *field.shape)
        dataset = group.create_dataset(field.name, shape=shape, dtype=field.numpy_dtype, fill_time="never")
        values = [value[np.newaxis] for value in values]
    else:
        group = group.create_group(field.name)
        offsets = np.zeros(len(values) + 1, dtype="<i8")
        np.cumsum([len(value) for value in values], out=offsets[1:])
        _write(group, "offsets", offsets)
        shape = (int(offsets[-1]), *field.shape)
        dataset = group.create_dataset("values", shape=shape, dtype=field.numpy_dtype, fill_time="never")
    start = 0
    for first, last in _pieces([value.nbytes for value in values]):
        piece = np.concatenate(values[first:last])
        for row in range(first, last):
            crcs[row] = _crc(values[row], crcs[row])
        if len(piece):
            dataset[start : start + len(piece)] = piece
        start += len(piece)


def _pieces(sizes_bytes: list[int]) -> Iterator[tuple[int, int]]:
    """Runs of rows (first, last + 1) of about _WRITE_BYTES each."""
    first = total_bytes = 0
    for position, size_bytes in enumerate(sizes_bytes):
        total_bytes += size_bytes
        if total_bytes >= _WRITE_BYTES:
            yield first, position + 1
            first, total_bytes = position + 1, 0
    if first < len(sizes_bytes):
        yield first, len(sizes_bytes)


def _crc(value: Array, crc: int) -> int:
    if value.nbytes == 0:
        return crc
    return int(crc32c.crc32c(np.ascontiguousarray(value).reshape(-1).view(np.uint8), crc))
