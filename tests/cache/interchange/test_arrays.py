"""Arrays in numpy's format: the same numbers, or a refusal before anything is built."""

import io
from typing import Any

import numpy as np
import pytest

from sentifuse.cache.errors import BadSource, BadSourceRow, CacheError
from sentifuse.cache.interchange import arrays
from sentifuse.cache.interchange.arrays import npy_bytes, read_npy


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, value, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3)),
        np.array(7, dtype=np.int64),
        np.empty((0, 4), dtype=np.uint8),
        np.arange(3, dtype=">f8"),
    ],
)
def test_an_array_comes_back(value: arrays.Array) -> None:
    for content in (saved(value), npy_bytes(value)):
        found = read_npy(content, "x.npy")
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(found, value)


def test_an_array_of_objects_goes_through_the_restricted_unpickler() -> None:
    info = np.empty((), dtype=object)
    info[()] = {"image_id": "61", "conf": np.ones(2, np.float32)}
    found = read_npy(saved(info), "info.npy").item()
    assert found["image_id"] == "61"
    np.testing.assert_array_equal(found["conf"], [1, 1])
    info[()] = print
    with pytest.raises(BadSource, match=r"info\.npy: asks for builtins\.print"):
        read_npy(saved(info), "info.npy")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an array"),
        (saved(np.arange(4))[:40], "not an array"),
        (saved(np.arange(4))[:-1], "31 bytes of values, its header says 32"),
        (saved(np.arange(4)) + b"x", "33 bytes of values, its header says 32"),
        (saved(np.zeros(2, dtype=[("a", "f4")])), "plain numbers"),
        (saved(np.zeros(2, dtype="V2")), "plain numbers"),
        (saved(np.arange(4)).replace(b"(4,)", b"(9**9**9,)"), "not an array"),
        (saved(np.arange(4)).replace(b"(4,), } ", b"(-4,), }"), "plain numbers"),
        (saved(np.arange(4)).replace(b"\x93NUMPY\x01", b"\x93NUMPY\x03"), "version"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(BadSourceRow, match=message):
        read_npy(content, "x.npy")


def test_a_value_too_large_to_come_back_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MAX_VALUE_BYTES", 5000)
    with pytest.raises(CacheError, match="8,000 bytes"):
        npy_bytes(np.zeros(1000))
