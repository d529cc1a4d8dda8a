"""Writes rows as one HDF5 file and says where everything in it lies. Knows no names, no journal; reading is `shard`.

The same rows give the same bytes: no clocks, one order of writing, one HDF5 version range.
"""

# Shapes: N rows of the shard, V rows with values (V ≤ N), T elements of a ragged field in all V rows.

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from sentifuse.cache.checksum import crc32c_of, row_crc32c
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.fingerprint import canonical_json
from sentifuse.cache.record import DatasetProof, ShardProof
from sentifuse.cache.sink import Sink
from sentifuse.cache.spec import (
    ALIGNMENT_BYTES,
    DIGEST_BYTES,
    FORMAT_NAME,
    FORMAT_VERSION,
    Array,
    Field,
    Row,
    status_kind,
)

__all__ = ["fixed_text", "positions", "text_attributes", "write_shard_file"]

_WRITE_BYTES = 4 << 20  # rows are gathered into pieces of about this size: large enough for the disk, small in memory


def write_shard_file(
    path: Path, feature_set: FeatureSet, number: int, rows: Sequence[Row]
) -> tuple[dict[str, int], ShardProof]:
    """Write rows, already checked, as a new HDF5 file.

    Returns
    -------
    counts : dict
        How many rows there are of each kind of status.
    proof : ShardProof

    Raises
    ------
    OSError
        The disk refuses; the file at `path` is then good for nothing.
    """
    proof = _write_file(path, feature_set, number, rows)
    return dict(sorted(Counter(status_kind(row.status) for row in rows).items())), proof


def text_attributes(feature_set: FeatureSet) -> dict[str, str]:
    """The root group's attributes that are texts."""
    return {
        "format": FORMAT_NAME,
        "encoder": feature_set.encoder,
        "fingerprint": feature_set.fingerprint,
        "recipe": canonical_json(feature_set.recipe).decode("utf-8"),
    }


def positions(has_values: Array) -> Array:
    """(N,) int64: a row's place among the rows with values, -1 without: [T, F, T] -> [0, -1, 1]."""
    return np.where(has_values, np.cumsum(has_values) - 1, -1).astype("<i8")


def fixed_text(texts: Sequence[str], width_bytes: int = 1) -> Array:
    """(N,) fixed-length UTF-8, as wide as the longest and at least `width_bytes`."""
    encoded = [text.encode("utf-8") for text in texts]
    width_bytes = max(width_bytes, *(len(text) for text in encoded))
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", width_bytes))


def _write_file(path: Path, feature_set: FeatureSet, number: int, rows: Sequence[Row]) -> ShardProof:
    kept = [row for row in rows if row.values is not None]
    has_values = np.array([row.values is not None for row in rows])
    crcs = np.array([row_crc32c(row.id, row.digest, row.status, _values(feature_set, row)) for row in rows], "<u4")
    batches = np.array([row.batch for row in rows], dtype="<i4")
    with (
        Sink(path) as sink,
        h5py.File(
            sink,
            "w",
            driver="fileobj",
            libver=("v110", "v110"),  # the oldest range whose metadata carries checksums
            alignment_threshold=1,
            alignment_interval=ALIGNMENT_BYTES,
        ) as file,
    ):
        for name, text in text_attributes(feature_set).items():
            encoded = text.encode("utf-8")
            file.attrs.create(name, np.array(encoded, dtype=h5py.string_dtype("utf-8", len(encoded))))
        file.attrs.create("version", np.int64(FORMAT_VERSION))
        file.attrs.create("number", np.int64(number))
        proofs = [
            _write(file, "ids", fixed_text([row.id for row in rows])),
            _write(file, "digests", fixed_text([row.digest for row in rows], DIGEST_BYTES)),
            _write(file, "status", fixed_text([row.status for row in rows])),
            _write(file, "value_index", positions(has_values)),
            _write(file, "batch", batches),
            _write(file, "crc32c", crcs),
        ]
        group = file.create_group("fields")
        for field in feature_set.fields:
            proofs += _write_field(group, field, [np.asarray((row.values or {})[field.name]) for row in kept])
    return ShardProof(datasets=tuple(proofs), row_crc32c=crcs, row_batch=batches)


def _values(feature_set: FeatureSet, row: Row) -> list[Array]:
    return [np.asarray(row.values[field.name]) for field in feature_set.fields] if row.values is not None else []


def _write(group: h5py.Group, name: str, data: Array) -> DatasetProof:
    return _proof(group.create_dataset(name, data=data, fill_time="never"), crc32c_of(data))


def _write_field(group: h5py.Group, field: Field, values: list[Array]) -> list[DatasetProof]:
    proofs = []
    if not field.is_ragged:
        shape = (len(values), *field.shape)
        dataset = group.create_dataset(field.name, shape=shape, dtype=field.numpy_dtype, fill_time="never")
        values = [value[np.newaxis] for value in values]
    else:
        group = group.create_group(field.name)
        offsets = np.zeros(len(values) + 1, dtype="<i8")
        np.cumsum([len(value) for value in values], out=offsets[1:])
        proofs.append(_write(group, "offsets", offsets))
        shape = (int(offsets[-1]), *field.shape)
        dataset = group.create_dataset("values", shape=shape, dtype=field.numpy_dtype, fill_time="never")
    start = 0
    for first, last in _pieces([value.nbytes for value in values]):
        piece = np.concatenate(values[first:last])
        if len(piece):
            dataset[start : start + len(piece)] = piece
        start += len(piece)
    return [*proofs, _proof(dataset, None)]


def _proof(dataset: h5py.Dataset, crc: int | None) -> DatasetProof:
    size_bytes = dataset.size * dataset.dtype.itemsize
    offset_bytes = dataset.id.get_offset() if size_bytes else 0  # HDF5 gives no place to a dataset without elements
    name = dataset.name.removeprefix("/")
    return DatasetProof(name=name, offset_bytes=int(offset_bytes), size_bytes=int(size_bytes), crc32c=crc)


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
