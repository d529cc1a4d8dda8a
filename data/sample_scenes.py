"""Scenes of the sample: a landscape with everyday props, and cheerful, gloomy or indifferent things around them.

The sentiment of a scene lies in the things alone: landscape, light and props are drawn from the same urn for all three.
Writes no files and knows no texts.
"""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw

from sentifuse.data.dice import Dice

SIDE_PX = 96
ZOOM = 2  # drawn larger and reduced, which smooths the edges
PROP_COLOURS = {
    "teal": "#3f8f8c",
    "blue": "#4a78b0",
    "brown": "#8a6240",
    "white": "#e6e2d8",
    "green": "#5b8f4e",
    "tan": "#c3a074",
}
SKIES = (
    ("#8ec6ee", "#dceefa"),
    ("#a9bccb", "#d9e0e4"),
    ("#b9d8d2", "#e9f2ec"),
    ("#7fa8d6", "#c3d9ee"),
    ("#c9c3d6", "#ece8ee"),
)
GROUNDS = ("#8fb573", "#c8b98c", "#a9a9a0", "#9fb0a0", "#b5a184")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A drawn scene and its props, each as (colour, name): what a tweet may mention without telling the sentiment."""

    image: Image.Image
    props: tuple[tuple[str, str], ...]


class Brush:
    """Draws in a unit box around a place: (0, 0) is its centre, 1 is half its side."""

    def __init__(self, draw: ImageDraw.ImageDraw, x: float, y: float, half: float) -> None:
        self._draw, self._x, self._y, self._half = draw, x, y, half

    def _at(self, *points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(self._x + u * self._half, self._y + v * self._half) for u, v in points]

    def _line_px(self, width: float) -> int:
        return max(1, round(width * self._half))

    def disc(self, u: float, v: float, radius: float, colour: str) -> None:
        self.oval(u - radius, v - radius, u + radius, v + radius, colour)

    def oval(self, left: float, top: float, right: float, bottom: float, colour: str) -> None:
        self._draw.ellipse(self._at((left, top), (right, bottom)), fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: str) -> None:
        self._draw.rectangle(self._at((left, top), (right, bottom)), fill=colour)

    def shape(self, colour: str, *points: tuple[float, float]) -> None:
        self._draw.polygon(self._at(*points), fill=colour)

    def line(self, colour: str, width: float, *points: tuple[float, float]) -> None:
        self._draw.line(self._at(*points), fill=colour, width=self._line_px(width), joint="curve")

    def arc(self, u: float, v: float, radius: float, start: float, end: float, colour: str, width: float) -> None:
        box = self._at((u - radius, v - radius), (u + radius, v + radius))
        self._draw.arc(box, start, end, fill=colour, width=self._line_px(width))


Drawing = Callable[[Brush, Dice], None]


def _face(brush: Brush, ink: str, *, is_glad: bool) -> None:
    brush.disc(-0.24, -0.15, 0.11, ink)
    brush.disc(0.24, -0.15, 0.11, ink)
    if is_glad:
        brush.arc(0, 0.0, 0.38, 20, 160, ink, 0.12)
    else:
        brush.arc(0, 0.52, 0.34, 205, 335, ink, 0.12)


# Cheerful: saturated yellow, orange and pink.
def _sun(brush: Brush, dice: Dice) -> None:
    for u, v in ((1, 0), (0.7, 0.7), (0, 1), (-0.7, 0.7), (-1, 0), (-0.7, -0.7), (0, -1), (0.7, -0.7)):
        brush.line("#ff9d00", 0.16, (0, 0), (u, v))
    brush.disc(0, 0, 0.7, "#ffd21f")
    _face(brush, "#8a4b00", is_glad=True)


def _balloons(brush: Brush, dice: Dice) -> None:
    for u, v, colour in ((-0.45, -0.3, "#ff3d8b"), (0.45, -0.35, "#ffb300"), (0.0, -0.55, "#ff5a36")):
        brush.line("#8a6a6a", 0.05, (u, v), (0, 1))
        brush.oval(u - 0.36, v - 0.45, u + 0.36, v + 0.45, colour)
        brush.disc(u - 0.12, v - 0.18, 0.09, "#fff3f7")


def _rainbow(brush: Brush, dice: Dice) -> None:
    for step, colour in enumerate(("#ff3b30", "#ff9500", "#ffe034", "#4cd964", "#ff5fb0")):
        brush.arc(0, 0.6, 1.05 - 0.15 * step, 180, 360, colour, 0.18)


def _heart(brush: Brush, dice: Dice) -> None:
    colour = dice.pick(("#ff2d6f", "#ff4d4d", "#ff6fae"))
    brush.disc(-0.37, -0.25, 0.42, colour)
    brush.disc(0.37, -0.25, 0.42, colour)
    brush.shape(colour, (-0.76, -0.08), (0.76, -0.08), (0, 0.85))
    brush.disc(-0.42, -0.38, 0.12, "#ffe3ec")


def _flowers(brush: Brush, dice: Dice) -> None:
    for u, colour in ((-0.5, "#ff4fa0"), (0.5, "#ffb81c")):
        v = dice.between(-0.45, -0.15)
        brush.line("#3f9b45", 0.12, (u, v), (u, 1))
        for du, dv in ((0.27, 0), (-0.27, 0), (0, 0.27), (0, -0.27)):
            brush.disc(u + du, v + dv, 0.24, colour)
        brush.disc(u, v, 0.19, "#fff05a")


def _smiley(brush: Brush, dice: Dice) -> None:
    brush.disc(0, 0.1, 0.85, "#ffce2e")
    brush.disc(-0.45, 0.3, 0.16, "#ff8f6b")
    brush.disc(0.45, 0.3, 0.16, "#ff8f6b")
    _face(brush, "#7a3d00", is_glad=True)


# Gloomy: near black and dark purple.
def _storm(brush: Brush, dice: Dice) -> None:
    for u, v, radius in ((-0.5, 0.0, 0.42), (0.0, -0.25, 0.55), (0.52, 0.0, 0.4), (0.0, 0.1, 0.42)):
        brush.disc(u, v, radius, dice.pick(("#2b2a33", "#34313f")))
    brush.shape(
        "#d6e4ff", (0.05, 0.3), (-0.3, 0.75), (-0.05, 0.72), (-0.2, 1.05), (0.3, 0.58), (0.05, 0.6), (0.25, 0.3)
    )


def _rain(brush: Brush, dice: Dice) -> None:
    for u, v, radius in ((-0.45, -0.2, 0.4), (0.1, -0.4, 0.5), (0.55, -0.15, 0.36)):
        brush.disc(u, v, radius, "#3c3a4c")
    for u in (-0.6, -0.25, 0.1, 0.45):
        brush.line("#2b3566", 0.12, (u + 0.1, 0.25), (u - 0.12, 0.85))


def _broken_heart(brush: Brush, dice: Dice) -> None:
    brush.disc(-0.42, -0.25, 0.4, "#3a1638")
    brush.disc(0.42, -0.25, 0.4, "#3a1638")
    brush.shape("#3a1638", (-0.8, -0.08), (0.8, -0.08), (0, 0.9))
    brush.line("#cfc7da", 0.13, (0.05, -0.6), (-0.2, -0.15), (0.2, 0.1), (-0.1, 0.45), (0.02, 0.85))


def _bare_tree(brush: Brush, dice: Dice) -> None:
    bark = "#241d20"
    brush.line(bark, 0.24, (0, 1), (0, 0))
    for end in ((-0.75, -0.75), (0.7, -0.8), (-0.15, -1.0)):
        brush.line(bark, 0.16, (0, 0.05), end)
    brush.line(bark, 0.1, (-0.4, -0.38), (-0.85, -0.25))
    brush.line(bark, 0.1, (0.4, -0.42), (0.9, -0.3))


def _ruin(brush: Brush, dice: Dice) -> None:
    brush.shape(
        "#33292d",
        (-0.8, 1),
        (-0.8, -0.1),
        (-0.45, -0.6),
        (-0.2, -0.2),
        (0.1, -0.75),
        (0.4, -0.15),
        (0.8, 0.1),
        (0.8, 1),
    )
    brush.box(-0.5, 0.2, -0.15, 0.55, "#0f0c10")
    brush.line("#0f0c10", 0.1, (0.2, -0.4), (0.05, 0.1), (0.35, 0.4), (0.2, 1))


def _ghost(brush: Brush, dice: Dice) -> None:
    cloth = dice.pick(("#463061", "#3d2a55"))
    brush.disc(0, -0.15, 0.7, cloth)
    brush.shape(cloth, (-0.7, -0.15), (0.7, -0.15), (0.7, 1), (0.35, 0.75), (0, 1), (-0.35, 0.75), (-0.7, 1))
    _face(brush, "#e9e4f2", is_glad=False)


# Indifferent: what stands around everywhere, in the colours of landscape and props.
def _cloud(brush: Brush, dice: Dice) -> None:
    for u, v, radius in ((-0.5, 0.05, 0.38), (0.0, -0.15, 0.5), (0.52, 0.08, 0.36)):
        brush.disc(u, v, radius, "#eef2f4")


def _plane(brush: Brush, dice: Dice) -> None:
    brush.oval(-0.9, -0.16, 0.9, 0.16, "#d5dbe0")
    brush.shape("#9fb0bd", (-0.1, 0), (0.3, 0), (-0.25, 0.7), (-0.45, 0.7))
    brush.shape("#9fb0bd", (-0.9, 0), (-0.6, 0), (-0.85, -0.5), (-1.0, -0.5))


def _birds(brush: Brush, dice: Dice) -> None:
    for u, v in ((-0.5, -0.3), (0.4, -0.05), (-0.1, 0.5)):
        brush.line("#74879a", 0.1, (u - 0.35, v - 0.2), (u, v), (u + 0.35, v - 0.2))


def _bush(brush: Brush, dice: Dice) -> None:
    for u, v, radius in ((-0.45, 0.5, 0.42), (0.1, 0.3, 0.55), (0.55, 0.55, 0.38)):
        brush.disc(u, v, radius, "#6c9a5c")


def _pond(brush: Brush, dice: Dice) -> None:
    brush.oval(-1.0, 0.1, 1.0, 0.95, "#7fa7bf")
    brush.oval(-0.5, 0.3, 0.2, 0.55, "#9bbdcf")


def _fence(brush: Brush, dice: Dice) -> None:
    for u in (-0.8, -0.3, 0.2, 0.7):
        brush.box(u - 0.1, -0.1, u + 0.1, 0.95, "#b49a78")
    brush.box(-1.0, 0.15, 0.95, 0.3, "#b49a78")


# Props: every scene has one or two, whatever its sentiment.
def _house(brush: Brush, colour: str) -> None:
    brush.box(-0.7, -0.1, 0.7, 0.95, colour)
    brush.shape("#7d6a5c", (-0.9, -0.1), (0, -0.85), (0.9, -0.1))
    brush.box(-0.15, 0.35, 0.2, 0.95, "#6d5a48")
    brush.box(-0.55, 0.1, -0.25, 0.4, "#cfe0ea")


def _car(brush: Brush, colour: str) -> None:
    brush.shape(colour, (-0.5, 0.3), (-0.3, -0.15), (0.35, -0.15), (0.6, 0.3))
    brush.box(-0.95, 0.25, 0.95, 0.7, colour)
    brush.shape("#cfe0ea", (-0.35, 0.25), (-0.22, -0.03), (0.25, -0.03), (0.42, 0.25))
    brush.disc(-0.5, 0.72, 0.22, "#5a5f66")
    brush.disc(0.5, 0.72, 0.22, "#5a5f66")


def _crate(brush: Brush, colour: str) -> None:
    brush.box(-0.65, -0.2, 0.65, 0.95, colour)
    brush.line("#7d7468", 0.08, (-0.65, 0.2), (0.65, 0.2))
    brush.line("#7d7468", 0.08, (0, -0.2), (0, 0.2))


def _sign(brush: Brush, colour: str) -> None:
    brush.box(-0.08, 0.1, 0.08, 1.0, "#8d949a")
    brush.box(-0.75, -0.75, 0.75, 0.15, colour)
    brush.line("#f1efe8", 0.1, (-0.5, -0.45), (0.5, -0.45))
    brush.line("#f1efe8", 0.1, (-0.5, -0.15), (0.2, -0.15))


def _bench(brush: Brush, colour: str) -> None:
    brush.box(-0.9, 0.2, 0.9, 0.42, colour)
    brush.box(-0.9, -0.3, 0.9, -0.05, colour)
    for u in (-0.7, 0.6):
        brush.box(u, -0.3, u + 0.12, 0.95, "#777d80")


def _tent(brush: Brush, colour: str) -> None:
    brush.shape(colour, (-0.95, 0.95), (0, -0.55), (0.95, 0.95))
    brush.shape("#7b776c", (-0.22, 0.95), (0, 0.2), (0.22, 0.95))


PROPS: dict[str, Callable[[Brush, str], None]] = {
    "house": _house,
    "car": _car,
    "crate": _crate,
    "sign": _sign,
    "bench": _bench,
    "tent": _tent,
}
SKY_THINGS: dict[str, tuple[Drawing, ...]] = {
    "positive": (_sun, _balloons, _rainbow, _heart),
    "negative": (_storm, _rain, _broken_heart),
    "neutral": (_cloud, _plane, _birds),
}
GROUND_THINGS: dict[str, tuple[Drawing, ...]] = {
    "positive": (_flowers, _smiley, _heart, _balloons),
    "negative": (_bare_tree, _ruin, _ghost),
    "neutral": (_bush, _pond, _fence),
}


def draw_scene(sentiment: str, dice: Dice) -> Scene:
    """One scene of `SIDE_PX` x `SIDE_PX`: one or two props, and three or four things of this sentiment around them."""
    side = SIDE_PX * ZOOM
    image = Image.new("RGB", (side, side))
    draw = ImageDraw.Draw(image)
    horizon = side * dice.between(0.5, 0.62)
    _paint_landscape(draw, side, horizon, dice)
    sky = dice.shuffled((side / 6, side / 2, side * 5 / 6))
    ground = dice.shuffled((side / 6, side / 2, side * 5 / 6))
    props = []
    names = dice.pick_some(tuple(PROPS), 1 + dice.below(2))
    for name in names:
        colour = dice.pick(tuple(PROP_COLOURS))
        PROPS[name](_brush(draw, ground.pop(), side * 0.8, side, dice), PROP_COLOURS[colour])
        props.append((colour, name))
    for thing in dice.pick_some(SKY_THINGS[sentiment], 2):
        thing(_brush(draw, sky.pop(), horizon * 0.45, side, dice), dice)
    for _ in range(1 if len(ground) == 1 else 1 + dice.below(2)):
        dice.pick(GROUND_THINGS[sentiment])(_brush(draw, ground.pop(), side * 0.78, side, dice), dice)
    return Scene(image=image.reduce(ZOOM), props=tuple(props))


def _brush(draw: ImageDraw.ImageDraw, x: float, y: float, side: float, dice: Dice) -> Brush:
    jitter = side * 0.025
    half = side * dice.between(0.14, 0.17)
    return Brush(draw, x + dice.between(-jitter, jitter), y + dice.between(-jitter, jitter), half)


def _paint_landscape(draw: ImageDraw.ImageDraw, side: int, horizon: float, dice: Dice) -> None:
    top, bottom = (_rgb(colour) for colour in dice.pick(SKIES))
    for y in range(side):
        share = min(1.0, y / horizon)
        mixed = tuple(round(a + (b - a) * share) for a, b in zip(top, bottom, strict=True))
        draw.line([(0, y), (side, y)], fill=mixed)
    light = dice.between(0.85, 1.1)
    ground = tuple(min(255, round(value * light)) for value in _rgb(dice.pick(GROUNDS)))
    hills = [(side * share, horizon + side * dice.between(-0.04, 0.04)) for share in (0, 0.25, 0.5, 0.75, 1)]
    draw.polygon([(0, side), *hills, (side, side)], fill=ground)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
