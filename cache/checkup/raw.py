"""Bytes and columns of a shard file read at given places, whatever state the file is in. Knows no HDF5 and no proof."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sentifuse.cache.spec import Array

__all__ = ["RawFile", "decoded", "encoded"]


class RawFile:
    """Bytes of a file at given places; fewer where the file ends, none where there is no file."""

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = None
        self.size_bytes = 0
        self.bytes_read = 0
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
            self.size_bytes = os.fstat(self._descriptor).st_size
        except OSError:
            pass

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """What there is of these bytes, by ordinary reading: a mapped page that cannot be read kills the process."""
        size_bytes = min(size_bytes, self.size_bytes - offset_bytes)
        if self._descriptor is None or size_bytes <= 0:
            return b""
        try:
            content = os.pread(self._descriptor, size_bytes, offset_bytes)
        except OSError:  # a bad sector
            return b""
        self.bytes_read += len(content)
        return content

    def close(self) -> None:
        """Close the file; nothing happens when it is closed."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def decoded(column: Array) -> list[str | None]:
    """The texts of a column; None for bytes that are no UTF-8."""
    return [_utf8(value) for value in column.tolist()]


def _utf8(value: bytes) -> str | None:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def encoded(texts: Sequence[str | None], width_bytes: int) -> Array:
    """A column of these texts. One that is too long for it was never in it and must not fit when cut: it goes."""
    texts_utf8 = [(text or "").encode("utf-8") for text in texts]
    return np.array([text if len(text) <= width_bytes else b"" for text in texts_utf8], dtype=f"S{width_bytes}")
