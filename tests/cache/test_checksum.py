"""Laws of the checksums: known values, and nothing that matters can change without them."""

import numpy as np
import pytest

from sentifuse.cache.checksum import crc32c_of, pack, parse_json, row_crc32c, seal, unpack, unseal


def test_the_polynomial_is_castagnolis() -> None:
    assert crc32c_of(np.frombuffer(b"123456789", np.uint8)) == 0xE3069283  # RFC 3720's check value
    assert crc32c_of(np.zeros(32, np.uint8)) == 0x8A9136AA  # RFC 3720, B.4


def test_the_sum_goes_on_over_pieces_and_does_not_depend_on_the_order_in_memory() -> None:
    values = np.arange(12, dtype="<i4").reshape(3, 4)
    assert crc32c_of(values[2:], crc32c_of(values[:2])) == crc32c_of(values)
    assert crc32c_of(np.asfortranarray(values)) == crc32c_of(values)
    assert crc32c_of(values[:0], 7) == 7


def test_a_row_is_more_than_its_values() -> None:
    values = [np.arange(3, dtype=np.float32), np.zeros((0, 2), np.float16)]
    whole = row_crc32c("a", "d", "ok", values)
    assert whole == crc32c_of(np.frombuffer(b"a\0d\0ok\0" + values[0].tobytes(), np.uint8))
    others = [
        row_crc32c("b", "d", "ok", values),
        row_crc32c("a", "", "ok", values),
        row_crc32c("a", "d", "missing", values),
        row_crc32c("a", "d", "ok", values[1:]),
        row_crc32c("a", "d", "ok", [values[0] + 1, values[1]]),
    ]
    assert whole not in others


def test_a_seal_holds_for_its_object_only() -> None:
    sealed = seal({"b": [1, 2.5], "a": "é"})
    assert unseal(sealed) == {"b": [1, 2.5], "a": "é"}
    for changed in ({**sealed, "a": "e"}, {**sealed, "more": 1}, {**sealed, "crc32c": None}, {"a": "é"}, [], None):
        with pytest.raises(ValueError, match=r"crc32c|no JSON object"):
            unseal(changed)


def test_what_cannot_be_sealed_is_a_plain_refusal() -> None:
    deep: list[object] = []
    for _ in range(900):
        deep = [deep]
    for value, reason in (({"a": float("nan")}, "nan"), ({"a": "\ud800"}, "surrogate"), ({"a": deep}, "deeper")):
        with pytest.raises(ValueError, match=reason):
            unseal({**value, "crc32c": "00000000"})
    with pytest.raises(ValueError, match="deeper"):
        parse_json(b"[" * 100_000)


def test_packed_numbers_come_back(subtests: pytest.Subtests) -> None:
    for dtype in ("<u4", "<i4"):
        numbers = np.array([0, 1, 2**31 - 1], dtype=dtype)
        assert unpack(pack(numbers), np.dtype(dtype)).tolist() == numbers.tolist()
    for text in (None, 3, "A", "****", "AAAA\n"):
        with subtests.test(text=text), pytest.raises(ValueError, match=r"base64|multiple"):
            unpack(text, np.dtype("<u4"))
