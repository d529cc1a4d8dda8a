"""One pair as a figure: the image with its regions, the shaded text, probabilities and whatever else the head shows.

Every number comes from the explanation as it is. Everything is placed in inches, so that nothing overlaps and nothing
is smaller than 11 points: readable at half size.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from textwrap import shorten
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sentifuse.fuse.explain.bars import Bar, Bars, probability_bars, quantity_bars
from sentifuse.fuse.explain.explanation import PairExplanation, Weights
from sentifuse.fuse.explain.lines import ShadedLine, has_regions, plain_text, shaded_lines, shown_regions, which_regions
from sentifuse.fuse.explain.palette import DARKEST, PLAIN, colour_of, full_weight, letters_on, opacity
from sentifuse.fuse.explain.picture import load_picture
from sentifuse.fuse.explain.typeset import FONT, UNKNOWN, drawable, measure, typeset, wrap

DPI = 150
WIDTH, MARGIN, GAP = 13.0, 0.25, 0.35
IMAGE_WIDTH, IMAGE_HEIGHT = 5.0, 5.0
RIGHT = MARGIN + IMAGE_WIDTH + GAP
TEXT_WIDTH = WIDTH - RIGHT - MARGIN
BIG, NORMAL, SMALL = 17.0, 13.0, 11.5
LEADING = 1.55 / 72  # inches per point
MOST_LINES, FEWEST_LINES = 24, 3  # of all shaded texts together, of each; page and JSON have the rest
MOST_SHADED = 5
TAG = 0.27  # height of a region's number
BOLD = 1.1  # bold letters are wider than those measured, by this much
GREY, FAINT = "#595959", "#8a8a8a"
NO_GLYPH = f"{UNKNOWN} stands for a sign that this figure's font lacks; page and JSON have it."

Paint = Callable[[Axes, float], None]  # draws at this distance from the top


@dataclass(slots=True)
class Column:
    """Blocks one below the other, each with its height."""

    blocks: list[tuple[float, Paint]] = field(default_factory=list)

    @property
    def height(self) -> float:
        return sum(height for height, _ in self.blocks)

    def add(self, height: float, paint: Paint) -> None:
        self.blocks.append((height, paint))

    def space(self, height: float) -> None:
        self.add(height, lambda axes, top: None)

    def paint(self, axes: Axes, top: float) -> None:
        for height, paint in self.blocks:
            paint(axes, top)
            top += height


def draw(explanation: PairExplanation) -> Figure:
    """The figure of one pair, 13 inches wide and as high as needed."""
    left, right = _image_column(explanation), _reason_column(explanation)
    head = Column()
    _write(head, explanation.verdict, MARGIN, WIDTH - 2 * MARGIN, BIG, weight="bold")
    _write(head, explanation.origin, MARGIN, WIDTH - 2 * MARGIN, SMALL, colour=GREY)
    head.space(0.12)
    height = 2 * MARGIN + head.height + max(left.height, right.height)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    head.paint(axes, MARGIN)
    left.paint(axes, MARGIN + head.height)
    right.paint(axes, MARGIN + head.height)
    axes.set_xlim(0.0, WIDTH)
    axes.set_ylim(height, 0.0)
    axes.set_axis_off()
    return figure


def _image_column(explanation: PairExplanation) -> Column:
    column = Column()
    image = load_picture(explanation)
    ratio = 0.75 if image is None else image.height / image.width
    width = min(IMAGE_WIDTH, IMAGE_HEIGHT / ratio)
    height = width * ratio
    if height < 0.5:  # a strip: its height is stretched, so that its regions can be seen
        height = 0.5

    def paint(axes: Axes, top: float) -> None:
        if image is None:
            axes.add_patch(Rectangle((MARGIN, top), width, height, facecolor="#efefef", edgecolor=FAINT))
            problem = explanation.image_problem or "the image file is gone"
            lines = wrap(drawable(problem), width=width - 0.4, points=NORMAL)[:6]
            _letters(axes, MARGIN + 0.2, top + 0.2, "\n".join(lines), NORMAL, GREY)
        else:
            axes.imshow(np.asarray(image), extent=(MARGIN, MARGIN + width, top + height, top), aspect="auto", zorder=0)
        _paint_boxes(axes, explanation, (MARGIN, top, width, height))
        for weights in explanation.reasons.words:
            if weights.over == "both":
                _paint_frame(axes, weights, (MARGIN, top, width, height))

    column.add(height + 0.12, paint)
    if which := which_regions(explanation):
        _write(column, which, MARGIN, IMAGE_WIDTH, SMALL, colour=GREY)
    column.space(0.12)
    for bars in probability_bars(explanation):
        _add_bars(column, bars, f"Probabilities: {bars.title}", MARGIN, IMAGE_WIDTH)
    return column


def _paint_boxes(axes: Axes, explanation: PairExplanation, frame: tuple[float, float, float, float]) -> None:
    """Thin boxes below, those in colour above; every line has another below it, to be seen on any image."""
    if not has_regions(explanation):
        return
    left, top, width, height = frame
    shown = {region.number: place for place, region in enumerate(shown_regions(explanation))}
    tags: list[tuple[float, float]] = []
    for region in explanation.regions:
        if region.box is None:
            continue
        x1, y1, x2, y2 = region.box
        x, y = left + x1 * width, top + y1 * height
        size = ((x2 - x1) * width, (y2 - y1) * height)
        if region.number not in shown:
            _outline(axes, (x, y), size, "black", 1.2, alpha=0.35, zorder=2)
            _outline(axes, (x, y), size, "white", 0.7, alpha=0.8, zorder=2)
            continue
        colour = colour_of(shown[region.number])
        _outline(axes, (x, y), size, "white", 5.5, alpha=1.0, zorder=3)
        _outline(axes, (x, y), size, colour, 3.2, alpha=1.0, zorder=4)
        # A small box is not covered by its own number where there is room above; numbers do not cover each other.
        y = y - TAG if size[1] < 4 * TAG and y - TAG >= top else y
        while any(abs(x - other_x) < _tag_width("00") and abs(y - other_y) < TAG for other_x, other_y in tags):
            x += _tag_width("00")
        tags.append((x, y))
        _tag(axes, x, y, str(region.number), colour)


def _outline(
    axes: Axes,
    place: tuple[float, float],
    size: tuple[float, float],
    colour: str,
    line_width: float,
    *,
    alpha: float,
    zorder: float,
) -> None:
    axes.add_patch(
        Rectangle(place, *size, fill=False, edgecolor=colour, linewidth=line_width, alpha=alpha, zorder=zorder)
    )


def _paint_frame(axes: Axes, weights: Weights, frame: tuple[float, float, float, float]) -> None:
    """The image's own weight: a frame as dark as a word of that weight, and the number."""
    left, top, width, height = frame
    shade = opacity(weights.values[0], full_weight(max(weights.values), 1 / len(weights.values))) / DARKEST
    axes.add_patch(
        Rectangle((left, top), width, height, fill=False, edgecolor=PLAIN, alpha=shade, linewidth=9, zorder=3)
    )
    _tag(axes, left, top, f"image {weights.values[0]:.2f}", PLAIN)


