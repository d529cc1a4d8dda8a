"""One shard, read: the HDF5 file that holds a run of rows, checked before a value is looked at. Writes nothing.

A shard is plain HDF5, readable by h5py without this project. What `shard_file` writes, and nothing else, is accepted
here: a file made by another tool, cut short or changed is refused.
"""

# Shapes: N rows of the shard, V rows with values (V ≤ N), T elements of a ragged field in all V rows.

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sentifuse.cache.checksum import crc32c_of
from sentifuse.cache.errors import CacheError, CorruptShard, FingerprintMismatch, FutureVersion
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.files import sha256_of
from sentifuse.cache.record import DatasetProof, ShardProof, ShardRecord, StagedShard
from sentifuse.cache.shard_file import positions, text_attributes
from sentifuse.cache.spec import (
    ALIGNMENT_BYTES,
    COLUMNS,
    DIGEST_BYTES,
    FORMAT_NAME,
    FORMAT_VERSION,
    MAX_ID_BYTES,
    MAX_STATUS_BYTES,
    NO_BATCH,
    Array,
    Field,
    is_status,
    status_kind,
)

__all__ = ["DatasetPlace", "FieldPlace", "ShardLayout", "corrupt", "proof_of", "prove_shard", "read_layout"]

_SUPERBLOCK = 3  # what HDF5's bounds 1.10 to 1.10 give; below 2 nothing of it has a checksum
_OBJECT_HEADER = 2  # the one with a checksum
_NO_HEX_DIGITS = str.maketrans("", "", "0123456789abcdef")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPlace:
    """Where a dataset's bytes lie in the file; `offset_bytes` is 0 for one without elements."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset_bytes: int

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FieldPlace:
    """A field's values (V, *shape), or (T, *shape) with the offsets (V + 1,) of a ragged one and their place."""

    values: DatasetPlace
    offsets: Array | None
    offsets_place: DatasetPlace | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardLayout:
    """What a checked shard holds besides its values."""

    ids: list[str]
    digests: list[str]
    statuses: list[str]
    value_index: Array  # (N,) int64
    batch: Array  # (N,) int32
    crc32c: Array  # (N,) uint32
    columns: Mapping[str, DatasetPlace]  # of the six above, by their names in the file
    fields: Mapping[str, FieldPlace]


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


def prove_shard(feature_set: FeatureSet, record: ShardRecord) -> StagedShard:
    """What the journal says of a shard whose line was lost, made anew from the file.

    Raises
    ------
    CorruptShard, FutureVersion, FingerprintMismatch
        The file is not the one whose SHA-256 the record has, or not a shard.
    """
    layout = read_layout(feature_set, record)
    path = feature_set.directory / record.file
    found = sha256_of(path)
    if found != record.sha256:
        raise corrupt(path, f"SHA-256 {found[:12]}…, expected {record.sha256[:12]}…")
    return StagedShard(record=record, proof=proof_of(feature_set, layout))


def proof_of(feature_set: FeatureSet, layout: ShardLayout) -> ShardProof:
    """What a shard's file says of its own rows and columns; as good as the file is."""
    contents = {"value_index": layout.value_index, "batch": layout.batch, "crc32c": layout.crc32c}
    proofs = []
    for name in COLUMNS:
        place = layout.columns[name]
        texts = {"ids": layout.ids, "digests": layout.digests, "status": layout.statuses}.get(name)
        content = contents[name] if texts is None else np.array([text.encode() for text in texts], place.dtype)
        proofs.append(_proof(name, place, crc32c_of(content)))
    for field in feature_set.fields:
        field_place = layout.fields[field.name]
        name = f"fields/{field.name}"
        if field_place.offsets_place is not None and field_place.offsets is not None:
            proofs.append(_proof(f"{name}/offsets", field_place.offsets_place, crc32c_of(field_place.offsets)))
            name += "/values"
        proofs.append(_proof(name, field_place.values, None))
    return ShardProof(datasets=tuple(proofs), row_crc32c=layout.crc32c, row_batch=layout.batch)


def corrupt(path: Path, problem: str) -> CorruptShard:
    """The error for a shard file, with what to do."""
    return CorruptShard(
        f"{path}: {problem}. Run: sentifuse cache repair, which recomputes only what is damaged (or delete this file "
        "and run the same extract command again: all of its rows are recomputed)."
    )


