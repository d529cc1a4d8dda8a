"""From proposals to regions: each proposal once, boxes in the original's pixels, what lies outside is left out."""

from typing import Any

import torch

from sentifuse.extract.backbones.detected import regions_of_proposals, to_detected

NET_HW, SIZE = (60, 120), (40, 20)  # the network saw the image three times as large


def regions(boxes: Any, probabilities: Any, **changes: Any) -> Any:
    """Regions of proposals whose features are their number; boxes (R, K, 4) in the network's pixels."""
    moved = torch.tensor(boxes, dtype=torch.float32)
    options: dict[str, Any] = {"net_hw": NET_HW, "size": SIZE, "count": 36, "overlap": 0.5}
    features = torch.arange(float(len(moved)))[:, None]
    return regions_of_proposals(features, torch.tensor(probabilities), moved, **{**options, **changes})


def test_a_proposal_is_named_once_with_its_best_class_and_the_box_of_this_class() -> None:
    found = regions([[[0, 0, 30, 30], [30, 30, 90, 60]]], [[0.4, 0.5]])
    assert (found.object_ids.tolist(), found.object_scores.tolist()) == ([1], [0.5])
    assert found.boxes.tolist() == [[10, 10, 30, 20]]
    assert found.size == SIZE


def test_one_box_for_all_classes_will_do() -> None:
    found = regions([[[0, 0, 30, 30]]], [[0.1, 0.7]])
    assert (found.object_ids.tolist(), found.boxes.tolist()) == ([1], [[0, 0, 10, 10]])


def test_of_two_that_overlap_the_more_probable_stays_whatever_their_classes() -> None:
    boxes = [[[0, 0, 30, 30]], [[3, 0, 33, 30]], [[60, 0, 90, 30]]]
    found = regions(boxes, [[0.6, 0.0], [0.0, 0.7], [0.5, 0.0]])
    assert found.features[:, 0].tolist() == [1, 2]
    assert regions(boxes, [[0.6, 0.0], [0.0, 0.7], [0.5, 0.0]], overlap=0.9).features[:, 0].tolist() == [1, 0, 2]
    assert regions(boxes, [[0.6, 0.0], [0.0, 0.7], [0.5, 0.0]], count=1).features[:, 0].tolist() == [1]


def test_boxes_are_clipped_and_one_moved_out_of_the_image_is_no_region() -> None:
    found = regions([[[-30, -30, 30, 30]], [[130, 0, 150, 30]]], [[0.5], [0.9]])
    assert found.features[:, 0].tolist() == [0]
    assert found.boxes.tolist() == [[0, 0, 10, 10]]


def test_no_proposals_are_no_regions() -> None:
    nothing = torch.zeros(0, 3)
    found = to_detected(nothing, torch.zeros(0, 4), nothing[:, 0], nothing[:, 0], net_hw=NET_HW, size=SIZE)
    assert (found.features.shape, found.boxes.shape, found.object_ids.dtype.kind) == ((0, 3), (0, 4), "i")
    assert (found.attribute_ids, found.attribute_scores) == (None, None)
