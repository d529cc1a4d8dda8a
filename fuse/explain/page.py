"""All explained pairs on one HTML page that needs no other file: images inside, no script, no network.

The template escapes whatever comes from texts and names. Numbers are those of the explanations, rounded only for show:
each one's tooltip has it as it is.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sentifuse.fuse.embed import photo
from sentifuse.fuse.explain.bars import Bars, probability_bars, quantity_bars
from sentifuse.fuse.explain.explanation import PairExplanation
from sentifuse.fuse.explain.lines import (
    ShadedLine,
    has_regions,
    region_figures,
    shaded_lines,
    shown_regions,
    which_regions,
)
from sentifuse.fuse.explain.palette import PLAIN, colour_of, letters_on, opacity, rgb
from sentifuse.fuse.explain.picture import load_picture
from sentifuse.fuse.explain.shading import Segment, heaviest

TEMPLATE = "page.html"

View = dict[str, Any]


def render_page(explanations: Sequence[PairExplanation], title: str, about: Sequence[str] = ()) -> str:
    """The page's HTML; `about`: sentences below the title."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pairs = [_pair(explanation) for explanation in explanations]
    return environment.get_template(TEMPLATE).render(title=title, about=list(about), pairs=pairs)


def _pair(explanation: PairExplanation) -> View:
    image = load_picture(explanation)
    lines = shaded_lines(explanation)
    alignment = explanation.reasons.alignment
    has_text_shown = any(line.segments for line in lines)
    return {
        "id": explanation.id,
        "verdict": explanation.verdict,
        "origin": explanation.origin,
        "image": None if image is None else photo(image),
        "no_image": explanation.image_problem or "the image file is gone",
        "boxes": _boxes(explanation),
        "tags": _tags(explanation),
        "which_regions": which_regions(explanation),
        "voices": [_bars(bars) for bars in probability_bars(explanation)],
        "quantities": [_bars(bars) for bars in quantity_bars(explanation)],
        "alignment_title": alignment and f"{alignment.title[:1].upper()}{alignment.title[1:]}; {lines[0].scale}",
        "lines": [_line(line) for line in lines],
        "plain": "" if has_text_shown else explanation.text,
        "notes": [*explanation.reasons.notes, *explanation.notes],
        "table": _table(explanation),
    }


def _boxes(explanation: PairExplanation) -> list[View]:
    """Thin ones below, those in colour above; every line has another below it, to be seen on any image."""
    if not has_regions(explanation):
        return []
    shown = {region.number: place for place, region in enumerate(shown_regions(explanation))}
    boxes = []
    for region in sorted(explanation.regions, key=lambda region: region.number in shown):
        if region.box is None:
            continue
        x1, y1, x2, y2 = region.box
        place = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
        if region.number in shown:
            colour = colour_of(shown[region.number])
            style = {"under": "#fff", "under_width": 6, "colour": colour, "line_width": 3.5, "opacity": 1}
        else:
            style = {"under": "#000", "under_width": 1.6, "colour": "#fff", "line_width": 0.8, "opacity": 0.6}
        boxes.append(place | style)
    return boxes


def _tags(explanation: PairExplanation) -> list[View]:
    tags: list[View] = []
    if has_regions(explanation):
        for place, region in enumerate(shown_regions(explanation)):
            if region.box is not None:
                left, top = 100 * region.box[0], 100 * region.box[1]
                while any(abs(left - tag["left"]) < 6 and abs(top - tag["top"]) < 6 for tag in tags):
                    left += 6
                tags.append(_tag(str(region.number), colour_of(place), left, top))
    for weights in explanation.reasons.words:
        if weights.over == "both":
            tags.append(_tag(f"image {weights.values[0]:.2f}", PLAIN, 0.0, 0.0))
    return tags


def _tag(text: str, colour: str, left: float, top: float) -> View:
    return {"text": text, "colour": colour, "ink": letters_on(colour), "left": left, "top": top}


def _line(line: ShadedLine) -> View:
    return {
        "heading": line.title,
        "about": line.about,
        "colour": line.colour,
        "ink": letters_on(line.colour),
        "tag": line.tag,
        "parts": [_part(segment, line) for segment in _without_last_break(line.segments)],
    }


def _without_last_break(segments: Sequence[Segment]) -> list[Segment]:
    """A text's last line break would push the chip behind it to a line of its own."""
    kept = list(segments)
    for place, (segment, following) in enumerate(pairwise(segments)):
        if following.is_chip and not segment.is_chip:
            kept[place] = replace(segment, text=segment.text.rstrip())
    return kept


def _part(segment: Segment, line: ShadedLine) -> View:
    kind = "chip" if segment.is_chip else "unread" if segment.weight is None else "read"
    red, green, blue = rgb(line.colour)
    shade = opacity(segment.weight or 0.0, line.full)
    background = f"rgba({red},{green},{blue},{shade:.3f})"
    return {"text": segment.text, "weight": segment.weight, "kind": kind, "background": background}


def _bars(bars: Bars) -> View:
    rows = [
        {
            "title": bar.title,
            "value": bar.value,
            "percent": round(100 * bar.share, 2),
            "colour": PLAIN if bar.is_most else "var(--bar)",
        }
        for bar in bars.rows
    ]
    return {"title": bars.title, "rows": rows}


def _table(explanation: PairExplanation) -> list[View]:
    """All regions, where more are read than shown in colour."""
    if not has_regions(explanation) or len(explanation.regions) <= len(shown_regions(explanation)):
        return []
    alignment = explanation.reasons.alignment
    return [
        {
            "number": region.number,
            "figures": region_figures(explanation, region),
            "heaviest": heaviest(explanation, alignment.values[region.number - 1]) if alignment else "",
        }
        for region in explanation.regions
    ]
