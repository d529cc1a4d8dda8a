"""Turns one flipped bit of a sealed JSON text back. Knows no file.

CRC32C tells any two texts of our sizes apart that differ in less than four bits, so a text that one turned bit makes
whole is the one that was sealed.
"""

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

import crc32c

from sentifuse.cache.errors import CacheError

__all__ = ["unflip"]

_SEAL = re.compile(rb'"crc32c":"([0-9a-f]{8})",')
_SLOW_BYTES = 8192  # texts in which every bit is tried by parsing; in longer ones only those about the seal
_HEAD_BYTES = 256  # the seal stands among the first keys, which are sorted
_MOST_BYTES = 1 << 20

Parsed = TypeVar("Parsed")


def unflip(content: bytes, parse: Callable[[bytes], Parsed]) -> tuple[bytes, Parsed] | None:
    """The text with one bit turned back, and what it parses to; None when it takes more than that.

    Parameters
    ----------
    content
        One sealed JSON object, in whatever layout its file has.
    parse
        Raises ValueError, or an error of the cache, for a text that is not whole.
    """
    if len(content) > _MOST_BYTES:
        return None
    for candidate in _candidates(content):
        parsed = _parsed(candidate, parse)
        if parsed is not None:
            return candidate, parsed
    return None


def _candidates(content: bytes) -> Iterator[bytes]:
    seal = _SEAL.search(content)
    if seal is not None:
        yield from _fitting(content, seal)
    is_short = len(content) <= _SLOW_BYTES and seal is None
    slow = len(content) if is_short else min(len(content), _HEAD_BYTES)
    # The last byte may be the newline of a text that is canonical otherwise, which the seal does not cover.
    for position in [*range(slow), *([len(content) - 1] if slow < len(content) else [])]:
        for bit in range(8):
            yield _flipped(content, position, bit)


def _fitting(content: bytes, seal: re.Match[bytes]) -> Iterator[bytes]:
    """Of a canonical text: those whose checksum is the one it says, found without parsing."""
    body = content[: seal.start()] + content[seal.end() :]
    rest = bytearray(body.removesuffix(b"\n"))
    expected = int(seal[1], 16)
    for position in range(len(rest)):
        for bit in range(8):
            rest[position] ^= 1 << bit
            if crc32c.crc32c(rest) == expected:
                yield _flipped(content, position if position < seal.start() else position + len(seal[0]), bit)
            rest[position] ^= 1 << bit


def _flipped(content: bytes, position: int, bit: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :]


def _parsed(content: bytes, parse: Callable[[bytes], Parsed]) -> Parsed | None:
    try:
        return parse(content)
    except (ValueError, RecursionError, CacheError):
        return None
