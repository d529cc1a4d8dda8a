"""Arrays in numpy's own file format, read from bytes without ever building an object. Knows neither zip nor tar."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from sentifuse.cache.errors import BadSourceRow, CacheError
from sentifuse.cache.interchange.unpickle import load_pickle
from sentifuse.cache.spec import Array

__all__ = ["MAX_VALUE_BYTES", "npy_bytes", "read_npy", "read_npy_header"]

MAX_VALUE_BYTES = 256 << 20  # of one value of one row; the largest known (a 14 x 14 grid of 2,048 float32) is 1.6 MB

_READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def npy_bytes(value: Array) -> bytes:
    """An array as the bytes of a `.npy` file. Raises CacheError for one too large to be read again."""
    if value.nbytes > MAX_VALUE_BYTES - 4096:  # less the header
        raise CacheError(
            f"a value of {value.nbytes:,} bytes; expected fewer than {MAX_VALUE_BYTES:,} in a file of its own"
        )
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(value), version=(1, 0), allow_pickle=False)
    return file.getvalue()


def read_npy(content: bytes, where: str) -> Array:
    """The array in the bytes of a `.npy` file, as a read-only view of them.

    An array of objects is read by the restricted unpickler, so it comes back only if it holds arrays and containers.

    Raises
    ------
    BadSourceRow
        No such file, cut short, or of another size than its header says.
    BadSource
        Objects that are more than data.
    """
    shape, is_fortran, dtype, start = read_npy_header(io.BytesIO(content), where)
    if dtype.hasobject:
        value = load_pickle(io.BytesIO(content[start:]), Path(where))
        if not isinstance(value, np.ndarray):
            raise BadSourceRow(f"{where}: holds a pickled {type(value).__name__}, expected an array")
        return value
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(content) - start != expected:
        raise BadSourceRow(f"{where}: {len(content) - start:,} bytes of values, its header says {expected:,}")
    flat = np.frombuffer(content, dtype=dtype, offset=start)
    return flat.reshape(shape, order="F" if is_fortran else "C")


def read_npy_header(
    file: io.BytesIO | io.BufferedReader, where: str
) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether the first axis runs fastest, dtype, and where the values start."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in _READ_HEADER:
            raise ValueError(f"version {version} of the format, expected 1.0 or 2.0")
        shape, is_fortran, dtype = _READ_HEADER[version](file)
    except (ValueError, SyntaxError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        raise BadSourceRow(f"{where}: not an array in numpy's format ({error})") from error
    if dtype.kind not in "biufSUO" or dtype.subdtype is not None or any(side < 0 for side in shape):
        raise BadSourceRow(f"{where}: dtype {dtype}, shape {shape}; expected an array of plain numbers")
    return shape, is_fortran, dtype, file.tell()
