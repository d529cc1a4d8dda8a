import pytest
import torch
from torchvision.ops import roi_pool

from sentifuse.extract.detector.pooling import find_windows, pool_boxes


def boxes_on(height: int, width: int, count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    limit = torch.tensor([width * 16.0, height * 16.0])
    ends = (torch.rand(2, count, 2, generator=generator) * limit).sort(dim=0).values
    return torch.cat([ends[0], ends[1]], dim=1)


@pytest.mark.parametrize(("height", "width"), [(38, 50), (5, 63), (1, 1), (63, 3)])
def test_equals_torchvision_to_the_bit(height: int, width: int) -> None:
    boxes = boxes_on(height, width, 200, seed=height)
    boxes[:40] = (boxes[:40] / 8).round() * 8  # halves of cells: rounded away from zero
    boxes[40] = torch.tensor([0.0, 0.0, width * 16.0, height * 16.0])  # ends one past the map
    feature_map = torch.randn(3, height, width, generator=torch.Generator().manual_seed(0))
    expected = roi_pool(feature_map[None], [boxes], 14, 1 / 16)
    assert torch.equal(pool_boxes(feature_map, boxes), expected)


def test_bins_are_float32s_even_for_float64() -> None:
    # Sides of 29, 57, 58 and 62 cells have other bins in float64.
    sides = torch.tensor([29.0, 57, 58, 62])
    boxes = torch.stack([0 * sides, 0 * sides, (sides - 1) * 16, (sides - 1) * 16], dim=1)
    feature_map = torch.randn(2, 63, 63, generator=torch.Generator().manual_seed(0))
    narrow = pool_boxes(feature_map, boxes)
    assert torch.equal(pool_boxes(feature_map.double(), boxes.double()).float(), narrow)
    assert not torch.equal(roi_pool(feature_map.double()[None], [boxes.double()], 14, 1 / 16).float(), narrow)


def test_a_bin_without_cells_is_zero() -> None:
    boxes = torch.tensor([[60.0, 60.0, 64.0, 64.0]])  # starts at the map's end
    assert float(pool_boxes(torch.full((1, 4, 4), -3.0), boxes).abs().max()) == 0


def test_equal_windows_are_pooled_once() -> None:
    windows = find_windows(torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 9, 9]]), 4, 4)
    assert len(windows.edges) == 4  # two cells a side: a bin lies in one of them, as 14 is even
    assert windows.of_bin.shape == (2, 14, 14)


def test_no_boxes_give_no_crops() -> None:
    assert pool_boxes(torch.ones(2, 3, 3), torch.zeros(0, 4)).shape == (0, 2, 14, 14)
