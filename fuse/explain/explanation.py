"""What one answer of a head rests on, as numbers: figure, page and JSON are made from this object and nothing else.

Filled by `explain.py` from one forward pass; draws nothing, computes nothing but names and order.
"""

# Shapes: K classes, n pieces of the text, m regions of the image.

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Box = tuple[float, float, float, float]
Numbers = tuple[float, ...]

WHOLE = 0.995  # weights that add up to less lie partly on something that is neither word nor region


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A word piece: which characters of the text as read it stands for."""

    start: int
    end: int  # exclusive; start = end for a special piece, which the tokenizer adds
    is_special: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A part of the image."""

    number: int  # from 1, in the order they are stored: best first
    box: Box | None  # x1, y1, x2, y2 as shares of the image's width and height; None where none is stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One number for each piece of the text or each region; `both`: for the image, then for each piece."""

    name: str  # of the tensor among the head's details
    title: str
    over: Literal["words", "regions", "both"]
    values: Numbers

    @property
    def total(self) -> float:
        return sum(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """For each region one number for each piece of the text."""

    name: str
    title: str
    values: tuple[Numbers, ...]  # (m, n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """A classifier's probabilities, beside the head's answer: of the text alone, of the image alone."""

    name: str
    title: str
    probabilities: Numbers  # (K,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One number about the pair."""

    name: str
    title: str
    kind: Literal["share", "weight", "distance"]  # what it is compared with: 1, other weights, other distances
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasons:
    """What a head's details say about one pair; each may be empty."""

    words: tuple[Weights, ...] = ()  # over words, or both
    region_weights: tuple[Weights, ...] = ()
    alignment: Alignment | None = None
    voices: tuple[Voice, ...] = ()
    quantities: tuple[Quantity, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def has_any(self) -> bool:
        """Whether there is anything to show beside the answer."""
        return bool(self.words or self.region_weights or self.alignment or self.voices or self.quantities)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairExplanation:
    """A head's answer to one pair and what it rests on."""

    id: str
    run: str
    head: str
    dataset: str
    part: str  # train, val, test; "" for a pair in none
    part_opened: int  # how often the part was opened for this run, this time included
    classes: tuple[str, ...]
    label: str | None
    logits: Numbers  # (K,)
    probabilities: Numbers  # (K,)
    text: str | None  # as read; None where the pair has none
    pieces: tuple[Piece, ...]  # those that the head reads; none of a head that reads no text
    regions: tuple[Region, ...]  # those that the head reads
    image_file: Path | None
    image_problem: str  # why there is no image to show; "" where there is one
    reasons: Reasons
    notes: tuple[str, ...]  # about the pair: what it lacks, where it comes from

    @property
    def predicted(self) -> str:
        return self.classes[self.probabilities.index(max(self.probabilities))]

    @property
    def confidence(self) -> float:
        """The probability of the predicted class."""
        return max(self.probabilities)

    @property
    def verdict(self) -> str:
        """Label and answer in a few words.

        A pair without a label is only answered.
        """
        said = f"said {self.predicted} ({self.confidence:.0%})"
        return f"no label, {said}" if self.label is None else f"labelled {self.label}, {said}"

    @property
    def origin(self) -> str:
        """Where the pair comes from, and which run speaks."""
        part = f"{self.part} part" if self.part else "in no part of the split"
        return f"pair {self.id} of {self.dataset} ({part}) · {self.run}"

    def shown_regions(self, most: int) -> tuple[Region, ...]:
        """The `most` regions that count most: by the first of the region weights after a gate, else as stored."""
        ranked = [weights for weights in self.reasons.region_weights if not weights.name.startswith("gate")]
        if not ranked:
            return self.regions[:most]
        values = ranked[0].values
        order = sorted(range(len(self.regions)), key=lambda i: (-values[i], i))
        return tuple(self.regions[i] for i in order[:most])

    def to_json(self) -> dict[str, Any]:
        """Every number as it is, for `json.dumps`."""
        found = asdict(self) | {"predicted": self.predicted, "confidence": self.confidence}
        return found | {"image_file": None if self.image_file is None else str(self.image_file)}
