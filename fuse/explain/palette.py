"""Colours that colour-blind readers tell apart (Okabe and Ito), and how dark a weight is shaded. Draws nothing.

Colour never stands alone: a region has a number, a weight is written beside it.
"""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
PLAIN = COLOURS[0]  # of whatever belongs to no region
DARKEST = 0.62  # of a colour over the page: black and white letters both stay readable on it


def colour_of(place: int) -> str:
    """The colour of the region shown at this place, from 0."""
    return COLOURS[place % len(COLOURS)]


def full_weight(largest: float, even: float) -> float:
    """The weight that gets the darkest shade: the largest, or twice the even one where that is more.

    Where a head prefers nothing, all is half as dark as it could be, not all as dark as can be.

    >>> full_weight(0.5, 0.1), full_weight(0.06, 0.05)
    (0.5, 0.1)
    """
    return max(largest, 2 * even)


def opacity(weight: float, full: float) -> float:
    """How opaque a weight's colour is: in proportion, 0 for 0 and `DARKEST` for `full`.

    >>> opacity(0.0, 0.5), opacity(0.5, 0.5), opacity(0.0, 0.0)
    (0.0, 0.62, 0.0)
    """
    return DARKEST * min(1.0, max(0.0, weight / full)) if full > 0 else 0.0


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255.

    >>> rgb("#0072B2")
    (0, 114, 178)
    """
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def letters_on(colour: str) -> str:
    """Black or white, whichever is easier to read on a colour.

    >>> letters_on("#0072B2"), letters_on("#E69F00")
    ('white', 'black')
    """
    red, green, blue = rgb(colour)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"
