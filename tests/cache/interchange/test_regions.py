"""What detectors write becomes the fields of `regions`; nothing is made up."""

from typing import Any

import numpy as np
import pytest

from sentifuse.cache.errors import BadSource, BadSourceRow
from sentifuse.cache.interchange.regions import Detections, region_fields, region_values


def detections(**other: Any) -> Detections:
    values = {
        "features": np.ones((2, 3), np.float32),
        "boxes": np.array([[0, 0, 20, 15], [10, 5, 40, 30]], np.float32),
        "size": (40, 30),
        "extras": {},
    }
    return Detections(**{**values, **other})


def test_boxes_are_divided_by_width_and_height() -> None:
    values = region_values(detections(), None, "x")
    np.testing.assert_array_equal(values["boxes_normalised"], np.float32([[0, 0, 0.5, 0.5], [0.25, 5 / 30, 1, 1]]))
    assert list(values) == ["features", "boxes", "boxes_normalised", "image_size"]
    assert [field.is_ragged for field in region_fields(values)] == [True, True, True, False]


def test_extras_keep_their_order_and_dtype() -> None:
    extras = {"attribute_ids": np.arange(2), "object_ids": np.arange(2, dtype=np.int32)}
    values = region_values(detections(extras=extras), None, "x")
    assert list(values)[4:] == ["object_ids", "attribute_ids"]
    assert (values["object_ids"].dtype, values["attribute_ids"].dtype) == (np.int32, np.int64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": np.zeros((1, 4), np.float32)}, r"features \(2, 3\) and boxes \(1, 4\)"),
        ({"features": np.zeros(2, np.float32)}, "expected"),
        ({"size": (0, 30)}, "image of 0 x 30"),
        ({"size": (2**31, 30)}, "image of"),
        ({"extras": {"object_ids": np.arange(3)}}, r"object_ids \(3,\) for 2 regions"),
    ],
)
def test_contradictions_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSourceRow, match=message):
        region_values(detections(**change), None, "x")


def test_only_what_must_be_is_converted() -> None:
    found = detections(boxes=np.zeros((2, 4)), extras={"object_scores": np.ones(2, np.float16)})
    with pytest.raises(BadSource, match="boxes: dtype float64"):
        region_values(found, None, "x")
    values = region_values(found, "float16", "x")
    assert [values[name].dtype.name for name in ("features", "boxes", "object_scores")] == [
        "float16",
        "float32",
        "float16",
    ]
