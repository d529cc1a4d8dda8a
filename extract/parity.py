"""Do two backends give the same regions? Runs both on the same images and compares what they would store, row by row.

Rows are matched by their boxes, so that neither the order nor a row that one of them lacks spoils the rest. Writes
nothing.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from sentifuse import ConfigError, DataError
from sentifuse.data.images import read_image
from sentifuse.extract.encoder import Array, EncoderPlan, RowValues

__all__ = [
    "ImageParity",
    "Pairs",
    "Parity",
    "Side",
    "Summary",
    "compare_rows",
    "list_images",
    "run_parity",
    "summarise",
]

# Shapes: R rows of one side, P matched pairs.
LEAST_IOU = 0.5  # below it two boxes are not of one region
# What counts as the same: half precision that may be used keeps this cosine, and boxes to a hundredth.
SAME_IOU = 0.99
SAME_COSINE = 0.9999
SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)  # of files in a folder; a file that is named may be called anything
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """The matched rows of an image; None where one side does not store what is compared, or something else.

    Attributes
    ----------
    rows
        Number of rows of each side.
    iou, box_px, score
        float64 (P,): overlap of the boxes, largest difference of their coordinates in pixels, difference of the scores.
    is_same_object, is_same_attribute
        bool (P,).
    cosine, feature
        float64 (P,) of the features, and their largest difference.
    unlike
        What one side stores and the other does not, or in another width, in words.
    """

    rows: tuple[int, int]
    iou: Floats
    box_px: Floats
    score: Floats | None
    is_same_object: npt.NDArray[np.bool_] | None
    is_same_attribute: npt.NDArray[np.bool_] | None
    cosine: Floats | None
    feature: Floats | None
    unlike: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The pairs of one image or of many, in numbers; None: nothing to compare."""

    rows: tuple[int, int]
    matched: int
    iou_mean: float | None
    iou_min: float | None
    box_px_max: float | None
    objects_equal: float | None  # share of the pairs
    attributes_equal: float | None
    cosine_mean: float | None
    cosine_min: float | None
    feature_max: float | None
    score_max: float | None
    unlike: tuple[str, ...] = ()  # of the pairs, each once

    @property
    def differences(self) -> list[str]:
        """What keeps the two from being the same, in words; [] if nothing does."""
        found = list(self.unlike)
        first, second = self.rows
        if self.matched < max(first, second):
            found.append(f"{first - self.matched} and {second - self.matched} rows have no partner")
        if self.iou_min is not None and self.iou_min < SAME_IOU:
            found.append(f"boxes overlap by {self.iou_min:.4f} somewhere, expected {SAME_IOU}")
        for what, share in (("objects", self.objects_equal), ("attributes", self.attributes_equal)):
            if share is not None and share < 1:
                found.append(f"{100 * (1 - share):.3g} % of the {what} are others")
        if self.cosine_min is not None and self.cosine_min < SAME_COSINE:
            found.append(f"features have cosine {self.cosine_min:.6f} somewhere, expected {SAME_COSINE}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two backends, and what it took."""

    name: str
    backend: str
    model: str
    precision: str
    seconds_per_image: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageParity:
    """One image's comparison."""

    image: str
    summary: Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """The comparison of two backends.

    Attributes
    ----------
    failed
        Images that one side or both could not use, with the reason.
    one_sided
        Those of them that the other side could use: a difference. What neither can use is none.
    notes
        What was not compared though it keeps nothing from being the same, and why.
    """

    sides: tuple[Side, Side]
    images: tuple[ImageParity, ...]
    total: Summary
    failed: Mapping[str, str] = field(default_factory=dict)
    one_sided: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def differences(self) -> list[str]:
        """What keeps the two from being the same, in words; [] if nothing does."""
        found = self.total.differences
        if self.one_sided:
            found.append(f"{_images(len(self.one_sided))} can be used by one of the two only")
        return found

    @property
    def is_same(self) -> bool:
        """Whether both store the same of every image that either can use, within the bounds above."""
        return not self.differences

    @property
    def verdict(self) -> str:
        """One sentence for a person."""
        count = _images(len(self.images))
        if not self.is_same:
            return f"not the same regions of {count}: {'; '.join(self.differences)}"
        unused = f"; {_images(len(self.failed))} can be used by neither" if self.failed else ""
        return f"the same regions of {count}: all {self.total.matched} rows have their partner, and agree{unused}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"is_same": self.is_same, "verdict": self.verdict}


def compare_rows(a: Mapping[str, Array], b: Mapping[str, Array]) -> Pairs:
    """Match the rows of one image that two encoders of regions gave, and compare the partners.

    Parameters
    ----------
    a, b
        What `Encoder.read` gives: boxes (R, 4), scores (R,), features (R, D), and ids where there are any.
    """
    first, second, iou = match_boxes(a["boxes"].astype(np.float64), b["boxes"].astype(np.float64))
    boxes_a, boxes_b = (side["boxes"][rows].astype(np.float64) for side, rows in ((a, first), (b, second)))

    def equal(name: str) -> npt.NDArray[np.bool_] | None:
        return a[name][first] == b[name][second] if name in a and name in b else None

    has_one_scale = ("object_scores" in a) == ("object_scores" in b)  # a norm is not to be compared with a probability
    scores = np.abs(a["scores"][first].astype(np.float64) - b["scores"][second]) if has_one_scale else None
    vectors_a, vectors_b = a["features"][first].astype(np.float64), b["features"][second].astype(np.float64)
    has_one_width = vectors_a.shape[1] == vectors_b.shape[1]
    return Pairs(
        rows=(len(a["boxes"]), len(b["boxes"])),
        iou=iou,
        box_px=np.abs(boxes_a - boxes_b).max(axis=1, initial=0.0),
        score=scores,
        is_same_object=equal("object_ids"),
        is_same_attribute=equal("attribute_ids"),
        cosine=_cosines(vectors_a, vectors_b) if has_one_width else None,
        feature=np.abs(vectors_a - vectors_b).max(axis=1, initial=0.0) if has_one_width else None,
        unlike=_unlike(a, b),
    )


def _unlike(a: Mapping[str, Array], b: Mapping[str, Array]) -> tuple[str, ...]:
    found = []
    widths = a["features"].shape[1], b["features"].shape[1]
    if widths[0] != widths[1]:
        found.append(f"features are {widths[0]} and {widths[1]} wide: they have no cosine")
    for name, what in (("object_ids", "objects"), ("attribute_ids", "attributes")):
        if (name in a) != (name in b):
            found.append(f"only one of the two knows {what}")
    return tuple(found)


def match_boxes(a: Floats, b: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]:
    """Pairs of rows of boxes (R, 4) whose overlaps add up to the most, each row in one pair at most; IoU from 0.5 on.

    Returns
    -------
    tuple
        Rows of `a`, their partners in `b`, and the IoU, each (P,).
    """
    overlaps = intersection_over_union(a, b)
    first, second = linear_sum_assignment(np.where(overlaps >= LEAST_IOU, overlaps, 0.0), maximize=True)
    iou = overlaps[first, second]
    is_pair = iou >= LEAST_IOU
    return first[is_pair], second[is_pair], iou[is_pair]


def intersection_over_union(a: Floats, b: Floats) -> Floats:
    """(R, R') of boxes x1 y1 x2 y2; equal boxes have 1 even without an area."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=2)
    areas_a, areas_b = (np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None).prod(axis=1) for boxes in (a, b))
    union = areas_a[:, None] + areas_b[None, :] - shared
    is_equal = (a[:, None] == b[None]).all(axis=2)
    ratio: Floats = np.where(is_equal, 1.0, shared / np.where(union > 0, union, 1.0))
    return ratio


def summarise(pairs: Sequence[Pairs]) -> Summary:
    """Numbers over the pairs of one image or of many."""
    return Summary(
        rows=(sum(one.rows[0] for one in pairs), sum(one.rows[1] for one in pairs)),
        matched=sum(len(one.iou) for one in pairs),
        iou_mean=_over(np.mean, [one.iou for one in pairs]),
        iou_min=_over(np.min, [one.iou for one in pairs]),
        box_px_max=_over(np.max, [one.box_px for one in pairs]),
        objects_equal=_over(np.mean, [one.is_same_object for one in pairs]),
        attributes_equal=_over(np.mean, [one.is_same_attribute for one in pairs]),
        cosine_mean=_over(np.mean, [one.cosine for one in pairs]),
        cosine_min=_over(np.min, [one.cosine for one in pairs]),
        feature_max=_over(np.max, [one.feature for one in pairs]),
        score_max=_over(np.max, [one.score for one in pairs]),
        unlike=tuple(dict.fromkeys(what for one in pairs for what in one.unlike)),
    )


def list_images(places: Sequence[Path], *, limit: int | None = None) -> list[Path]:
    """The files among `places`, and the images in the folders among them, deep down, in the order of their names.

    Raises
    ------
    DataError
        A place that is not there, or no image in all of them.
    """
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise DataError(f"--images {place}: no such file or folder")
        inside = [path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES] if place.is_dir() else [place]
        found += sorted(inside)
    if not found:
        raise DataError(f"--images {', '.join(map(str, places))}: no image there, expected files such as .jpg or .png")
    return found[:limit]


def run_parity(
    plans: Mapping[str, EncoderPlan],
    images: Sequence[Path],
    *,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Parity:
    """Run two encoders of regions, one after the other, on each image alone.

    Parameters
    ----------
    plans
        Two, by the names they are to be told by.
    progress
        Called with the number of images newly done by one of them.

    Raises
    ------
    ConfigError
        There are not two, or one is no encoder of regions.
    DataError
        No image can be used by both.
    """
    if len(plans) != 2 or any(plan.name != "regions" for plan in plans.values()):
        raise ConfigError(f"found {', '.join(plans)}, expected two encoders of regions to compare")
    runs = {name: _run(plan, images, device, progress) for name, plan in plans.items()}
    first, second = (run.usable for run in runs.values())
    failed = _failures(runs)
    both = [image for image in first if image in second]
    if not both:
        image, reason = next(iter(failed.items()), ("", "there is none"))
        raise DataError(f"none of {len(images)} images can be used by both; {image}: {reason}")
    pairs = {image: compare_rows(first[image], second[image]) for image in both}
    sides = [_side(name, plan, runs[name]) for name, plan in plans.items()]
    return Parity(
        sides=(sides[0], sides[1]),
        images=tuple(ImageParity(image=image, summary=summarise([one])) for image, one in pairs.items()),
        total=summarise(list(pairs.values())),
        failed=failed,
        one_sided=tuple(image for image in failed if image in first or image in second),
        notes=_notes(first[both[0]], second[both[0]]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What one side gave of each image, or why it could not."""

    rows: Mapping[str, RowValues]
    seconds: float

    @property
    def usable(self) -> dict[str, Mapping[str, Array]]:
        return {image: row for image, row in self.rows.items() if not isinstance(row, DataError)}


def _run(plan: EncoderPlan, images: Sequence[Path], device: str, progress: Callable[[int], None] | None) -> _Run:
    encoder = plan.build(device=device, share={})
    rows: dict[str, RowValues] = {}
    seconds = 0.0
    for path in images:
        try:
            image = read_image(path)
            started = time.perf_counter()
            prepared = encoder.backbone.prepare(image, None)
            rows[str(path)] = encoder.read(encoder.backbone.forward([prepared]), [prepared])[0]
            seconds += time.perf_counter() - started
        except DataError as error:
            rows[str(path)] = error
        if progress:
            progress(1)
    return _Run(rows=rows, seconds=seconds)


def _failures(runs: Mapping[str, _Run]) -> dict[str, str]:
    """The images that a side could not use, with the reason of each side that could not."""
    failed: dict[str, str] = {}
    for name, run in runs.items():
        for image, row in run.rows.items():
            if isinstance(row, DataError):
                failed[image] = "; ".join(filter(None, (failed.get(image), f"{name}: {row}")))
    return failed


def _side(name: str, plan: EncoderPlan, run: _Run) -> Side:
    return Side(
        name=name,
        backend=str(getattr(plan.settings, "backend", "")),
        model=str(plan.backbone.model.source),
        precision=str(plan.recipe["precision"]),
        seconds_per_image=round(run.seconds / max(len(run.rows), 1), 4),
    )


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def _notes(a: Mapping[str, Array], b: Mapping[str, Array]) -> tuple[str, ...]:
    if ("object_scores" in a) == ("object_scores" in b):
        return ()
    return ("scores of one are probabilities, of the other not: they are not compared",)


def _cosines(a: Floats, b: Floats) -> Floats:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    is_equal = (a == b).all(axis=1)  # also two vectors of zeros
    cosines: Floats = np.where(is_equal, 1.0, (a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1.0))
    return cosines


def _over(reduce: Callable[[Any], Any], parts: Sequence[npt.NDArray[Any] | None]) -> float | None:
    known = [part for part in parts if part is not None]
    joined = np.concatenate(known) if known else np.zeros(0)
    return float(reduce(joined)) if len(joined) else None
