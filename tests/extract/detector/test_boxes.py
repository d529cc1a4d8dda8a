import math

import torch

from sentifuse.extract.detector.boxes import (
    anchor_grid,
    apply_deltas,
    cell_anchors,
    cell_anchors_of_caffe,
    clip_boxes,
    scale_boxes,
)


def test_anchors_are_listed_by_size_then_ratio() -> None:
    anchors = cell_anchors()
    sides = anchors[:, 2:] - anchors[:, :2]
    assert torch.allclose((sides[:, 0] * sides[:, 1]).sqrt(), torch.tensor([64.0, 128, 256, 512]).repeat_interleave(3))
    assert torch.allclose(sides[:, 1] / sides[:, 0], torch.tensor([0.5, 1.0, 2.0]).repeat(4))


def test_caffes_anchors_have_the_plus_one_absorbed() -> None:
    # base (0, 0, 15, 15), ratio 1, times 4: (-24, -24, 39, 39) with "+1"
    assert cell_anchors_of_caffe()[1].tolist() == [-24, -24, 40, 40]


def test_the_grid_goes_by_row_column_anchor_without_half_a_cell() -> None:
    grid = anchor_grid(cell_anchors(), 2, 3)
    assert torch.equal(grid[:12], cell_anchors())
    assert torch.equal(grid[(1 * 3 + 2) * 12 + 5], cell_anchors()[5] + torch.tensor([32.0, 16, 32, 16]))


def test_deltas_move_the_centre_by_sides_and_sides_by_exponentials() -> None:
    box = torch.tensor([[10.0, 20, 30, 60]])
    moved = apply_deltas(torch.tensor([[1.0, -1, math.log(2) * 5, 0]]), box, (10, 10, 5, 5))
    assert torch.allclose(moved, torch.tensor([[2.0, 16, 42, 56]]))


def test_no_delta_makes_a_box_more_than_62_5_times_as_wide() -> None:
    moved = apply_deltas(torch.tensor([[0.0, 0, 50, 0]]), torch.tensor([[0.0, 0, 2, 2]]))
    assert math.isclose(float(moved[0, 2] - moved[0, 0]), 125.0, rel_tol=1e-6)


def test_boxes_are_clipped_to_the_sides_not_one_less() -> None:
    clipped = clip_boxes(torch.tensor([[-5.0, -5, 900, 700]]), 600, 800)
    assert clipped.tolist() == [[0, 0, 800, 600]]


def test_each_axis_is_scaled_by_its_own_factor() -> None:
    assert scale_boxes(torch.tensor([[8.0, 6, 80, 60]]), (600, 800), (100, 400)).tolist() == [[4, 1, 40, 10]]
