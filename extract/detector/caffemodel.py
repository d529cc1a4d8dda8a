"""Reads the arrays of a .caffemodel, which is a protocol buffer, without its library: only the five messages it needs.

Every length is checked against the file before anything is taken. Knows nothing of any network.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentifuse.extract.errors import ModelMismatch

__all__ = ["read_caffemodel"]

# Field numbers of caffe.proto: layers of the current and of the first format.
NET_LAYER, NET_LAYER_V1 = 100, 2
LAYER_NAME, LAYER_BLOBS = 1, 7
LAYER_V1_NAME, LAYER_V1_BLOBS = 4, 6
BLOB_SIDES = (1, 2, 3, 4)  # num, channels, height, width: how shapes were written at first
BLOB_DATA, BLOB_SHAPE, BLOB_DOUBLE = 5, 7, 8
SHAPE_DIM = 1
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Array = npt.NDArray[Any]


class _Torn(Exception):
    """The bytes end, or say something that a protocol buffer cannot."""


def read_caffemodel(file: Path) -> dict[str, list[Array]]:
    """Arrays of each layer by its name, in order; layers without arrays are left out.

    Raises
    ------
    ModelMismatch
        Not such a file, or cut off: says at which byte.
    """
    data = memoryview(file.read_bytes())
    layers: dict[str, list[Array]] = {}
    try:
        for number, value in _fields(data, 0, len(data)):
            if number == NET_LAYER and isinstance(value, tuple):
                name, blobs = _layer(data, value, LAYER_NAME, LAYER_BLOBS)
            elif number == NET_LAYER_V1 and isinstance(value, tuple):
                name, blobs = _layer(data, value, LAYER_V1_NAME, LAYER_V1_BLOBS)
            else:
                continue
            if blobs:
                layers[name] = blobs
    except (_Torn, UnicodeDecodeError) as error:
        raise ModelMismatch(f"{file}: not a Caffe model, or a torn one ({error}); fetch it again") from error
    if not layers:
        raise ModelMismatch(f"{file}: a Caffe model without a layer that has weights (is it a description only?)")
    return layers


def _layer(data: memoryview, span: tuple[int, int], name_field: int, blob_field: int) -> tuple[str, list[Array]]:
    name, blobs = "", []
    for number, value in _fields(data, *span):
        if number == name_field and isinstance(value, tuple):
            name = bytes(data[slice(*value)]).decode()
        elif number == blob_field and isinstance(value, tuple):
            blobs.append(_blob(data, value))
    return name, blobs


def _blob(data: memoryview, span: tuple[int, int]) -> Array:
    sides: dict[int, int] = {}
    shape: list[int] | None = None
    pieces: list[Array] = []
    for number, value in _fields(data, *span):
        if number in BLOB_SIDES and isinstance(value, int):
            sides[number] = value
        elif number == BLOB_SHAPE and isinstance(value, tuple):
            shape = list(_dimensions(data, value))
        elif number in (BLOB_DATA, BLOB_DOUBLE):
            pieces.append(_numbers(data, value, "<f4" if number == BLOB_DATA else "<f8"))
    flat = np.concatenate(pieces) if pieces else np.empty(0, dtype="<f4")
    if shape is None:
        shape = [sides.get(number, 1) for number in BLOB_SIDES] if sides else [len(flat)]
    if int(np.prod(shape, dtype=object)) != len(flat):
        raise _Torn(f"an array of shape {tuple(shape)} with {len(flat)} numbers")
    return flat.reshape(shape)


def _dimensions(data: memoryview, span: tuple[int, int]) -> Iterator[int]:
    for number, value in _fields(data, *span):
        if number != SHAPE_DIM:
            continue
        if isinstance(value, int):
            yield value
            continue
        at, end = value
        while at < end:
            side, at = _varint(data, at, end)
            yield side


def _numbers(data: memoryview, value: int | tuple[int, int], dtype: str) -> Array:
    """Packed numbers, or a single one as old writers have it."""
    if isinstance(value, int):
        return np.frombuffer(value.to_bytes(np.dtype(dtype).itemsize, "little"), dtype=dtype)
    start, end = value
    if (end - start) % np.dtype(dtype).itemsize:
        raise _Torn(f"{end - start} bytes of {dtype} at byte {start}")
    return np.frombuffer(data[start:end], dtype=dtype)


def _fields(data: memoryview, at: int, end: int) -> Iterator[tuple[int, int | tuple[int, int]]]:
    """Field numbers with their values: an integer, or where the bytes lie."""
    while at < end:
        start = at
        key, at = _varint(data, at, end)
        number, kind = key >> 3, key & 7
        value: int | tuple[int, int]
        if kind == VARINT:
            value, at = _varint(data, at, end)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
            _check_room(at, size, end)
            value, at = int.from_bytes(data[at : at + size], "little"), at + size
        elif kind == BYTES:
            size, at = _varint(data, at, end)
            _check_room(at, size, end)
            value, at = (at, at + size), at + size
        else:
            raise _Torn(f"a field of kind {kind} at byte {start}")
        if number == 0:
            raise _Torn(f"a field without number at byte {start}")
        yield number, value


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        _check_room(at, 1, end)
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Torn(f"a number of more than ten bytes before byte {at}")


def _check_room(at: int, size: int, end: int) -> None:
    if at + size > end:
        raise _Torn(f"{size:,} bytes expected at byte {at:,}, {end - at:,} are left")
