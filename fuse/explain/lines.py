"""The lines of shaded text that explain a pair, for figure and page: which, in which colour, under which words."""

from dataclasses import dataclass

from sentifuse.fuse.explain.explanation import WHOLE, PairExplanation, Region, Weights
from sentifuse.fuse.explain.palette import PLAIN, colour_of, full_weight
from sentifuse.fuse.explain.shading import Segment, heaviest, shade

MOST_REGIONS = 4  # in colour; all of them stand in the JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadedLine:
    """A text shaded by one row of weights."""

    heading: str
    about: str  # the heaviest pieces, by number
    colour: str
    tag: str  # the number of the region, "" for none
    segments: tuple[Segment, ...]  # none where there are no words to shade
    largest: float  # weight of all that is compared with this line
    even: float  # what each weight would be if all were equal

    @property
    def title(self) -> str:
        """The heading; of a line without a tag with how to read the shades, which regions have above them all."""
        return self.heading if self.tag else f"{self.heading[:1].upper()}{self.heading[1:]}; {self.scale}"

    @property
    def scale(self) -> str:
        """How to read the shades."""
        return f"largest {self.largest:.2f}, even {self.even:.2f}"

    @property
    def full(self) -> float:
        """The weight with the darkest shade."""
        return full_weight(self.largest, self.even)


def shown_regions(explanation: PairExplanation, most: int = MOST_REGIONS) -> tuple[Region, ...]:
    """The regions in colour, by number: colours go by this order."""
    return tuple(sorted(explanation.shown_regions(most), key=lambda region: region.number))


def shaded_lines(explanation: PairExplanation, most: int = MOST_REGIONS) -> tuple[ShadedLine, ...]:
    """A line for each region in colour, then one for each row of weights over the words."""
    return (*_of_regions(explanation, most), *_of_words(explanation))


def plain_text(explanation: PairExplanation) -> tuple[Segment, ...]:
    """The text without any shade, where no line has it."""
    return () if explanation.text is None else (Segment(text=explanation.text, weight=0.0),)


def is_ranked(explanation: PairExplanation) -> bool:
    """Whether the regions in colour were chosen by a weight, not by their order."""
    return any(not weights.name.startswith("gate") for weights in explanation.reasons.region_weights)


def has_regions(explanation: PairExplanation) -> bool:
    """Whether the head says anything about its regions; if not, no box is worth drawing."""
    return bool(explanation.regions and (explanation.reasons.region_weights or explanation.reasons.alignment))


def which_regions(explanation: PairExplanation) -> str:
    """Which regions are in colour, and by what they were chosen; "" where there are none."""
    if not has_regions(explanation):
        return ""
    shown, total = len(shown_regions(explanation)), len(explanation.regions)
    if shown == total:
        return "In colour: all regions."
    by = "the largest weights" if is_ranked(explanation) else "the first as stored"
    return f"In colour: {shown} of {total} regions ({by}). The others are outlined thinly."


def region_figures(explanation: PairExplanation, region: Region) -> str:
    """Every number of a region: "gate 0.53 · weight 0.31"."""
    place = region.number - 1
    said = [
        f"{weights.title} {weights.values[place]:.2f}" for weights in _without_hops(explanation.reasons.region_weights)
    ]
    return " · ".join(said)


def _of_regions(explanation: PairExplanation, most: int) -> list[ShadedLine]:
    alignment = explanation.reasons.alignment
    regions = shown_regions(explanation, most)
    if not has_regions(explanation):
        return []
    rows = [alignment.values[region.number - 1] if alignment else () for region in regions]
    largest = max((value for row in rows for value in row), default=0.0)  # one scale: lines can be compared
    return [
        ShadedLine(
            heading=" · ".join(
                part for part in (f"region {region.number}", region_figures(explanation, region)) if part
            ),
            about=f"{heaviest(explanation, row)}{_rest(sum(row))}" if row else "",
            colour=colour_of(place),
            tag=str(region.number),
            segments=shade(explanation, row) if row else (),
            largest=largest,
            even=1 / len(row) if row else 0.0,
        )
        for place, (region, row) in enumerate(zip(regions, rows, strict=True))
    ]


def _of_words(explanation: PairExplanation) -> list[ShadedLine]:
    lines = []
    for weights in explanation.reasons.words:
        image, words = (weights.values[0], weights.values[1:]) if weights.over == "both" else (None, weights.values)
        lines.append(
            ShadedLine(
                heading=weights.title,
                about=heaviest(explanation, words) + _rest(weights.total),
                colour=PLAIN,
                tag="",
                segments=shade(explanation, words, image=image),
                largest=max(weights.values, default=0.0),
                even=1 / max(1, len(weights.values)),
            )
        )
    return lines


def _rest(total: float) -> str:
    """What to say of weights that add up to less than 1."""
    return "" if total >= WHOLE else f" · {1 - total:.2f} on no word"


def _without_hops(weights: tuple[Weights, ...]) -> tuple[Weights, ...]:
    return tuple(one for one in weights if "[" not in one.name)
