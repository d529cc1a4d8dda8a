"""Parquet files of an export: nulls where there are no values. Knows the types, leaves the rest to pyarrow.

Columns: id, digest, status, then the fields. A dense field of shape (a, b) is a fixed-size list of a·b numbers in C
order, a scalar a number; a ragged field is a list of those. Shapes stand in export.json.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sentifuse.cache.errors import BadSource, reading
from sentifuse.cache.interchange.exported import ExportedSource
from sentifuse.cache.interchange.source import ImportOptions, RowRecord, Source
from sentifuse.cache.spec import Array, Field, Row

__all__ = ["ParquetRows", "open_source", "write_rows"]

GROUP_ROWS = 64  # read at once: 19 MB of 36 regions of 2,048 float32
_COLUMNS = ("id", "digest", "status")
_LEAVES = {
    "float16": pa.float16(),
    "float32": pa.float32(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
}


def open_source(path: Path, options: ImportOptions) -> Source:
    """A folder that `write_rows` filled. Raises BadSource, Unreadable."""
    return ExportedSource(path, "parquet", ParquetRows, options)


def write_rows(folder: Path, piece: int, fields: Sequence[Field], rows: Sequence[Row]) -> list[str]:
    """Write rows as one file of several row groups. Raises OSError."""
    name = f"{piece:06d}.parquet"
    schema = _schema(fields)
    # No dictionaries: features do not repeat, and 0.0 and -0.0 must not become one word.
    with pq.ParquetWriter(
        folder / name, schema, compression="zstd", use_dictionary=False, write_page_checksum=True
    ) as writer:
        for start in range(0, len(rows), GROUP_ROWS):
            group = rows[start : start + GROUP_ROWS]
            arrays = [pa.array([getattr(row, column) for row in group], pa.string()) for column in _COLUMNS]
            arrays += [_array(field, group) for field in fields]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    return [name]


class ParquetRows:
    """One Parquet file; see `RowFile`. One row group is in memory at a time."""

    def __init__(self, path: Path, fields: Sequence[Field]) -> None:
        self._path = path
        self._fields = fields
        self._group: tuple[int, Any] | None = None
        try:
            with reading(path):
                self._file = pq.ParquetFile(path, page_checksum_verification=True)
        except pa.ArrowException as error:
            raise self._damaged(error) from error
        if not self._file.schema_arrow.equals(_schema(fields)):
            raise BadSource(f"{path}: columns {self._file.schema_arrow.names}, expected those of export.json")

    def records(self) -> list[RowRecord]:
        try:
            with reading(self._path):
                table = self._file.read(columns=list(_COLUMNS), use_threads=False)
        except pa.ArrowException as error:
            raise self._damaged(error) from error
        return list(zip(*(table[column].to_pylist() for column in _COLUMNS), strict=True))

    def read(self, place: int) -> Mapping[str, Array]:
        group = self._read_group(place // GROUP_ROWS)
        return {field.name: self._value(group[field.name][place % GROUP_ROWS], field) for field in self._fields}

    def _read_group(self, number: int) -> Any:
        if self._group is None or self._group[0] != number:
            names = [field.name for field in self._fields]
            try:
                with reading(self._path):
                    self._group = (number, self._file.read_row_group(number, columns=names, use_threads=False))
            except pa.ArrowException as error:
                raise self._damaged(error) from error
        return self._group[1]

    def _value(self, scalar: Any, field: Field) -> Array:
        if not scalar.is_valid:
            raise BadSource(f"{self._path}: a row with status 'ok' has no {field.name!r}. Export again")
        if not field.is_ragged and not field.shape:
            return np.array(scalar.as_py(), dtype=field.numpy_dtype)
        leaves = scalar.values
        if field.is_ragged and field.shape:
            leaves = leaves.flatten()
        flat: Array = leaves.to_numpy(zero_copy_only=False)
        return flat.reshape((-1, *field.shape) if field.is_ragged else field.shape)

    def _damaged(self, error: Exception) -> BadSource:
        return BadSource(f"{self._path}: not readable as Parquet ({error}). Copy or export it again")


def _schema(fields: Sequence[Field]) -> Any:
    columns = [pa.field(name, pa.string()) for name in _COLUMNS]
    return pa.schema([*columns, *(pa.field(field.name, _type(field)) for field in fields)])


def _element_type(field: Field) -> Any:
    leaf = _LEAVES[field.dtype]
    return pa.list_(leaf, int(np.prod(field.shape))) if field.shape else leaf


def _type(field: Field) -> Any:
    return pa.list_(_element_type(field)) if field.is_ragged else _element_type(field)


def _array(field: Field, rows: Sequence[Row]) -> Any:
    """A field's column of some rows; null where a row has no values."""
    is_null = np.array([row.values is None for row in rows])
    empty = np.zeros((0, *field.shape) if field.is_ragged else field.shape, dtype=field.numpy_dtype)
    values = [empty if row.values is None else np.asarray(row.values[field.name]) for row in rows]
    if not field.is_ragged:
        return _elements(field, np.stack(values), is_null)
    offsets = np.cumsum([0, *(len(value) for value in values)], dtype=np.int32)
    elements = _elements(field, np.concatenate(values), None)
    return pa.ListArray.from_arrays(pa.array(offsets), elements, type=_type(field), mask=pa.array(is_null))


def _elements(field: Field, values: Array, is_null: Array | None) -> Any:
    """Values (n, *shape) as n numbers or n fixed-size lists."""
    if not field.shape:
        return pa.array(values, _LEAVES[field.dtype], mask=is_null)
    mask = None if is_null is None else pa.array(is_null)
    leaves = pa.array(values.reshape(-1), _LEAVES[field.dtype])
    return pa.FixedSizeListArray.from_arrays(leaves, type=_element_type(field), mask=mask)
