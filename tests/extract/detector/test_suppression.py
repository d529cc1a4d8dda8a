import pytest
import torch
from torchvision.ops import box_iou, nms

from sentifuse.extract.detector.suppression import first_kept, overlapping, suppress_together


def crowd(images: int, count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(images, count, 2, generator=generator) * 60
    return torch.cat([corner, corner + 10 + torch.rand(images, count, 2, generator=generator) * 40], dim=2)


@pytest.mark.parametrize("overlap", [0.3, 0.5, 0.6, 0.7])
def test_keeps_what_torchvision_keeps_in_every_image(overlap: float) -> None:
    boxes = crowd(3, 200)
    kept, is_proved = suppress_together(overlapping(boxes, overlap), torch.ones(3, 200, dtype=torch.bool))
    assert is_proved.all()
    falling = torch.linspace(1, 0, 200)
    for image in range(3):
        assert kept[image].nonzero().flatten().tolist() == nms(boxes[image], falling, overlap).tolist()


def test_what_is_not_real_is_not_kept_and_suppresses_nothing() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0.0, 0, 10, 10], [0.0, 0, 10, 9]]])
    kept, _ = suppress_together(overlapping(boxes, 0.5), torch.tensor([[False, True, True]]))
    assert kept.tolist() == [[False, True, False]]


def test_too_few_rounds_for_a_chain_are_noticed() -> None:
    # Each box overlaps the next: the first, third, fifth ... are kept, which is known from one end only.
    left = torch.arange(12) * 4.0
    boxes = torch.stack([left, 0 * left, left + 10, 0 * left + 10], dim=1)[None]
    real = torch.ones(1, 12, dtype=torch.bool)
    _, is_proved = suppress_together(overlapping(boxes, 0.4), real, rounds=5)
    assert not is_proved.any()
    kept, is_proved = suppress_together(overlapping(boxes, 0.4), real, rounds=13)
    assert is_proved.all()
    assert kept[0].tolist() == [True, False] * 6


@pytest.mark.parametrize(("height", "overlap"), [(30, 0.3), (70, 0.7), (50, 0.5), (60, 0.6)])
def test_boxes_of_exactly_that_overlap_decide_as_in_torchvision(height: int, overlap: float) -> None:
    """0.3, 0.6 and 0.7 are no float32: their nearest ones are larger or smaller."""
    boxes = torch.tensor([[0.0, 0, 100, 100], [0.0, 0, 100, height]])
    expected = len(nms(boxes, torch.tensor([0.9, 0.8]), overlap)) == 1
    assert bool(overlapping(boxes, overlap)[0, 1]) == expected


def test_boxes_without_area_overlap_nothing() -> None:
    boxes = torch.tensor([[5.0, 5, 5, 5], [5.0, 5, 5, 5]])
    assert not overlapping(boxes, 0.3).any()


def test_overlaps_are_those_of_torchvision() -> None:
    boxes = crowd(1, 50)[0]
    assert torch.equal(overlapping(boxes, 0.41), box_iou(boxes, boxes) > 0.41)


def test_the_first_that_are_kept_come_in_order() -> None:
    kept = torch.tensor([[False, True, False, True, True], [False, False, False, True, False]])
    rows, is_row = first_kept(kept, 2)
    assert is_row.tolist() == [[True, True], [True, False]]
    assert rows[is_row].tolist() == [1, 3, 3]
    assert first_kept(kept, 9)[0].shape == (2, 5)
