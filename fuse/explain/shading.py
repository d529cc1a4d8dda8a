"""A text cut where its weights change: what a figure and a page shade, character by character of the text as read."""

from collections.abc import Sequence
from dataclasses import dataclass

from sentifuse.fuse.explain.explanation import PairExplanation

IMAGE_CHIP, START_CHIP, END_CHIP = "[image]", "start", "end"
SHOWN_HEAVIEST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Characters that share a weight."""

    text: str
    weight: float | None  # None: no piece stands for them, so the head never read them
    is_chip: bool = False  # stands for something that is no character: the image, a special piece, a piece by number


def shade(explanation: PairExplanation, values: Sequence[float], *, image: float | None = None) -> tuple[Segment, ...]:
    """The text in segments, with the weights of its pieces; chips stand for what has no characters.

    Parameters
    ----------
    values
        One weight per piece of the explanation.
    image
        The image's own weight, for a chip in front.
    """
    pieces, text = explanation.pieces, explanation.text or ""
    owner: list[int | None] = [None] * len(text)
    for i in sorted(range(len(pieces)), key=lambda i: values[i]):  # the heaviest last: it keeps shared characters
        owner[pieces[i].start : pieces[i].end] = [i] * (pieces[i].end - pieces[i].start)
    chips = [i for i, piece in enumerate(pieces) if piece.end <= piece.start]
    first_real = next((i for i, piece in enumerate(pieces) if piece.end > piece.start), len(pieces))
    before = [_chip(explanation, i, START_CHIP, values[i]) for i in chips if i < first_real]
    after = [_chip(explanation, i, END_CHIP, values[i]) for i in chips if i >= first_real]
    if image is not None:
        before.insert(0, Segment(text=IMAGE_CHIP, weight=image, is_chip=True))
    letters: list[Segment] = []
    start = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or owner[end] != owner[start]:
            piece = owner[start]
            letters.append(Segment(text=text[start:end], weight=None if piece is None else values[piece]))
            start = end
    return (*before, *letters, *after)


def heaviest(explanation: PairExplanation, values: Sequence[float], count: int = SHOWN_HEAVIEST) -> str:
    """The heaviest pieces with their weights, in words; pieces of equal weight in reading order."""
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))[:count]
    return " · ".join(f"{name_piece(explanation, i)} {values[i]:.2f}" for i in order)


def name_piece(explanation: PairExplanation, place: int) -> str:
    """A piece as a person would point at it."""
    piece = explanation.pieces[place]
    if piece.end > piece.start and explanation.text is not None:
        return f"“{' '.join(explanation.text[piece.start : piece.end].split())}”"
    return _chip(explanation, place, START_CHIP if place == 0 else END_CHIP, 0.0).text


def _chip(explanation: PairExplanation, place: int, name: str, weight: float) -> Segment:
    is_special = explanation.pieces[place].is_special
    return Segment(text=f"[{name}]" if is_special else f"[{place + 1}]", weight=weight, is_chip=True)
