"""safetensors files of an export: a tensor for each dense field, values and offsets for each ragged one.

The rows stand in the file's metadata as JSON under `rows`: ids, digests and statuses. Rows without values have no
place in the tensors; the v-th row with status "ok" is row v of a dense tensor.
"""

# Shapes: V rows with values, T elements of a ragged field in all of them.

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sentifuse.cache.errors import BadSource, reading
from sentifuse.cache.interchange.exported import ExportedSource, values_of
from sentifuse.cache.interchange.source import ImportOptions, RowRecord, Source
from sentifuse.cache.spec import Array, Field, Row

__all__ = ["SafetensorsRows", "open_source", "write_rows"]

_COLUMNS = ("ids", "digests", "statuses")
_DTYPES = {"float16": "F16", "float32": "F32", "int32": "I32", "int64": "I64", "uint8": "U8"}


def open_source(path: Path, options: ImportOptions) -> Source:
    """A folder that `write_rows` filled. Raises BadSource, Unreadable."""
    return ExportedSource(path, "safetensors", SafetensorsRows, options)


def write_rows(folder: Path, piece: int, fields: Sequence[Field], rows: Sequence[Row]) -> list[str]:
    """Write rows as one file. Raises OSError."""
    tensors: dict[str, Array] = {}
    for field in fields:
        values = values_of(rows, field.name)
        if field.is_ragged:
            empty = np.empty((0, *field.shape), dtype=field.numpy_dtype)
            tensors[f"{field.name}.values"] = np.concatenate([empty, *values])
            tensors[f"{field.name}.offsets"] = np.cumsum([0, *(len(value) for value in values)], dtype=np.int64)
        else:
            tensors[field.name] = np.array(values, dtype=field.numpy_dtype).reshape(-1, *field.shape)
    columns = {
        "ids": [row.id for row in rows],
        "digests": [row.digest for row in rows],
        "statuses": [row.status for row in rows],
    }
    name = f"{piece:06d}.safetensors"
    # One key only: several come out in another order each time.
    (folder / name).write_bytes(save(tensors, {"rows": json.dumps(columns, ensure_ascii=False)}))
    return [name]


def _opened(path: Path) -> Any:
    return safe_open(path, framework="np")  # which has no types


class SafetensorsRows:
    """One safetensors file, mapped; see `RowFile`."""

    def __init__(self, path: Path, fields: Sequence[Field]) -> None:
        self._path = path
        self._fields = fields
        try:
            with reading(path):
                self._file = _opened(path)
            columns = json.loads(self._file.metadata()["rows"])
            self._records: list[RowRecord] = list(zip(*(columns[name] for name in _COLUMNS), strict=True))
            self._check()
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise BadSource(
                f"{path}: not a safetensors file of an export ({error}). Copy or export it again"
            ) from error

    def records(self) -> list[RowRecord]:
        return self._records

    def read(self, place: int) -> Mapping[str, Array]:
        row = self._value_index[place]
        return {field.name: self._value(field, row) for field in self._fields}

    def _value(self, field: Field, row: int) -> Array:
        if not field.is_ragged:
            value: Array = self._file.get_slice(field.name)[row : row + 1]
            return value.reshape(field.shape)
        start, stop = self._offsets[field.name][row : row + 2]
        if start == stop:
            return np.empty((0, *field.shape), dtype=field.numpy_dtype)
        elements: Array = self._file.get_slice(f"{field.name}.values")[int(start) : int(stop)]
        return elements

    def _check(self) -> None:
        """Every tensor is there with the dtype and shape that the rows ask for."""
        has_values = [status == "ok" for _, _, status in self._records]
        self._value_index = (np.cumsum(has_values) - 1).tolist()
        self._offsets: dict[str, Array] = {}
        found = set(self._file.keys())
        for field in self._fields:
            if field.is_ragged:
                offsets = f"{field.name}.offsets"
                self._expect(offsets, "I64", (sum(has_values) + 1,), found)
                self._offsets[field.name] = self._file.get_tensor(offsets)
                if self._offsets[field.name][0] != 0 or (np.diff(self._offsets[field.name]) < 0).any():
                    raise ValueError(f"{offsets} do not rise from 0")
                count = int(self._offsets[field.name][-1])
                self._expect(f"{field.name}.values", _DTYPES[field.dtype], (count, *field.shape), found)
            else:
                self._expect(field.name, _DTYPES[field.dtype], (sum(has_values), *field.shape), found)
        if found:
            raise ValueError(f"tensors that no field has: {', '.join(sorted(found))}")

    def _expect(self, name: str, dtype: str, shape: tuple[int, ...], found: set[str]) -> None:
        tensor: Any = self._file.get_slice(name)
        if tensor.get_dtype() != dtype or tuple(tensor.get_shape()) != shape:
            raise ValueError(f"{name} is {tensor.get_dtype()} {tensor.get_shape()}, expected {dtype} {shape}")
        found.discard(name)
