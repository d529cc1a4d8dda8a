"""Bottom-up-attention TSV: one image a line, arrays in base64. Reads a line at a time, by its place in the file.

Two layouts are told apart by the number of columns: six as peteanderson80's bottom-up-attention writes them, ten as
LXMERT does, which adds objects and attributes. VinVL's two files with JSON inside are not read.
"""

# Shapes: R regions of an image, D features of a region.

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sentifuse.cache.errors import BadSource, BadSourceRow, reading
from sentifuse.cache.interchange.regions import EXTRAS, Detections, region_fields, region_values
from sentifuse.cache.interchange.source import ImportOptions, RowRecord, Source, refuse_repeated, source_digest
from sentifuse.cache.spec import Array, Field

__all__ = ["TsvSource", "open_source"]

_SHORT = ("id", "width", "height", "count", "boxes", "features")
_LONG = ("id", "height", "width", *("object_ids", "object_scores", "attribute_ids", "attribute_scores"))
_LAYOUTS = {len(names): names for names in (_SHORT, (*_LONG, "count", "boxes", "features"))}
_EXTRA_DTYPES = {"object_ids": "<i8", "object_scores": "<f4", "attribute_ids": "<i8", "attribute_scores": "<f4"}

MAX_LINE_BYTES = 256 << 20  # 100 regions of 2,048 features are 1.1 MB


def open_source(path: Path, options: ImportOptions) -> Source:
    """The images of a TSV file. Raises BadSource, Unreadable."""
    return TsvSource(path, options)


class TsvSource:
    """The lines of the file; see `Source`. Only ids and places are kept in memory."""

    def __init__(self, path: Path, options: ImportOptions) -> None:
        options.refuse_others("tsv", ("dtype", "id_prefix"))
        self.options = options
        self.header = None
        self.records: tuple[RowRecord, ...] = ()
        self._path = path
        self._starts: list[int] = []
        self.ids = self._find_lines()
        refuse_repeated(self.ids, path)
        self.sha256 = source_digest([(".", path)])
        self.fields: tuple[Field, ...] = ()
        self.fields = region_fields(self._first())

    def read(self, number: int) -> Mapping[str, Array]:
        """The fields of one image: features, boxes and what else the line has."""
        with reading(self._path), self._path.open("rb") as file:
            file.seek(self._starts[number])
            line = file.readline(MAX_LINE_BYTES)
        columns = self._columns(line, number)
        where = f"{self._path}: line {number + 1:,}, id {columns['id'].decode('utf-8', 'replace')!r}"
        sizes = {name: _whole(columns[name], f"{where}: {name}") for name in ("width", "height", "count")}
        count = sizes["count"]
        width = self.fields[0].shape[0] if self.fields else -1  # of the first image; one detector has one width
        found = {
            name: _numbers(columns[name], _EXTRA_DTYPES[name], (count,), f"{where}: {name}")
            for name in EXTRAS
            if name in columns
        }
        detections = Detections(
            features=_numbers(columns["features"], "<f4", (count, width), f"{where}: features"),
            boxes=_numbers(columns["boxes"], "<f4", (count, 4), f"{where}: boxes"),
            size=(sizes["width"], sizes["height"]),
            extras=found,
        )
        return region_values(detections, self.options.dtype, where)

    def _first(self) -> Mapping[str, Array]:
        """The first image with regions: without any nobody knows how wide features are."""
        for number, start in enumerate(self._starts):
            with reading(self._path), self._path.open("rb") as file:
                file.seek(start)
                columns = self._columns(file.readline(MAX_LINE_BYTES), number)
            if columns["count"].strip(b" 0"):
                return self.read(number)
        raise BadSource(f"{self._path}: no image has any region")

    def _find_lines(self) -> list[str]:
        ids: list[str] = []
        start = 0
        with reading(self._path), self._path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES):
                if len(line) == MAX_LINE_BYTES:
                    raise BadSource(f"{self._path}: line {len(ids) + 1:,} is longer than {MAX_LINE_BYTES >> 20} MiB")
                columns = self._columns(line, len(ids))
                ids.append((self.options.id_prefix or "") + columns["id"].decode("utf-8", errors="replace").strip())
                self._starts.append(start)
                start += len(line)
        if not ids:
            raise BadSource(f"{self._path}: empty, expected one image a line")
        return ids

    def _columns(self, line: bytes, number: int) -> dict[str, bytes]:
        parts = line.rstrip(b"\r\n").split(b"\t")
        if len(parts) not in _LAYOUTS or not parts[0].strip():
            raise BadSource(
                f"{self._path}: line {number + 1:,} has {len(parts)} columns, expected 6 ({', '.join(_SHORT)}) or 10 "
                "(with objects and attributes). Was the file cut short?"
            )
        return dict(zip(_LAYOUTS[len(parts)], parts, strict=True))


def _whole(text: bytes, where: str) -> int:
    if not text.strip().isdigit() or len(text) > 18:
        raise BadSourceRow(f"{where}: {text[:40]!r}, expected a whole number")
    return int(text)


def _numbers(text: bytes, dtype: str, shape: tuple[int, int] | tuple[int], where: str) -> Array:
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise BadSourceRow(f"{where}: no base64 ({error}). Was the file cut or changed on the way?") from error
    try:
        return np.frombuffer(content, dtype=dtype).reshape(shape)
    except ValueError as error:
        raise BadSourceRow(f"{where}: {len(content):,} bytes for {shape[0]} regions ({error})") from error