def _add_bars(column: Column, bars: Bars, title: str, left: float, width: float) -> None:
    _write(column, title, left, width, NORMAL, weight="bold")
    for bar in bars.rows:
        _add_bar(column, bar, left, width)
    column.space(0.14)


def _reason_column(explanation: PairExplanation) -> Column:
    column = Column()
    reasons = explanation.reasons
    alignment = reasons.alignment
    lines = shaded_lines(explanation)
    if alignment is not None:
        scale = next((f"; {line.scale}" for line in lines if line.tag), "")
        _write(
            column,
            f"{alignment.title[:1].upper()}{alignment.title[1:]}{scale}",
            RIGHT,
            TEXT_WIDTH,
            NORMAL,
            weight="bold",
        )
        column.space(0.1)
    texts = sum(bool(line.segments) for line in lines[:MOST_SHADED])
    room = max(FEWEST_LINES, MOST_LINES // max(1, texts))
    for line in lines[:MOST_SHADED]:
        _add_line(column, line, room)
    if len(lines) > MOST_SHADED:
        _write(column, f"{len(lines) - MOST_SHADED} more in page and JSON.", RIGHT, TEXT_WIDTH, SMALL, colour=GREY)
    if not any(line.segments for line in lines) and (segments := plain_text(explanation)):
        _write(column, "Text", RIGHT, TEXT_WIDTH, NORMAL, weight="bold")
        _add_line(
            column,
            ShadedLine(heading="", about="", colour=PLAIN, tag="", segments=segments, largest=0.0, even=0.0),
            MOST_LINES,
        )
    for bars in quantity_bars(explanation):
        _add_bars(column, bars, bars.title, RIGHT, TEXT_WIDTH)
    unknown = (NO_GLYPH,) if UNKNOWN in drawable(explanation.text or "") else ()
    for note in (*reasons.notes, *explanation.notes, *unknown):
        _write(column, note, RIGHT, TEXT_WIDTH, SMALL, colour=GREY)
        column.space(0.05)
    return column


def _add_line(column: Column, line: ShadedLine, most_lines: int) -> None:
    if line.heading:
        indent = _tag_width(line.tag) + 0.14 if line.tag else 0.0

        def paint_tag(axes: Axes, top: float) -> None:
            if line.tag:
                _tag(axes, RIGHT, top - 0.02, line.tag, line.colour)

        column.add(0.0, paint_tag)
        _write(column, line.title, RIGHT + indent, TEXT_WIDTH - indent, NORMAL, weight="bold")
    if line.about:
        _write(column, line.about, RIGHT, TEXT_WIDTH, SMALL, colour=GREY)
    if line.segments:
        _add_shaded(column, line, most_lines)
    column.space(0.16)


def _add_shaded(column: Column, line: ShadedLine, most_lines: int) -> None:
    """The text with its shades; what no piece stands for is grey."""
    placed, left_out = typeset(line.segments, width=TEXT_WIDTH, points=NORMAL, most_lines=most_lines)
    height = NORMAL * LEADING

    def paint(axes: Axes, top: float) -> None:
        for one in placed:
            x, y, weight = RIGHT + one.left, top + one.line * height, one.segment.weight
            if weight:
                shade = opacity(weight, line.full)
                axes.add_patch(
                    Rectangle((x, y), one.width, height * 0.9, facecolor=line.colour, alpha=shade, linewidth=0)
                )
            if not one.text.isspace():
                _letters(axes, x, y + height * 0.12, one.text, NORMAL, FAINT if weight is None else "black")

    column.add(height * (1 + max((one.line for one in placed), default=0)), paint)
    if left_out:
        _write(column, f"… {left_out:,} more characters in page and JSON.", RIGHT, TEXT_WIDTH, SMALL, colour=GREY)


def _add_bar(column: Column, bar: Bar, left: float, width: float) -> None:
    names, number, height = width * 0.46, 0.7, NORMAL * LEADING

    def paint(axes: Axes, top: float) -> None:
        room = width - names - number
        colour = PLAIN if bar.is_most else "#9a9a9a"
        _letters(axes, left, top + height * 0.12, shorten(drawable(bar.title), 40, placeholder="…"), SMALL, "black")
        for length, shade in ((room, "#ececec"), (room * bar.share, colour)):
            place = (left + names, top + height * 0.13)
            axes.add_patch(Rectangle(place, length, height * 0.6, facecolor=shade, linewidth=0))
        _letters(axes, left + width - number + 0.1, top + height * 0.12, f"{bar.value:.3f}", SMALL, "black")

    column.add(height, paint)


def _write(
    column: Column,
    text: str,
    left: float,
    width: float,
    points: float,
    *,
    colour: str = "black",
    weight: str = "normal",
) -> None:
    """A sentence in as many lines as it needs."""
    bold = BOLD if weight == "bold" else 1.0
    lines = wrap(text, width=width / bold, points=points)

    def paint(axes: Axes, top: float) -> None:
        for i, line in enumerate(lines):
            _letters(axes, left, top + i * points * LEADING, line, points, colour, weight=weight)

    column.add(len(lines) * points * LEADING, paint)


def _tag(axes: Axes, x: float, y: float, number: str, colour: str) -> None:
    """A region's number on its colour."""
    width = _tag_width(number)
    axes.add_patch(Rectangle((x, y), width, TAG, facecolor=colour, edgecolor="white", linewidth=1.0, zorder=5))
    _letters(axes, x + 0.08, y + 0.045, number, NORMAL, letters_on(colour), weight="bold", zorder=6)


def _tag_width(number: str) -> float:
    return BOLD * measure(number, NORMAL) + 0.16


def _letters(axes: Axes, x: float, y: float, text: str, points: float, colour: str, **options: Any) -> None:
    """Letters whose upper left corner is at (x, y); a dollar sign is a dollar sign."""
    axes.text(x, y, text, fontsize=points, color=colour, va="top", ha="left", family=FONT, parse_math=False, **options)
