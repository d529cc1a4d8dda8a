"""regions, backend `grid`: the most strongly activated cells of an image network's last map. Needs no detector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sentifuse import DataError
from sentifuse.cache.spec import Field
from sentifuse.extract.encoder import Array, Backbone, BackboneSpec, Encoder, Outputs, RowValues, check_values
from sentifuse.extract.encoders.context import image_backbone, published_preprocessing
from sentifuse.extract.encoders.regions import DEFAULT_BACKEND
from sentifuse.extract.imaging import ImageSettings, PreparedImage
from sentifuse.extract.models.located import LocatedModel
from sentifuse.extract.settings import check_range

__all__ = ["GridRegions", "GridSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridSettings(ImageSettings):
    """Settings of the grid backend: the preprocessing, and how many cells are stored at most."""

    backend: str = DEFAULT_BACKEND  # "grid" is said in every profile, so that the recipe says it too
    count: int = 36

    def __post_init__(self) -> None:
        super(GridSettings, self).__post_init__()  # a slotted dataclass is made twice: bare super() finds the first
        check_range("count", self.count, 1, 1024)


class GridRegions(Encoder):
    """image → the `count` cells of the last map with the largest L2 norm, strongest first; R ≤ count of them.

    Fields: features float16 (R, C) · boxes float32 (R, 4), x1 y1 x2 y2 in pixels of the upright original ·
    boxes_normalised float32 (R, 4), the same divided by its width and height · scores float32 (R,), the norms ·
    image_size int32 (2,), width and height. A cell's box is its share of the network's input, mapped back through crop
    and resize; cells that lie wholly outside the original (a crop filled up with black) are left out.
    """

    name: ClassVar[str] = "regions"
    version: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    dtypes: ClassVar[Mapping[str, str]] = {
        "features": "float16",
        "boxes": "float32",
        "boxes_normalised": "float32",
        "scores": "float32",
        "image_size": "int32",
    }
    Settings: ClassVar[type] = GridSettings

    def __init__(self, settings: GridSettings, backbone: Backbone, model: LocatedModel) -> None:
        super().__init__(settings, backbone, model)
        width: int = backbone.map_shape[0]  # type: ignore[attr-defined]  # ImageBackbone; this file has no torch
        self.fields = (
            Field(name="features", dtype="float16", shape=(width,), is_ragged=True),
            Field(name="boxes", dtype="float32", shape=(4,), is_ragged=True),
            Field(name="boxes_normalised", dtype="float32", shape=(4,), is_ragged=True),
            Field(name="scores", dtype="float32", shape=(), is_ragged=True),
            Field(name="image_size", dtype="int32", shape=(2,)),
        )

    @classmethod
    def resolve(cls, settings: Any, model: LocatedModel, given: frozenset[str]) -> Any:
        """Published preprocessing of torchvision's weights, where the profile does not say otherwise."""
        return published_preprocessing(settings, model, given)

    @classmethod
    def backbone_spec(cls, settings: Any, model: LocatedModel, precision: str) -> BackboneSpec:
        """The image network up to its last map; shared with `context` on the same model and preprocessing."""
        return image_backbone(settings, model, precision)

    def read(self, outputs: Outputs, batch: Sequence[PreparedImage]) -> list[RowValues]:
        """One dict per image."""
        return [self._read_one(maps, prepared) for maps, prepared in zip(outputs["map"], batch, strict=True)]

    def _read_one(self, feature_map: Array, prepared: PreparedImage) -> RowValues:
        cells = feature_map.reshape(feature_map.shape[0], -1).T  # (h w, C), row by row
        norms = np.sqrt(np.square(cells, dtype=np.float64).sum(axis=1))
        boxes = prepared.boxes_in_original(cell_boxes(feature_map.shape[1:], prepared.pixels.shape[:2]))
        is_inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        if not is_inside.any():
            return DataError("no cell of the grid lies inside the image")
        # Stable: equal norms keep reading order, so that the same image gives the same rows everywhere.
        order = np.argsort(np.where(is_inside, -norms, np.inf), kind="stable")
        chosen = order[: min(self.settings.count, int(is_inside.sum()))]
        with np.errstate(over="ignore"):  # becomes inf, which check_values refuses
            features = cells[chosen].astype(np.float16)
        return check_values(
            {
                "features": features,
                "boxes": boxes[chosen].astype(np.float32),
                "boxes_normalised": (boxes[chosen] / np.array(prepared.size * 2)).astype(np.float32),
                "scores": norms[chosen].astype(np.float32),
                "image_size": np.array(prepared.size, dtype=np.int32),
            }
        )


def cell_boxes(grid: tuple[int, ...], image: tuple[int, ...]) -> Array:
    """Boxes (h w, 4) float64 of a grid's cells, row by row, in pixels of the network's input (height, width)."""
    rows, columns = grid
    y = np.arange(rows + 1) * (image[0] / rows)
    x = np.arange(columns + 1) * (image[1] / columns)
    top, left = np.meshgrid(y[:-1], x[:-1], indexing="ij")
    bottom, right = np.meshgrid(y[1:], x[1:], indexing="ij")
    return np.stack([left, top, right, bottom], axis=-1).reshape(-1, 4)
