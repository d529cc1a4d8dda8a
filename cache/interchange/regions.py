"""What region detectors write about an image, as the fields that the encoder `regions` has. Knows no file."""

# Shapes: R regions of an image, D features of a region.

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sentifuse.cache.errors import BadSourceRow
from sentifuse.cache.interchange.source import field_of, storable
from sentifuse.cache.spec import Array, Field

__all__ = ["EXTRAS", "Detections", "region_fields", "region_values"]

# What else a detector may say of each region, in the order of the fields. Confidences are not our `scores`: those are
# whatever an encoder ranked its regions by, and a file does not say by what it did.
EXTRAS = ("object_ids", "object_scores", "attribute_ids", "attribute_scores")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detections:
    """The regions of one image as a file has them.

    Attributes
    ----------
    features : array
        (R, D)
    boxes : array
        (R, 4), x1 y1 x2 y2 in pixels of the image.
    size : (int, int)
        Width and height of the image.
    extras : mapping
        Those of `EXTRAS` that the file has, each (R,).
    """

    features: Array
    boxes: Array
    size: tuple[int, int]
    extras: Mapping[str, Array]


def region_values(found: Detections, dtype: str | None, where: str) -> dict[str, Array]:
    """The fields of one image; `dtype` converts the features, and the rest only where it cannot be stored as it is.

    Raises
    ------
    BadSourceRow
        Numbers that contradict each other.
    BadSource
        A dtype that cannot be stored.
    """
    count = len(found.features)
    if found.features.ndim != 2 or found.boxes.shape != (count, 4):
        raise BadSourceRow(
            f"{where}: features {found.features.shape} and boxes {found.boxes.shape}, expected (R, D) and (R, 4)"
        )
    width, height = found.size
    if not (0 < width < 2**31 and 0 < height < 2**31):
        raise BadSourceRow(f"{where}: an image of {width} x {height} pixels")
    rest = "float32" if dtype else None
    boxes = _side(found.boxes, rest, f"{where}: boxes")
    scale = np.array([width, height, width, height], dtype=np.float64)
    values = {
        "features": storable(found.features, dtype, f"{where}: features"),
        "boxes": boxes,
        "boxes_normalised": (found.boxes / scale).astype(np.float32),
        "image_size": np.array([width, height], dtype=np.int32),
    }
    for name in EXTRAS:
        if name in found.extras:
            extra = found.extras[name]
            if extra.shape != (count,):
                raise BadSourceRow(f"{where}: {name} {extra.shape} for {count} regions")
            values[name] = _side(extra, rest, f"{where}: {name}")
    return values


def region_fields(values: Mapping[str, Array]) -> tuple[Field, ...]:
    """The fields of a first image's values; all but the size have one element a region."""
    return tuple(field_of(name, value, is_ragged=name != "image_size") for name, value in values.items())


def _side(array: Array, dtype: str | None, where: str) -> Array:
    """Boxes and confidences stay as they are if they can."""
    return storable(array, None if array.dtype.name in ("float16", "float32") else dtype, where)
