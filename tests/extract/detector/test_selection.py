import pytest
import torch

from sentifuse.extract.detector.selection import (
    confidences,
    confidences_by_class,
    select_adaptive,
    select_best,
    select_fixed,
)


def apart(count: int) -> torch.Tensor:
    """Boxes that do not overlap."""
    left = torch.arange(count) * 20.0
    return torch.stack([left, 0 * left, left + 10, 0 * left + 10], dim=1)


def crowd(count: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + 10 + torch.rand(count, 2, generator=generator) * 40], dim=1)
    return boxes, torch.softmax(3 * torch.randn(count, classes, generator=generator), dim=1)


def test_fixed_takes_the_best_rows_in_order() -> None:
    scores = torch.tensor([0.1, 0.9, 0.5, 0.7])
    selected = select_fixed(apart(4), scores, count=3)
    assert selected.rows.tolist() == [1, 3, 2]
    assert torch.equal(selected.scores, scores[[1, 3, 2]])
    assert selected.overlap == 0.5


def test_fixed_allows_more_overlap_only_until_there_are_enough() -> None:
    # Two boxes of IoU 0.55: one at 0.5, both at 0.6.
    boxes = torch.tensor([[0.0, 0, 100, 100], [0.0, 0, 100, 55]])
    selected = select_fixed(boxes, torch.tensor([0.9, 0.8]), count=2)
    assert (selected.rows.tolist(), selected.overlap) == ([0, 1], 0.6)


def test_fixed_gives_fewer_where_even_the_widest_overlap_does_not_suffice() -> None:
    boxes = torch.tensor([[0.0, 0, 100, 100], [0.0, 0, 100, 90], [200.0, 0, 210, 10]])
    selected = select_fixed(boxes, torch.tensor([0.9, 0.8, 0.7]), count=3)
    assert (selected.rows.tolist(), selected.overlap) == ([0, 2], 0.7)


def test_fixed_on_no_boxes_gives_none() -> None:
    assert len(select_fixed(torch.zeros(0, 4), torch.zeros(0)).rows) == 0


def test_adaptive_keeps_the_order_of_proposals() -> None:
    probabilities = torch.zeros(12, 2)
    probabilities[:, 0] = torch.linspace(0.1, 0.9, 12)
    selected = select_adaptive(apart(12), probabilities)
    assert selected.rows.tolist() == list(range(2, 12))
    assert torch.equal(selected.scores, probabilities[2:, 0])


def test_adaptive_takes_the_ten_best_when_fewer_are_trusted() -> None:
    probabilities = torch.zeros(14, 2)
    probabilities[:, 1] = torch.linspace(0.001, 0.25, 14)
    selected = select_adaptive(apart(14), probabilities)
    assert selected.rows.tolist() == list(range(13, 3, -1))
    assert torch.equal(selected.scores, probabilities[selected.rows, 1])


def test_adaptive_takes_the_hundred_best_when_more_are_trusted() -> None:
    probabilities = torch.linspace(0.3, 0.9, 130)[:, None]
    selected = select_adaptive(apart(130), probabilities)
    assert selected.rows.tolist() == list(range(129, 29, -1))


def test_adaptive_gives_all_when_there_are_fewer_than_ten() -> None:
    assert select_adaptive(apart(3), torch.full((3, 2), 0.01)).rows.tolist() == [0, 1, 2]


def test_a_row_that_a_better_one_overlaps_counts_by_its_other_classes() -> None:
    boxes = torch.tensor([[0.0, 0, 100, 100], [0.0, 0, 100, 90]])
    probabilities = torch.tensor([[0.8, 0.1], [0.7, 0.25]])
    assert torch.allclose(confidences(boxes, probabilities, 0.2), torch.tensor([0.8, 0.25]))
    best = select_best(boxes, probabilities, count=2)
    assert best.rows.tolist() == [0, 1]
    assert torch.allclose(best.scores, torch.tensor([0.8, 0.25]))  # not 0.7, the row's best class


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("cut", [0.0, 0.01, 0.2])
def test_one_nms_for_all_classes_equals_one_for_each(seed: int, cut: float) -> None:
    boxes, probabilities = crowd(40, 9, seed)
    plain = confidences_by_class(boxes, probabilities)
    assert torch.equal(confidences(boxes, probabilities, cut), torch.where(plain >= cut, plain, 0.0))


@pytest.mark.parametrize("seed", range(6))
def test_short_cuts_select_the_same_rows(seed: int) -> None:
    boxes, probabilities = crowd(60, 30, seed)
    assert torch.equal(
        select_best(boxes, probabilities).rows, select_best(boxes, probabilities, trust=confidences_by_class).rows
    )
    assert torch.equal(
        select_adaptive(boxes, probabilities).rows,
        select_adaptive(boxes, probabilities, trust=confidences_by_class).rows,
    )


def test_an_overlap_of_exactly_three_tenths_is_judged_as_torchvision_does() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 3]])  # IoU 0.3, in float32 a little more
    probabilities = torch.tensor([[0.9], [0.8]])
    assert torch.equal(confidences(boxes, probabilities, 0.2), confidences_by_class(boxes, probabilities, 0.2))
