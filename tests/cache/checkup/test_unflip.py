"""Laws of a turned bit: in a sealed text it is found and turned back; two of them are left alone."""

import json
import random
from typing import Any

import pytest

from sentifuse.cache.checksum import seal, unseal
from sentifuse.cache.checkup.unflip import unflip
from sentifuse.cache.fingerprint import canonical_json

VALUE = {"a": [1, 2, 3], "text": 'é " \\', "z": {"deep": None}, "count": 12}


def parse(text: bytes) -> Any:
    value = unseal(json.loads(text))
    if text not in (CANONICAL, CANONICAL + b"\n", PRETTY):
        raise ValueError("not as it was written")
    return value


CANONICAL = canonical_json(seal(VALUE))
PRETTY = json.dumps(seal(VALUE), indent=2, sort_keys=True, ensure_ascii=False).encode()


def turned(text: bytes, place: int) -> bytes:
    return text[: place // 8] + bytes([text[place // 8] ^ 1 << place % 8]) + text[place // 8 + 1 :]


@pytest.mark.parametrize("text", [CANONICAL, CANONICAL + b"\n", PRETTY], ids=["line", "file", "pretty"])
def test_every_turned_bit_is_turned_back(text: bytes) -> None:
    for place in random.Random(0).sample(range(8 * len(text)), 60):
        assert unflip(turned(text, place), parse) == (text, VALUE)


def test_in_a_long_line_too() -> None:
    value = {"b": 1, "row_crc32c": "x" * 20_000}
    text = canonical_json(seal(value))
    for place in (3, 150, 8 * 10_000, 8 * len(text) - 5):
        assert unflip(turned(text, place), lambda found: unseal(json.loads(found))) == (text, value)


def test_more_than_one_bit_is_nothing_to_guess_at() -> None:
    rng = random.Random(1)
    for _ in range(20):
        first, second = rng.sample(range(8 * len(CANONICAL)), 2)
        assert unflip(turned(turned(CANONICAL, first), second), parse) is None
    assert unflip(b"", parse) is None
    assert unflip(b"\0" * 100, parse) is None
