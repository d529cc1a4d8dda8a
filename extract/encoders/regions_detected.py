"""regions found by a detector: what every such backend stores, whichever network finds them.

A backend brings a backbone whose forward pass gives a `Detected` for each image; reading it is the same for all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from sentifuse import DataError
from sentifuse.cache.spec import Field
from sentifuse.extract.encoder import Backbone, Encoder, Outputs, RowValues, check_values
from sentifuse.extract.models.located import LocatedModel

__all__ = ["Detected", "DetectedRegions", "DetectorBackbone"]

# Shapes: R regions of an image, D features of a region.
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detected:
    """The regions of one image, in any order; R may be 0.

    Attributes
    ----------
    features
        float32 (R, D).
    boxes
        float32 (R, 4), x1 y1 x2 y2 in pixels of the upright original.
    scores
        float32 (R,): what regions are ranked by.
    object_ids, object_scores
        (R,) best class, counted from 0 without background, and its probability.
    attribute_ids, attribute_scores
        (R,), or None from a network that knows no attributes.
    size
        (width, height) of the original in pixels.
    """

    features: Floats
    boxes: Floats
    scores: Floats
    object_ids: Ints
    object_scores: Floats
    size: tuple[int, int]
    attribute_ids: Ints | None = None
    attribute_scores: Floats | None = None


class DetectorBackbone(Backbone, Protocol):
    """A backbone whose `forward` gives {"regions": [Detected, …]}, a DataError for an image that has none."""

    feature_width: int
    has_attributes: bool


class DetectedRegions(Encoder):
    """Parent of the detectors' encoders; image → its regions by falling score, as many as there are.

    Fields: features float32 or float16 (R, D) · boxes float32 (R, 4), x1 y1 x2 y2 in pixels of the upright original ·
    boxes_normalised float32 (R, 4), the same divided by its width and height · scores float32 (R,), what the order
    follows · object_ids int32 (R,) · object_scores float32 (R,) · attribute_ids and attribute_scores likewise, where
    the network has them · image_size int32 (2,), width and height. No row is ever filled up: an image with fewer
    regions has fewer, one without any has none and is a row all the same.
    """

    name: ClassVar[str] = "regions"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    # An image takes a processor seconds: what an interruption loses are minutes. On every device the same, so that a
    # run may go on elsewhere.
    shard_rows: ClassVar[int] = 32
    dtypes: ClassVar[Mapping[str, str]] = {
        "features": "float32",
        "boxes": "float32",
        "boxes_normalised": "float32",
        "scores": "float32",
        "object_ids": "int32",
        "object_scores": "float32",
        "attribute_ids": "int32",
        "attribute_scores": "float32",
        "image_size": "int32",
    }

    def __init__(self, settings: Any, backbone: Backbone, model: LocatedModel) -> None:
        super().__init__(settings, backbone, model)
        width: int = backbone.feature_width  # type: ignore[attr-defined]  # a DetectorBackbone
        shapes = {"features": (width,), "boxes": (4,), "boxes_normalised": (4,), "image_size": (2,)}
        self.fields = tuple(
            Field(name=name, dtype=dtype, shape=shapes.get(name, ()), is_ragged=name != "image_size")
            for name, dtype in self.stored_dtypes(settings).items()
        )

    def read(self, outputs: Outputs, batch: Sequence[Any]) -> list[RowValues]:
        """One dict per image; a value that is not finite makes the row fail."""
        return [found if isinstance(found, DataError) else self._read_one(found) for found in outputs["regions"]]

    def _read_one(self, found: Detected) -> RowValues:
        # Stable: equal scores keep the detector's order, so that the same image gives the same rows everywhere.
        order = np.argsort(-found.scores, kind="stable")
        limit = np.array(found.size * 2, dtype=np.float64)
        boxes = np.clip(found.boxes, 0.0, limit)  # scaled to the original, an edge may be a rounding beyond it
        values: dict[str, Any] = {
            "features": found.features,
            "boxes": boxes,
            "boxes_normalised": boxes / limit,
            "scores": found.scores,
            "object_ids": found.object_ids,
            "object_scores": found.object_scores,
            "attribute_ids": found.attribute_ids,
            "attribute_scores": found.attribute_scores,
        }
        with np.errstate(over="ignore"):  # becomes inf, which check_values refuses
            stored = {
                field.name: values[field.name][order].astype(field.dtype)
                for field in self.fields
                if field.name != "image_size"
            }
        stored["image_size"] = np.array(found.size, dtype=np.int32)
        return check_values(stored)