def _proof(name: str, place: DatasetPlace, crc: int | None) -> DatasetProof:
    return DatasetProof(name=name, offset_bytes=place.offset_bytes, size_bytes=place.size_bytes, crc32c=crc)


class _Checker:
    """The checks of one open file; each says what it found."""

    def __init__(self, feature_set: FeatureSet, record: ShardRecord, path: Path, size_bytes: int) -> None:
        self.feature_set = feature_set
        self.record = record
        self.path = path
        self.size_bytes = size_bytes
        self.places: dict[str, DatasetPlace] = {}

    def layout(self, file: h5py.File) -> ShardLayout:
        self._attributes(file)
        self._members(file, "/", {*COLUMNS, "fields"})
        ids = self._texts(file, "ids", range(1, MAX_ID_BYTES + 1))
        digests = self._texts(file, "digests", range(DIGEST_BYTES, DIGEST_BYTES + 1))
        statuses = self._texts(file, "status", range(1, MAX_STATUS_BYTES + 1))
        value_index = self._column(file, "value_index", np.dtype("<i8"))
        batches = self._column(file, "batch", np.dtype("<i4"))
        crcs = self._column(file, "crc32c", np.dtype("<u4"))
        self._check_texts(ids, digests, statuses)
        if not np.array_equal(value_index, positions(np.array([status == "ok" for status in statuses]))):
            raise self._wrong("value_index", "it does not number the rows with status 'ok'")
        if (batches < NO_BATCH).any():
            raise self._wrong("batch", f"a number below {NO_BATCH}")
        self._members(file, "fields", {field.name for field in self.feature_set.fields})
        fields = {field.name: self._field(file, field) for field in self.feature_set.fields}
        return ShardLayout(
            ids=ids,
            digests=digests,
            statuses=statuses,
            value_index=value_index,
            batch=batches,
            crc32c=crcs,
            columns=self.places,
            fields=fields,
        )

    def _check_texts(self, ids: list[str], digests: list[str], statuses: list[str]) -> None:
        if len(set(ids)) != len(ids) or "" in ids:
            raise self._wrong("ids", "an id twice or an empty one")
        if "\0" in "".join(ids):
            raise self._wrong("ids", "an id with NUL inside")
        if not set(map(len, digests)) <= {0, DIGEST_BYTES} or "".join(digests).translate(_NO_HEX_DIGITS):
            raise self._wrong("digests", f"one that is neither empty nor {DIGEST_BYTES} lower-case hex digits")
        wrong = [status for status in dict.fromkeys(statuses) if not is_status(status)]
        if wrong:
            raise self._wrong("status", f"{wrong[0]!r}, expected ok, missing, unreadable: reason or failed: reason")
        counts = dict(Counter(map(status_kind, statuses)))
        if counts != dict(self.record.counts):
            raise self._wrong("status", f"{counts}, expected {dict(self.record.counts)}")

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
        expected: dict[str, str | int] = {**text_attributes(self.feature_set), "version": FORMAT_VERSION}
        expected["number"] = self.record.number
        wrong = {name for name in {*found, *expected} if found.get(name) != expected.get(name)}
        # A number or a text of another type, or one in a list, may compare equal.
        wrong |= {name for name, value in expected.items() if name not in wrong and not _is_exact(file, name, value)}
        if wrong:
            names = sorted(wrong)
            raise corrupt(self.path, f"attributes {', '.join(names)} are not those of this feature set and shard")
        superblock, *_ = file.id.get_create_plist().get_version()
        if superblock != _SUPERBLOCK:
            raise self._wrong("/", f"superblock of version {superblock}, expected {_SUPERBLOCK}, which has a checksum")

    def _members(self, file: h5py.File, group: str, expected: set[str]) -> None:
        node = file[group]
        self._object(group, node)
        found = set(node) if isinstance(node, h5py.Group) else set()
        # A soft or external link would make HDF5 read something else than this file.
        linked = [name for name in sorted(found) if not isinstance(node.get(name, getlink=True), h5py.HardLink)]
        if found != expected or linked:
            raise self._wrong(group, f"holds {sorted(found)} (links: {linked}), expected {sorted(expected)}")

    def _field(self, file: h5py.File, field: Field) -> FieldPlace:
        name = f"fields/{field.name}"
        if not field.is_ragged:
            shape = (self.record.ok, *field.shape)
            _, values = self._dataset(file, name, shape, field.numpy_dtype)
            return FieldPlace(values=values, offsets=None, offsets_place=None)
        self._members(file, name, {"values", "offsets"})
        dataset, offsets_place = self._dataset(file, f"{name}/offsets", (self.record.ok + 1,), np.dtype("<i8"))
        offsets: Array = dataset[()]
        if offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise self._wrong(f"{name}/offsets", "they do not rise from 0")
        shape = (int(offsets[-1]), *field.shape)
        _, values = self._dataset(file, f"{name}/values", shape, field.numpy_dtype)
        return FieldPlace(values=values, offsets=offsets, offsets_place=offsets_place)

    def _texts(self, file: h5py.File, name: str, widths_bytes: range) -> list[str]:
        dtype = file[name].dtype
        if dtype.kind != "S" or dtype.itemsize not in widths_bytes:
            expected = " to ".join(map(str, sorted({widths_bytes[0], widths_bytes[-1]})))
            raise self._wrong(name, f"dtype {dtype}, expected texts of a fixed length of {expected} bytes")
        column = self._column(file, name, h5py.string_dtype("utf-8", dtype.itemsize))
        return [value.decode("utf-8") for value in column.tolist()]

    def _column(self, file: h5py.File, name: str, dtype: np.dtype[Any]) -> Array:
        # The place before the content: a damaged shape must not ask for all memory.
        dataset, self.places[name] = self._dataset(file, name, (self.record.rows,), dtype)
        column: Array = dataset[()]
        return column

    def _dataset(
        self, file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> tuple[h5py.Dataset, DatasetPlace]:
        """A dataset and its place, checked; a text's `dtype` has the character set, which numpy does not compare."""
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise self._wrong(name, "no dataset")
        if dataset.shape != shape or dataset.dtype != dtype:
            raise self._wrong(name, f"{dataset.dtype} {dataset.shape}, expected {dtype} {shape}")
        if dataset.id.get_type() != h5py.h5t.py_create(dtype, logical=True):
            raise self._wrong(name, f"not {dtype} as HDF5 has it; of texts the character set must be UTF-8")
        self._object(name, dataset)
        is_contiguous = dataset.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
        if not is_contiguous or dataset.external or dataset.is_virtual:
            raise self._wrong(name, "not stored as one contiguous piece of this file")
        nbytes = math.prod(shape) * dtype.itemsize
        offset = dataset.id.get_offset()
        if nbytes == 0:
            return dataset, DatasetPlace(shape=shape, dtype=np.dtype(dtype.str), offset_bytes=0)
        if offset is None or offset + nbytes > self.size_bytes:
            raise self._wrong(name, f"bytes {offset} + {nbytes} do not lie in a file of {self.size_bytes}")
        if offset % ALIGNMENT_BYTES:
            raise self._wrong(name, f"starts at byte {offset}, expected a multiple of {ALIGNMENT_BYTES}")
        return dataset, DatasetPlace(shape=shape, dtype=np.dtype(dtype.str), offset_bytes=int(offset))

    def _object(self, name: str, node: h5py.HLObject) -> None:
        info = h5py.h5o.get_info(node.id)
        if info.hdr.version != _OBJECT_HEADER:
            raise self._wrong(name, "its metadata have no checksum")
        if info.num_attrs and name != "/":
            raise self._wrong(name, f"{info.num_attrs} attributes; only the root group has some")

    def _wrong(self, name: str, problem: str) -> CorruptShard:
        return corrupt(self.path, f"{name}: {problem}")


def _is_exact(file: h5py.File, name: str, value: str | int) -> bool:
    """Whether an attribute of the root group is a single int64, or a text in UTF-8 of just its length."""
    dtype = h5py.string_dtype("utf-8", len(value.encode("utf-8"))) if isinstance(value, str) else np.dtype("<i8")
    attribute = file.attrs.get_id(name)
    is_single = attribute.get_space().get_simple_extent_type() == h5py.h5s.SCALAR
    return bool(is_single and attribute.get_type() == h5py.h5t.py_create(dtype, logical=True))


def _attribute(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return value.item() if isinstance(value, np.generic) else value
