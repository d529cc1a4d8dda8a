"""Feature pickles of the multimodal-sentiment toolkits: MMSA's, with splits inside, and CTMWA's, with a file a split.

Both are dicts of columns, `id` among them. A pickle cannot be read in pieces: the whole of it is in memory while it is
imported. It is read by the restricted unpickler only.
"""

# Shapes: N rows of a split, T steps of a sequence, D features.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sentifuse import ConfigError
from sentifuse.cache.errors import BadSource, BadSourceRow, reading
from sentifuse.cache.interchange.source import (
    ImportOptions,
    RowRecord,
    Source,
    field_of,
    id_text,
    refuse_repeated,
    source_digest,
    storable,
)
from sentifuse.cache.interchange.unpickle import read_pickle
from sentifuse.cache.spec import Array, Field

__all__ = ["PickleSource", "open_source"]

ID_COLUMN = "id"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Split:
    name: str
    where: str
    ids: list[str]
    columns: Mapping[str, Any]


def open_source(path: Path, options: ImportOptions) -> Source:
    """The rows of a pickle file, or of all `.pkl` files in a folder. Raises BadSource, Unreadable, ConfigError."""
    return PickleSource(path, options)


class PickleSource:
    """The rows of all splits, one split after the other; see `Source`."""

    def __init__(self, path: Path, options: ImportOptions) -> None:
        options.refuse_others("pickle", ("dtype", "id_prefix", "arrays", "lengths", "splits"))
        self.options = options
        self.header = None
        self.records: tuple[RowRecord, ...] = ()
        with reading(path):
            files = sorted(path.glob("*.pkl")) if path.is_dir() else [path]
        if not files:
            raise BadSource(f"{path}: no .pkl files there")
        splits = [split for file in files for split in _splits_of(file, options)]
        self._splits = _chosen(splits, options.splits, path)
        self._check_columns()
        self._places = [(split, row) for split in self._splits for row in range(len(split.ids))]
        self.ids = [(options.id_prefix or "") + row_id for split in self._splits for row_id in split.ids]
        refuse_repeated(self.ids, path)
        self.sha256 = source_digest((file.name if path.is_dir() else ".", file) for file in files)
        self._ragged = {column: self._is_ragged(column) for _, column in options.arrays}
        self.fields = self._fields()

    def read(self, number: int) -> Mapping[str, Array]:
        """The chosen columns of one row; of a sequence only the real steps where lengths were named."""
        split, row = self._places[number]
        where = f"{split.where}, id {split.ids[row]!r}"
        values = {}
        for name, column in self.options.arrays:
            value = _plain(split.columns[column][row], f"{where}: {column}")
            if self.options.lengths is not None:
                value = _cut(value, split.columns[self.options.lengths][row], f"{where}: {column}")
            elif value.ndim == 2 and len(value) == 1 and not self._ragged[column]:
                value = value[0]  # (1, D) as some files have it is one vector: no value changes
            values[name] = storable(value, self.options.dtype, f"{where}: {column}")
        return values

    def _fields(self) -> tuple[Field, ...]:
        first = self.read(0)
        return tuple(
            field_of(name, first[name], is_ragged=self._ragged[column]) for name, column in self.options.arrays
        )

    def _is_ragged(self, column: str) -> bool:
        """Whether rows differ in their first axis, or are cut to lengths of their own."""
        if self.options.lengths is not None:
            return True
        rows = [row for split in self._splits for row in _rows_that_differ(split.columns[column])]
        return (
            len({len(row) for row in rows if isinstance(row, list) or (isinstance(row, np.ndarray) and row.ndim)}) > 1
        )

    def _check_columns(self) -> None:
        """Every split has every column that was asked for, as long as its ids."""
        if not self.options.arrays:
            known = ", ".join(sorted({name for split in self._splits for name in split.columns} - {ID_COLUMN}))
            raise ConfigError(f"--field: say which array becomes which field, such as vector=image; there are: {known}")
        if self.options.lengths is not None and len(self.options.arrays) > 1:
            raise ConfigError("--lengths: of use for one --field only; import the others by themselves")
        wanted = [column for _, column in self.options.arrays]
        for split in self._splits:
            for column in [*wanted, *([self.options.lengths] if self.options.lengths else [])]:
                if column not in split.columns:
                    there = ", ".join(sorted(split.columns))
                    raise BadSource(f"{split.where}: no array {column!r}; there are: {there}")
                rows = _length(split.columns[column], f"{split.where}: {column}")
                if rows != len(split.ids):
                    raise BadSource(f"{split.where}: {rows:,} rows in {column!r} for {len(split.ids):,} ids")


def _splits_of(file: Path, options: ImportOptions) -> list[_Split]:
    content = read_pickle(file)
    if isinstance(content, dict) and ID_COLUMN in content:
        parts = {file.stem.rpartition("_")[0] or file.stem: content}  # CTMWA: train_1.pkl
    elif isinstance(content, dict) and content and all(isinstance(part, dict) for part in content.values()):
        parts = {str(name): part for name, part in content.items()}  # MMSA
    else:
        raise BadSource(
            f"{file}: expected a dict with a column {ID_COLUMN!r}, or a dict of such dicts (train, valid, test); found "
            f"{_described(content)}"
        )
    return [
        _split(name, part, f"{file}: {name}")
        for name, part in parts.items()
        if not options.splits or name in options.splits
    ]


def _split(name: str, columns: Mapping[Any, Any], where: str) -> _Split:
    if ID_COLUMN not in columns:
        raise BadSource(f"{where}: no column {ID_COLUMN!r}; there are: {', '.join(sorted(map(str, columns)))}")
    _length(columns[ID_COLUMN], f"{where}: {ID_COLUMN}")
    ids = [id_text(value, f"{where}: {ID_COLUMN}") for value in columns[ID_COLUMN]]
    return _Split(name=name, where=where, ids=ids, columns={str(key): value for key, value in columns.items()})


def _chosen(splits: Sequence[_Split], names: Sequence[str], path: Path) -> list[_Split]:
    absent = [name for name in names if name not in {split.name for split in splits}]
    if absent:
        raise ConfigError(f"--splits: {path} has none called {', '.join(absent)}")
    if not any(split.ids for split in splits):
        raise BadSource(f"{path}: no rows")
    return list(splits)


def _length(column: Any, where: str) -> int:
    if not isinstance(column, (list, tuple, np.ndarray)) or (isinstance(column, np.ndarray) and column.ndim == 0):
        raise BadSource(f"{where}: {_described(column)}, expected an array or a list with one value a row")
    return len(column)


def _rows_that_differ(column: Any) -> Any:
    """All rows of a list; one of an array, whose rows are alike."""
    return column[:1] if isinstance(column, np.ndarray) and column.dtype != object else column


def _plain(value: Any, where: str) -> Array:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise BadSourceRow(f"{where}: a list of lists that differ in length") from error
    if array.dtype.kind not in "biuf":
        raise BadSourceRow(f"{where}: {_described(value)}, expected numbers")
    return array


def _cut(value: Array, length: Any, where: str) -> Array:
    """The real steps of a padded sequence; what is cut off must be padding."""
    if not isinstance(length, (int, np.integer)) or value.ndim < 1 or not 0 <= length <= len(value):
        raise BadSourceRow(f"{where}: length {length!r} for shape {value.shape}")
    if value[length:].any():
        raise BadSourceRow(f"{where}: length {length}, but steps after it are not zero: these are not its lengths")
    return value[:length]


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    return f"a {type(value).__name__}" + (
        f" with {', '.join(map(str, list(value)[:8]))}" if isinstance(value, dict) else ""
    )
