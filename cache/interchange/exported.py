"""A source that is an export of this program, whatever its format: rows come back as they were, or are refused."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np

from sentifuse.cache.errors import BadSource
from sentifuse.cache.interchange.header import read_header
from sentifuse.cache.interchange.source import ImportOptions, RowRecord, refuse_repeated
from sentifuse.cache.spec import Array, Field, Row

__all__ = ["ExportedSource", "RowFile", "WriteRows", "values_of"]

# (folder, number of the piece, fields, its rows) -> names of the files that list the rows
WriteRows = Callable[[Path, int, Sequence[Field], Sequence[Row]], list[str]]


class RowFile(Protocol):
    """One file of an export, opened: its rows, and their values by place."""

    def records(self) -> list[RowRecord]:
        """Id, digest and status of every row. Raises BadSource."""

    def read(self, place: int) -> Mapping[str, Array]:
        """The values of a row that has some. Raises BadSource."""


class ExportedSource:
    """All files of an export as one source; see `Source`. One file is open at a time.

    Parameters
    ----------
    folder : Path
    layout : str
        The format's name, as in export.json.
    open_file : function (path, fields) -> RowFile
    options : ImportOptions
        None is of use: an export knows all about itself.
    """

    def __init__(
        self,
        folder: Path,
        layout: str,
        open_file: Callable[[Path, Sequence[Field]], RowFile],
        options: ImportOptions,
    ) -> None:
        options.refuse_others(f"an export of this program ({layout})", ())
        self.options = options
        self.header = read_header(folder, layout)
        self.fields = self.header.fields
        self.sha256 = ""  # not needed: the recipe comes with the features
        self.records: list[RowRecord] = []
        self._folder = folder
        self._open_file = open_file
        self._current: tuple[int, RowFile] | None = None
        for number, file in enumerate(self.header.files):
            records = self._opened(number).records()
            if len(records) != file.rows:
                raise BadSource(f"{folder / file.file}: {len(records)} rows, export.json says {file.rows}")
            self.records += records
        self._ends = list(accumulate(file.rows for file in self.header.files))
        self.ids = [row_id for row_id, _, _ in self.records]
        refuse_repeated(self.ids, folder)

    def read(self, number: int) -> Mapping[str, Array]:
        """The values of a row with status "ok", of exactly the fields' dtypes and shapes."""
        file = bisect_right(self._ends, number)
        start = self._ends[file - 1] if file else 0
        return self._opened(file).read(number - start)

    def _opened(self, number: int) -> RowFile:
        if self._current is None or self._current[0] != number:
            self._current = (number, self._open_file(self._folder / self.header.files[number].file, self.fields))
        return self._current[1]


def values_of(rows: Sequence[Row], name: str) -> list[Array]:
    """A field's values of those rows that have some."""
    return [np.asarray(row.values[name]) for row in rows if row.values is not None]
