"""One `.npy` array, rows first, with a text file of ids beside it. Mapped: a row is read when asked for."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sentifuse import ConfigError
from sentifuse.cache.errors import BadSource, reading
from sentifuse.cache.interchange.arrays import read_npy_header
from sentifuse.cache.interchange.source import (
    ImportOptions,
    RowRecord,
    Source,
    field_of,
    refuse_repeated,
    source_digest,
    storable,
)
from sentifuse.cache.spec import Array

__all__ = ["NpySource", "open_source"]


def open_source(path: Path, options: ImportOptions) -> Source:
    """An array of shape (rows, …) and its ids. Raises BadSource, Unreadable, ConfigError."""
    return NpySource(path, options)


class NpySource:
    """The rows of the array; see `Source`. The field is `vector` where a row is one vector, else `grid`."""

    def __init__(self, path: Path, options: ImportOptions) -> None:
        options.refuse_others("npy", ("dtype", "ids_file", "id_prefix", "arrays"))
        if options.ids_file is None:
            raise ConfigError(
                "--ids: not given; an .npy file has no ids of its own. Name a text file with one id a line"
            )
        self.options = options
        self.header = None
        self.records: tuple[RowRecord, ...] = ()
        self._path = path
        self._array = _map(path)
        self.ids = [(options.id_prefix or "") + row_id for row_id in _read_ids(options.ids_file)]
        if len(self.ids) != len(self._array):
            raise BadSource(
                f"{options.ids_file}: {len(self.ids):,} ids for the {len(self._array):,} rows of {path}; expected one "
                "id for each row, in the order of the rows"
            )
        refuse_repeated(self.ids, options.ids_file)
        self.sha256 = source_digest([("array", path), ("ids", options.ids_file)])
        self._name = _field_name(options, "vector" if self._array.ndim == 2 else "grid")
        self.fields = (field_of(self._name, self.read(0)[self._name], is_ragged=False),)

    def read(self, number: int) -> Mapping[str, Array]:
        """One row of the array."""
        row = np.array(self._array[number])
        return {self._name: storable(row, self.options.dtype, str(self._path))}


def _field_name(options: ImportOptions, default: str) -> str:
    if not options.arrays:
        return default
    names = [name for name, _ in options.arrays]
    if len(names) > 1 or options.arrays[0][1] != names[0]:
        raise ConfigError(
            "--field: an .npy file holds one array without a name; say just how to call it, such as vector"
        )
    return names[0]


def _map(path: Path) -> Array:
    with reading(path):
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            shape, is_fortran, dtype, start = read_npy_header(file, str(path))
    if dtype.hasobject or not shape or shape[0] == 0:
        raise BadSource(f"{path}: dtype {dtype}, shape {shape}; expected an array of numbers with a row for each id")
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size_bytes - start != expected:
        raise BadSource(
            f"{path}: {size_bytes - start:,} bytes of values, its header says {expected:,}. Was it cut short?"
        )
    if expected == 0:
        return np.empty(shape, dtype=dtype)  # nothing to map
    with reading(path):
        return np.memmap(path, dtype=dtype, mode="r", offset=start, shape=shape, order="F" if is_fortran else "C")


def _read_ids(path: Path) -> list[str]:
    with reading(path):
        content = path.read_bytes()
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadSource(f"{path}: not UTF-8 ({error}); expected a text file with one id a line") from error
    blank = [number for number, line in enumerate(lines, start=1) if not line.strip()]
    if blank:
        raise BadSource(f"{path}: line {blank[0]:,} is blank; expected one id a line")
    return [line.strip() for line in lines]
