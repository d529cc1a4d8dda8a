"""Reads the arrays of a .caffemodel, which is a protocol buffer, without its library: only the five messages it needs.

Every length is checked against the file before anything is taken, and the arrays are views of the mapped file: what it
claims costs no memory. Knows nothing of any network.
"""

import mmap
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
NUMBERS = {BLOB_DATA: "<f4", BLOB_DOUBLE: "<f8"}
SHAPE_DIM = 1
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
UNKNOWN = "none of the known layouts (safetensors, torch, pickle, Caffe), or the mere beginning of a Caffe model"
MAX_ARRAYS = 16  # of a layer; those of Caffe have three at most
MAX_SIDES = 32  # of an array; Caffe's own limit

Array = npt.NDArray[Any]


class _Torn(Exception):
    """The bytes end, or say something that a protocol buffer cannot."""


def read_caffemodel(file: Path) -> dict[str, list[Array]]:
    """Arrays of each layer by its name, in order; layers without arrays are left out.

    The arrays cannot be written to, and are good as long as the file stays as it is.

    Raises
    ------
    ModelMismatch
        Not such a file, or cut off: says at which byte.
    """
    try:
        with file.open("rb") as stream:
            data = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise ModelMismatch(f"{file}: cannot be read ({error})") from error
    layers: dict[str, list[Array]] = {}
    is_net = False  # anything that is nothing else is tried here; a layer says that it is a network
    try:
        for number, value in _fields(data, 0, len(data)):
            if number == NET_LAYER and isinstance(value, tuple):
                name, blobs = _layer(data, value, LAYER_NAME, LAYER_BLOBS)
            elif number == NET_LAYER_V1 and isinstance(value, tuple):
                name, blobs = _layer(data, value, LAYER_V1_NAME, LAYER_V1_BLOBS)
            else:
                continue
            is_net = is_net or bool(name)
            if name in layers and blobs:
                raise _Torn(f"two layers {name!r} with arrays")
            if blobs:
                layers[name] = blobs
    except (_Torn, UnicodeDecodeError) as error:
        what = "a torn Caffe model" if is_net else UNKNOWN
        raise ModelMismatch(f"{file}: {what} ({error}); fetch it again") from error
    if not is_net:
        raise ModelMismatch(f"{file}: {UNKNOWN}; fetch it again")
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
            if len(blobs) > MAX_ARRAYS:
                raise _Torn(f"more than {MAX_ARRAYS} arrays in one layer")
    return name, blobs


def _blob(data: memoryview, span: tuple[int, int]) -> Array:
    sides: dict[int, int] = {}
    shape: list[int] | None = None
    packed: list[Array] = []
    singles = bytearray()  # old writers give numbers one by one
    fields = set()
    for number, value in _fields(data, *span):
        if number in BLOB_SIDES and isinstance(value, int):
            sides[number] = value
        elif number == BLOB_SHAPE and isinstance(value, tuple):
            shape = _dimensions(data, value)
        elif number in NUMBERS:
            fields.add(number)
            if isinstance(value, int):
                singles += _single(value, NUMBERS[number])
            else:
                packed.append(_packed(data, value, NUMBERS[number]))
            if len(packed) > MAX_ARRAYS or len(fields) > 1 or (singles and packed):
                raise _Torn("an array in several pieces")
    flat = np.frombuffer(singles, dtype=NUMBERS[fields.pop()]) if singles else _joined(packed)
    if shape is None:
        shape = [sides.get(number, 1) for number in BLOB_SIDES] if sides else [len(flat)]
    if int(np.prod(shape, dtype=object)) != len(flat):
        raise _Torn(f"an array of shape {tuple(shape)} with {len(flat)} numbers")
    try:
        return flat.reshape(shape)
    except (ValueError, OverflowError) as error:  # no number at all, but a side larger than any memory
        raise _Torn(f"an array of shape {tuple(shape)}") from error


def _joined(pieces: list[Array]) -> Array:
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate(pieces) if pieces else np.empty(0, dtype="<f4")


def _dimensions(data: memoryview, span: tuple[int, int]) -> list[int]:
    sides: list[int] = []
    for number, value in _fields(data, *span):
        if number != SHAPE_DIM:
            continue
        if isinstance(value, int):
            sides.append(value)
        else:
            at, end = value
            while at < end and len(sides) <= MAX_SIDES:
                side, at = _varint(data, at, end)
                sides.append(side)
        if len(sides) > MAX_SIDES:
            raise _Torn(f"an array with more than {MAX_SIDES} sides")
    return sides


def _single(value: int, dtype: str) -> bytes:
    size_bytes = np.dtype(dtype).itemsize
    if value >> (8 * size_bytes):
        raise _Torn(f"a number of more than {size_bytes} bytes")
    return value.to_bytes(size_bytes, "little")


def _packed(data: memoryview, value: tuple[int, int], dtype: str) -> Array:
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
