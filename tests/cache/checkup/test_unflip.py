"""Laws of a turned bit: in a sealed text it is found and turned back; two of them are left alone."""

import json
import random
from typing import Any

import crc32c
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


def test_every_bit_of_a_recipe_like_text_is_turned_back() -> None:
    value = {"details": {"path": '/a b/"c": d', "none": [], "é": {}}, "format": 1, "recipe": {"x": [1, 2.5], "y": ""}}
    text = json.dumps(seal(value), indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"

    def exact(found: bytes) -> Any:
        if found != text:
            raise ValueError("another text")
        return unseal(json.loads(found))

    for place in range(8 * len(text)):
        assert unflip(turned(text, place), exact) == (text, value)


@pytest.mark.parametrize("damage", ["none", "one bit", "three bytes"])
def test_the_work_grows_with_the_length_and_parsing_does_not(monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    """Damage that is no single bit must not cost more than damage that is."""
    summed = []

    def counting(data: bytes, value: int = 0, plain: Any = crc32c.crc32c) -> int:
        summed.append(len(data))
        return int(plain(data, value))

    monkeypatch.setattr("sentifuse.cache.checkup.unflip.crc32c.crc32c", counting)
    for count in (1_000, 100_000):
        content = bytearray(canonical_json(seal({"b": 1, "row_crc32c": "x" * count})))
        middle = len(content) // 2
        if damage == "one bit":
            content[middle] ^= 4
        elif damage == "three bytes":
            content[middle : middle + 3] = b"abc"
        parsed: list[bytes] = []
        summed.clear()

        def refuse(found: bytes, parsed: list[bytes] = parsed) -> None:
            parsed.append(found)
            raise ValueError

        assert unflip(bytes(content), refuse) is None
        assert len(parsed) <= 3
        assert sum(summed) <= 4 * len(content)


@pytest.mark.parametrize("text", [CANONICAL, PRETTY], ids=["line", "pretty"])
def test_a_text_cut_short_anywhere_is_nothing_to_guess_at(text: bytes) -> None:
    for length in range(len(text)):
        assert unflip(text[:length], parse) is None


def test_more_than_one_bit_is_nothing_to_guess_at() -> None:
    rng = random.Random(1)
    for _ in range(20):
        first, second = rng.sample(range(8 * len(CANONICAL)), 2)
        assert unflip(turned(turned(CANONICAL, first), second), parse) is None
    assert unflip(b"", parse) is None
    assert unflip(b"\0" * 100, parse) is None
