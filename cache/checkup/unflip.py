"""Turns one flipped bit of a sealed JSON text back, in time that grows with its length. Knows no file.

CRC32C tells any two texts of our sizes apart that differ in less than four bits, so a text that one turned bit makes
whole is the one that was sealed. And it is linear: how the checksum is off tells which bit it was.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from typing import TypeVar

import crc32c

from sentifuse.cache.errors import CacheError

__all__ = ["unflip"]

_SEAL = re.compile(rb'"crc32c":"([0-9a-f]{8})",')
_FRAME = (b'"crc32c":"', b'",')  # the seal's bytes about its eight digits
_DIGITS = 8
_SEAL_BYTES = len(_FRAME[0]) + _DIGITS + len(_FRAME[1])
_HEAD_BYTES = 256  # the seal stands among the first keys, which are sorted
_MOST_BYTES = 8 << 20
# Between the values of an indented text; canonical JSON has none of it, and no text in quotes has a raw newline.
_LAST = re.compile(rb"\n\Z")
_LAYOUT = re.compile(rb'\n *|(?<=[^\\]":) ')
_MOST_INDENTED_BYTES = 64 << 10  # where layout may be damaged: the text is summed once for each suspect

Parsed = TypeVar("Parsed")


def unflip(content: bytes, parse: Callable[[bytes], Parsed]) -> tuple[bytes, Parsed] | None:
    """The text with one bit turned back, and what it parses to; None when it takes more than that.

    Parameters
    ----------
    content
        One sealed JSON object, canonical or indented; longer ones than any that is written are left alone.
    parse
        Raises ValueError, or an error of the cache, for a text that is not whole. It is asked a few times only.
    """
    if len(content) > _MOST_BYTES:
        return None
    for candidate in _candidates(content):
        try:
            return candidate, parse(candidate)
        except (ValueError, RecursionError, CacheError):
            continue
    return None


def _candidates(content: bytes) -> Iterator[bytes]:
    """Texts one bit away whose seal fits, were they canonical but for their layout."""
    text = _Canonical(content)
    for position, mask in _turned(text.content):
        place = text.place(position)
        yield content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :]
    for place, byte in _at_layout(content):
        # Layout is a matter of single lines: those before and behind are canonical already.
        start, stop = max(content.rfind(b"\n", 0, place), 0), content.find(b"\n", place + 1)
        stop = stop if stop >= 0 else len(content)
        lines = content[start:place] + bytes([byte]) + content[place + 1 : stop]
        lines = text.layout.sub(b"", lines)
        if _is_sealed(text.content[: text.position(start)] + lines + text.content[text.position(stop) :]):
            yield content[:place] + bytes([byte]) + content[place + 1 :]


class _Canonical:
    """A text without its layout, and where each of its bytes came from."""

    def __init__(self, content: bytes) -> None:
        self.layout = _LAYOUT if _is_indented(content) else _LAST
        spans = [(0, 0), *(match.span() for match in self.layout.finditer(content)), (len(content), len(content))]
        pieces = [(before[1], after[0]) for before, after in pairwise(spans)]
        self.content = b"".join(content[start:stop] for start, stop in pieces)
        self._sources = [start for start, _ in pieces]
        self._starts = [0, *accumulate(stop - start for start, stop in pieces)]

    def place(self, position: int) -> int:
        """Where the byte at a position without layout stands in the whole text."""
        piece = bisect_right(self._starts, position, hi=len(self._sources)) - 1
        return self._sources[piece] + position - self._starts[piece]

    def position(self, place: int) -> int:
        """How many bytes that are no layout stand before a place."""
        piece = bisect_right(self._sources, place) - 1
        return min(self._starts[piece] + place - self._sources[piece], self._starts[piece + 1])


def _turned(text: bytes) -> Iterator[tuple[int, int]]:
    """Place and mask of each bit that, turned back, makes a canonical text fit its seal."""
    for start in range(min(_HEAD_BYTES, len(text) - _SEAL_BYTES + 1)):
        found = text[start : start + _SEAL_BYTES]
        digits = found[len(_FRAME[0]) : -len(_FRAME[1])]
        off = _difference(found, _FRAME[0] + digits + _FRAME[1])
        if len(off) == 1:
            yield start + off[0][0], off[0][1]
        if off:
            continue
        rest = text[:start] + text[start + _SEAL_BYTES :]
        crc = crc32c.crc32c(rest)
        off = _difference(digits, f"{crc:08x}".encode())
        if len(off) == 1:
            yield start + len(_FRAME[0]) + off[0][0], off[0][1]
        if _SEAL.fullmatch(found):
            for position, mask in _find_bits(crc ^ int(digits, 16), len(rest)):
                yield position if position < start else position + _SEAL_BYTES, mask
        return


def _difference(found: bytes, right: bytes) -> list[tuple[int, int]]:
    """Place and mask of the bytes that differ; a mask of more than one bit counts as two."""
    off = [(place, a ^ b) for place, (a, b) in enumerate(zip(found, right, strict=True)) if a != b]
    return off if all(mask.bit_count() == 1 for _, mask in off) else off * 2


def _find_bits(syndrome: int, length: int) -> Iterator[tuple[int, int]]:
    """Place and mask of the single bits that change the CRC32C of so many bytes by `syndrome`.

    A bit changes the register in a way of its own, and each byte behind it moves the register on by a step that can be
    taken back. So the syndrome is taken back byte by byte until it is what one bit of the next byte does.
    """
    for position in range(length - 1, -1, -1):
        mask = _BIT_OF.get(syndrome)
        if mask is not None:
            yield position, mask
        low = _LOW_BYTE[syndrome >> 24]
        syndrome = (syndrome ^ _TABLE[low]) << 8 | low


def _table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [value >> 1 ^ (0x82F63B78 if value & 1 else 0) for value in table]  # Castagnoli, bits reversed
    return table


_TABLE = _table()
_LOW_BYTE = [0] * 256  # the high byte of an entry of the table -> its place: they are all different
for _place, _value in enumerate(_TABLE):
    _LOW_BYTE[_value >> 24] = _place
_BIT_OF = {_TABLE[1 << bit]: 1 << bit for bit in range(8)}


def _is_indented(content: bytes) -> bool:
    return b"\n " in content


def _is_sealed(text: bytes) -> bool:
    seal = _SEAL.search(text, 0, _HEAD_BYTES)
    return seal is not None and crc32c.crc32c(text[seal.end() :], crc32c.crc32c(text[: seal.start()])) == int(
        seal[1], 16
    )


def _at_layout(content: bytes) -> Iterator[tuple[int, int]]:
    """Place and other value of bytes that decide what of an indented text is layout; of others the last newline."""
    if not _is_indented(content):
        last = content[-1:]
        if last and (last[0] ^ 0x0A).bit_count() == 1:
            yield len(content) - 1, 0x0A
        return
    if len(content) > _MOST_INDENTED_BYTES:
        return
    for place, found in enumerate(content):
        before, after = content[max(place - 2, 0) : place], content[place + 1 : place + 4]
        is_space = before[-1:] in (b" ", b"\n") or before == b'":'
        is_colon = after[:2] == b": " or after == b'": ' or (before[-1:] == b'"' and after[:1] == b" ")
        for bit in range(8):
            pair = (found, found ^ 1 << bit)
            if (
                0x0A in pair
                or (is_space and 0x20 in pair and not (found == 0x20 and after[:1] == b" "))
                or (is_colon and not _COLON.isdisjoint(pair))
            ):
                yield place, pair[1]


_COLON = frozenset(b'":\\')
