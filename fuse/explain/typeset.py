"""Sets shaded text in lines of a given width, in inches, for a figure. Knows one font; draws nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from matplotlib.font_manager import findfont, get_font

from sentifuse.fuse.explain.shading import Segment

FONT = "DejaVu Sans"  # comes with matplotlib, so figures are the same everywhere
UNKNOWN = "□"  # stands for a sign that the font lacks; page and JSON have the sign itself
POINTS_PER_INCH = 72.0

_BLANK = Segment(text=" ", weight=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A part of a segment on one line."""

    segment: Segment
    text: str
    left: float
    width: float
    line: int


def typeset(
    segments: Sequence[Segment], *, width: float, points: float, most_lines: int
) -> tuple[tuple[Placed, ...], int]:
    """Segments in lines, broken at blanks where there are any; and how many characters did not fit in `most_lines`."""
    placed: list[Placed] = []
    line, left = 0, 0.0
    for word in _words(segments):
        needed = sum(measure(part.text, points) for part in word)
        is_blank = all(part.text == " " for part in word)
        if left > 0 and left + needed > width:
            line, left = line + 1, 0.0
        if is_blank and left == 0:
            continue  # no line begins with a blank
        for part in word:
            for text in _fitting(part.text, width, points):  # a word longer than a line is broken anywhere
                size = measure(text, points)
                if left > 0 and left + size > width:
                    line, left = line + 1, 0.0
                placed.append(Placed(segment=part, text=text, left=left, width=size, line=line))
                left += size
    kept = [one for one in placed if one.line < most_lines]
    return _join(kept), sum(len(one.text) for one in placed[len(kept) :])


def wrap(text: str, *, width: float, points: float) -> list[str]:
    """A sentence in lines."""
    placed, _ = typeset([Segment(text=text, weight=None)], width=width, points=points, most_lines=10_000)
    lines = [""] * (1 + max((one.line for one in placed), default=0))
    for one in placed:
        lines[one.line] += one.text
    return lines


@lru_cache(maxsize=100_000)
def measure(text: str, points: float) -> float:
    """Width in inches."""
    return sum(_advance(sign) for sign in text) * points / POINTS_PER_INCH


def drawable(text: str) -> str:
    """The text with what the font lacks, and every kind of blank, replaced.

    >>> drawable("a\\n\\tb")
    'a  b'
    """
    font = get_font(findfont(FONT))
    return "".join(
        " " if sign.isspace() or not sign.isprintable() else sign if font.get_char_index(ord(sign)) else UNKNOWN
        for sign in text
    )


@lru_cache(maxsize=10_000)
def _advance(sign: str) -> float:
    """Width of a sign in units of the font's size."""
    font = get_font(findfont(FONT))
    font.set_size(100, POINTS_PER_INCH)
    return float(font.load_char(ord(sign)).linearHoriAdvance) / 65536 / 100


def _join(placed: Sequence[Placed]) -> tuple[Placed, ...]:
    """Neighbours of one weight as one: far fewer things to draw."""
    joined: list[Placed] = []
    for one in placed:
        last = joined[-1] if joined else None
        if last is not None and last.line == one.line and last.segment.weight == one.segment.weight:
            both = replace(last, text=last.text + one.text, width=one.left + one.width - last.left)
            joined[-1] = both
        else:
            joined.append(one)
    return tuple(joined)


def _words(segments: Iterable[Segment]) -> Iterable[list[Segment]]:
    """Runs that no line break may divide: between blanks, and each blank; chips stand alone."""
    word: list[Segment] = []
    for segment in segments:
        if segment.is_chip:
            yield from ([word] if word else [])
            yield from ([_BLANK], [replace(segment, text=drawable(segment.text))], [_BLANK])
            word = []
            continue
        for i, part in enumerate(drawable(segment.text).split(" ")):
            if i:
                yield from ([word] if word else [])
                yield [Segment(text=" ", weight=segment.weight)]
                word = []
            if part:
                word.append(Segment(text=part, weight=segment.weight))
    if word:
        yield word


def _fitting(text: str, width: float, points: float) -> list[str]:
    """A text in pieces that each fit in a line."""
    pieces = [""]
    for sign in text:
        if pieces[-1] and measure(pieces[-1] + sign, points) > width:
            pieces.append("")
        pieces[-1] += sign
    return pieces
