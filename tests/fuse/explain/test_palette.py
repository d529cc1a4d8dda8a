"""Colours stay apart and letters stay readable on them."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from sentifuse.fuse.explain.palette import COLOURS, DARKEST, colour_of, letters_on, opacity, rgb


def luminance(colour: tuple[float, float, float]) -> float:
    """Relative luminance of WCAG."""
    parts = [c / 255 / 12.92 if c / 255 <= 0.03928 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def shaded(colour: str, page: int) -> tuple[float, float, float]:
    """The darkest shade of a colour over a grey page."""
    red, green, blue = (DARKEST * part + (1 - DARKEST) * page for part in rgb(colour))
    return red, green, blue


def test_text_stays_readable_on_the_darkest_shade_of_a_light_and_of_a_dark_page() -> None:
    for colour in COLOURS:
        assert contrast(shaded(colour, 255), (26, 26, 26)) >= 4.5
        assert contrast(shaded(colour, 27), (237, 237, 237)) >= 3.0


def test_numbers_on_a_colour_stay_readable() -> None:
    inks = {"white": (255.0, 255.0, 255.0), "black": (0.0, 0.0, 0.0)}
    for colour in COLOURS:
        red, green, blue = rgb(colour)
        assert contrast((red, green, blue), inks[letters_on(colour)]) >= 3.0


def test_colours_differ_in_what_a_red_green_blind_reader_sees() -> None:
    def seen(colour: str) -> tuple[float, float, float]:  # deuteranopia, Viénot 1999, on linear light
        linear = [(part / 255) ** 2.2 for part in rgb(colour)]
        mixed = 0.29275 * linear[0] + 0.70725 * linear[1]
        return mixed, mixed, -0.02234 * linear[0] + 0.02234 * linear[1] + linear[2]

    for one, other in combinations(COLOURS[:4], 2):
        assert sum((a - b) ** 2 for a, b in zip(seen(one), seen(other), strict=True)) ** 0.5 > 0.1


@given(weight=st.floats(0, 1), full=st.one_of(st.just(0.0), st.floats(1e-6, 1)))
def test_shades_are_in_proportion(weight: float, full: float) -> None:
    shade = opacity(weight, full)
    assert 0 <= shade <= DARKEST
    if 0 < weight <= full:
        assert abs(shade - DARKEST * weight / full) < 1e-9


def test_there_is_a_colour_for_every_place() -> None:
    assert [colour_of(place) for place in range(7)] == [*COLOURS, COLOURS[0]]
