"""What every detector's regions obey as stored: order, boxes inside the image, no region at all."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sentifuse import DataError
from sentifuse.extract.encoders.regions_detected import Detected, DetectedRegions
from sentifuse.extract.encoders.regions_detectron2 import Detectron2Regions
from sentifuse.extract.encoders.regions_torchvision import TorchvisionRegions
from sentifuse.extract.encoders.regions_vg import VisualGenomeRegions, VisualGenomeSettings
from sentifuse.extract.models.located import read_tiny
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.plan import SHARD_ROWS

WIDTH = 4


class Given:
    """A detector that was told what to find."""

    inputs = ("image",)
    feature_width = WIDTH
    has_attributes = True

    def prepare(self, image: Any, text: str | None) -> Any:
        return image

    def batch_key(self, prepared: Any) -> int:
        return 0

    def forward(self, batch: Any) -> Mapping[str, Any]:
        return {"regions": list(batch)}


def found(scores: list[float], **changes: Any) -> Detected:
    """Regions whose features and boxes count up with their place in the list."""
    count = len(scores)
    steps = np.arange(count, dtype=np.float32)[:, None]
    values: dict[str, Any] = {
        "features": np.tile(steps, (1, WIDTH)),
        "boxes": np.hstack([steps, steps, steps + 1, steps + 2]),
        "scores": np.array(scores, dtype=np.float32),
        "object_ids": np.arange(count),
        "object_scores": np.array(scores, dtype=np.float32),
        "attribute_ids": np.arange(count),
        "attribute_scores": np.array(scores, dtype=np.float32),
        "size": (100, 50),
    }
    return Detected(**{**values, **changes})


def stored(one: Detected, **settings: Any) -> Any:
    encoder = VisualGenomeRegions(
        VisualGenomeSettings(**settings), Given(), read_tiny(ModelSource(kind="tiny", name="image"))
    )
    (row,) = encoder.read(encoder.backbone.forward([one]), [one])
    return row


def test_regions_are_stored_by_falling_score_and_equal_ones_in_the_detectors_order() -> None:
    row = stored(found([0.2, 0.9, 0.2, 0.5]))
    assert row["object_ids"].tolist() == [1, 3, 0, 2]
    assert row["features"][:, 0].tolist() == row["boxes"][:, 0].tolist() == [1, 3, 0, 2]
    assert (np.diff(row["scores"]) <= 0).all()


def test_an_image_without_regions_is_a_row_of_none() -> None:
    row = stored(found([], boxes=np.zeros((0, 4), np.float32)))
    assert {name: value.shape for name, value in row.items()} == {
        "features": (0, WIDTH),
        "boxes": (0, 4),
        "boxes_normalised": (0, 4),
        "scores": (0,),
        "object_ids": (0,),
        "object_scores": (0,),
        "attribute_ids": (0,),
        "attribute_scores": (0,),
        "image_size": (2,),
    }
    assert row["image_size"].tolist() == [100, 50]


def test_no_edge_lies_beyond_the_image_not_even_by_a_rounding() -> None:
    beyond = np.nextafter(np.float32([100, 50]), np.float32(np.inf))
    row = stored(found([0.5], boxes=np.array([[-1e-6, 0, *beyond]], dtype=np.float32)))
    assert row["boxes"].tolist() == [[0, 0, 100, 50]]
    assert row["boxes_normalised"].tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("field", ["features", "boxes", "scores"])
def test_a_value_that_is_no_number_fails_the_row_and_names_the_field(field: str) -> None:
    values = getattr(found([0.5, 0.4]), field).copy()
    values.reshape(-1)[0] = np.nan
    row = stored(replace(found([0.5, 0.4]), **{field: values}))
    assert isinstance(row, DataError)
    assert f"{field} is not finite" in str(row)


def test_a_feature_too_large_for_half_precision_fails_the_row() -> None:
    large = np.full((1, WIDTH), 70_000, dtype=np.float32)
    assert isinstance(stored(found([0.5], features=large), features="float16"), DataError)
    assert stored(found([0.5], features=large))["features"].max() == 70_000


def test_an_interruption_loses_fewer_images_than_of_other_encoders() -> None:
    backends = (VisualGenomeRegions, TorchvisionRegions, Detectron2Regions)
    assert [backend.shard_rows for backend in backends] == [DetectedRegions.shard_rows] * 3
    assert DetectedRegions.shard_rows < SHARD_ROWS
