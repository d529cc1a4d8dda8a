"""The rules for many images at once choose what `selection.py` chooses, or say that they do not know."""

import pytest
import torch

from sentifuse.extract.detector.selection import select_adaptive, select_best, select_fixed
from sentifuse.extract.detector.selection_together import select_by_class_together, select_fixed_together
from sentifuse.extract.detector.settings import SelectionSettings

ALL = torch.ones(4, 60, dtype=torch.bool)
FIXED = [(60, 10), (20, 30), (10, 36)]  # how far boxes lie apart, and how many are wanted


def crowds(sharpness: float, *, classes: int = 20, spread: float = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (4, 60, 4) and probabilities (4, 60, classes)."""
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(4, 60, 2, generator=generator) * spread
    boxes = torch.cat([corner, corner + 10 + torch.rand(4, 60, 2, generator=generator) * 40], dim=2)
    return boxes, torch.softmax(sharpness * torch.randn(4, 60, classes, generator=generator), dim=2)


@pytest.mark.parametrize(("spread", "count"), FIXED)
def test_fixed_equals_the_rule_of_one_image(spread: float, count: int) -> None:
    boxes, probabilities = crowds(3, spread=spread)
    scores = probabilities.amax(dim=2)
    found = select_fixed_together(boxes, scores, ALL, count=count)
    assert found.is_proved.all()
    for image in range(4):
        expected = select_fixed(boxes[image], scores[image], count=count)
        real = found.is_real[image]
        assert torch.equal(found.rows[image][real], expected.rows)
        assert torch.equal(found.scores[image][real], expected.scores)
        assert float(found.overlap[image]) == pytest.approx(expected.overlap)


def test_the_cases_above_reach_every_overlap() -> None:
    reached = set()
    for spread, count in FIXED:
        boxes, probabilities = crowds(3, spread=spread)
        found = select_fixed_together(boxes, probabilities.amax(dim=2), ALL, count=count)
        reached |= {
            (round(float(overlap), 1), bool(real.all()))
            for overlap, real in zip(found.overlap, found.is_real, strict=True)
        }
    assert reached >= {(0.5, True), (0.6, True), (0.7, False)}


def test_rows_that_are_not_real_are_never_selected() -> None:
    boxes, probabilities = crowds(3)
    scores = probabilities.amax(dim=2)
    real = ALL.clone()
    real[:, 7:] = False
    found = select_fixed_together(boxes, scores, real, count=12)
    expected = select_fixed(boxes[2, :7], scores[2, :7], count=12)
    assert torch.equal(found.rows[2][found.is_real[2]], expected.rows)


@pytest.mark.parametrize(
    "settings",
    [
        SelectionSettings(mode="caffe36", count=12),
        SelectionSettings(mode="adaptive", fewest=3, most=50),
        SelectionSettings(mode="adaptive", fewest=3, most=9),
    ],
    ids=["caffe36", "adaptive", "adaptive, too many"],
)
def test_by_class_equals_the_rule_of_one_image(settings: SelectionSettings) -> None:
    boxes, probabilities = crowds(3)
    found = select_by_class_together(boxes, probabilities, ALL, settings)
    assert found.is_proved.all()
    for image in range(4):
        if settings.mode == "caffe36":
            expected = select_best(boxes[image], probabilities[image], count=settings.count)
        else:
            expected = select_adaptive(boxes[image], probabilities[image], fewest=settings.fewest, most=settings.most)
        real = found.is_real[image]
        assert torch.equal(found.rows[image][real], expected.rows)
        assert torch.equal(found.scores[image][real], expected.scores)


@pytest.mark.parametrize("mode", ["caffe36", "adaptive"])
def test_where_less_probable_classes_matter_nothing_is_claimed(mode: str) -> None:
    boxes, probabilities = crowds(0.5)  # no class reaches 0.2
    found = select_by_class_together(boxes, probabilities, ALL, SelectionSettings(mode=mode))
    assert not found.is_proved.any()


def test_fewer_classes_than_could_reach_the_confidence() -> None:
    boxes, probabilities = crowds(3, classes=3)
    found = select_by_class_together(boxes, probabilities, ALL, SelectionSettings(mode="adaptive", fewest=1))
    expected = select_adaptive(boxes[0], probabilities[0], fewest=1)
    assert torch.equal(found.rows[0][found.is_real[0]], expected.rows)
