"""A Caffe model is read as it says, or refused with the byte at which it goes wrong; nothing else comes out."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentifuse.extract.detector.checkpoints.caffemodel import read_caffemodel
from sentifuse.extract.errors import ModelMismatch

MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)


def layer(written: Any, blob: bytes, name: bytes = b"fc") -> bytes:
    return bytes(written.field(100, written.field(1, name) + written.field(7, blob)))


def shape(written: Any, *sides: int) -> bytes:
    return bytes(written.field(7, written.field(1, b"".join(written.varint(side) for side in sides))))


@pytest.mark.parametrize("is_old", [False, True])
def test_arrays_come_back_by_layer_and_number(is_old: bool, written: Any, tmp_path: Path) -> None:
    (tmp_path / "net").write_bytes(written.caffemodel({"fc": [MATRIX, MATRIX[0]], "conv": [MATRIX]}, is_old=is_old))
    layers = read_caffemodel(tmp_path / "net")
    assert list(layers) == ["fc", "conv"]
    assert np.array_equal(layers["fc"][0].reshape(2, 3), MATRIX)
    assert layers["fc"][1].size == 3


def test_numbers_one_by_one_and_doubles_are_read(written: Any, tmp_path: Path) -> None:
    singles = b"".join(written.varint(5 << 3 | 5) + struct.pack("<f", value) for value in (1.5, -2.0))
    doubles = written.field(8, struct.pack("<2d", 0.1, 0.2))
    content = layer(written, singles, b"a") + layer(written, shape(written, 2, 1) + doubles, b"b")
    (tmp_path / "net").write_bytes(content)
    layers = read_caffemodel(tmp_path / "net")
    assert layers["a"][0].tolist() == [1.5, -2.0]
    assert layers["b"][0].tolist() == [[0.1], [0.2]]


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (lambda w: shape(w, 2, 2) + w.field(5, b"\0" * 12), r"shape \(2, 2\) with 3 numbers"),
        (lambda w: shape(w, 2**40) + w.field(5, b"\0" * 12), "with 3 numbers"),
        (lambda w: shape(w, 0, 2**62), r"an array of shape \(0, "),
        (lambda w: shape(w, *[1] * 40) + w.field(5, b"\0" * 4), "more than 32 sides"),
        (lambda w: w.field(5, b"\0" * 7), "7 bytes of <f4"),
        (lambda w: w.field(5, b"\0" * 4) * 20, "several pieces"),
        (lambda w: w.field(5, b"\0" * 4) + w.field(8, b"\0" * 8), "several pieces"),
        (lambda w: w.varint(5 << 3) + w.varint(2**40), "a number of more than 4 bytes"),
        (lambda w: w.field(5, b"\0" * 40)[:20], "the mere beginning of a Caffe model"),
        (lambda w: b"\xff" * 12, "more than ten bytes"),
    ],
    ids=[
        "fewer numbers", "huge", "huge but empty", "many sides", "half a number", "many pieces", "two kinds",
        "a large number", "cut off", "no field",
    ],
)  # fmt: skip
def test_what_an_array_claims_is_checked(blob: Any, message: str, written: Any, tmp_path: Path) -> None:
    (tmp_path / "net").write_bytes(layer(written, blob(written)))
    with pytest.raises(ModelMismatch, match=message):
        read_caffemodel(tmp_path / "net")


def test_a_layer_twice_and_one_with_too_many_arrays_are_refused(written: Any, tmp_path: Path) -> None:
    blob = shape(written, 1) + written.field(5, b"\0" * 4)
    (tmp_path / "net").write_bytes(layer(written, blob) * 2)
    with pytest.raises(ModelMismatch, match="two layers 'fc'"):
        read_caffemodel(tmp_path / "net")
    (tmp_path / "net").write_bytes(written.field(100, written.field(1, b"fc") + written.field(7, blob) * 20))
    with pytest.raises(ModelMismatch, match="more than 16 arrays"):
        read_caffemodel(tmp_path / "net")


def test_what_has_no_layer_is_not_called_a_caffe_model(written: Any, tmp_path: Path) -> None:
    for noise in (b"\xd3\x07\x9e" * 30, b"\x08\x01" * 40):  # no protocol buffer at all, and one of something else
        (tmp_path / "net").write_bytes(noise)
        with pytest.raises(ModelMismatch, match=r"none of the known layouts \(safetensors, torch, pickle, Caffe\)"):
            read_caffemodel(tmp_path / "net")
    (tmp_path / "net").write_bytes(written.caffemodel({"fc": [MATRIX], "conv": [MATRIX]})[:-3])
    with pytest.raises(ModelMismatch, match="a torn Caffe model"):
        read_caffemodel(tmp_path / "net")


def test_a_description_without_weights_is_named(written: Any, tmp_path: Path) -> None:
    (tmp_path / "net").write_bytes(written.field(100, written.field(1, b"fc")))
    with pytest.raises(ModelMismatch, match="without a layer that has weights"):
        read_caffemodel(tmp_path / "net")


@settings(
    derandomize=True, max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_damaged_byte_gives_arrays_or_the_named_error(data: Any, written: Any, tmp_path: Path) -> None:
    whole = bytearray(written.caffemodel({"fc": [MATRIX, MATRIX[0]], "conv": [MATRIX]}))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    (tmp_path / "net").write_bytes(whole[: data.draw(st.integers(1, len(whole)))])
    try:
        layers = read_caffemodel(tmp_path / "net")
    except ModelMismatch:
        return
    assert sum(array.size for arrays in layers.values() for array in arrays) <= 15
