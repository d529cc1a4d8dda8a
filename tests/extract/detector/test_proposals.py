import pytest
import torch
from torchvision.ops import nms

from sentifuse.extract.detector import proposals as module
from sentifuse.extract.detector.boxes import cell_anchors, cell_anchors_of_caffe
from sentifuse.extract.detector.proposals import Proposals, suppress


def quiet(height: int = 4, width: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((1, 12, height, width), -5.0), torch.zeros(1, 48, height, width)


def test_the_best_anchor_comes_first_with_its_linear_number() -> None:
    logits, deltas = quiet()
    logits[0, 1, 2, 3] = 4.0
    found = Proposals.choose(logits, deltas, cell_anchors(), (64, 80))
    assert int(found.anchors[0]) == (2 * 5 + 3) * 12 + 1
    assert found.boxes[0].tolist() == [16, 0, 80, 64]
    assert float(found.logits[0]) == 4.0
    assert bool((found.logits[:-1] >= found.logits[1:]).all())


def test_given_anchors_win_over_the_formula() -> None:
    logits, deltas = quiet()
    logits[0, 1, 2, 3] = 4.0
    found = Proposals.choose(logits, deltas, cell_anchors_of_caffe(), (200, 200))
    assert found.boxes[0].tolist() == [24, 8, 88, 72]


def test_deltas_belong_to_channel_four_times_anchor_plus_component() -> None:
    logits, deltas = quiet()
    logits[0, 1, 2, 3] = 4.0
    deltas[0, 4 * 1 + 0, 2, 3] = 0.25
    found = Proposals.choose(logits, deltas, cell_anchors(), (200, 200))
    assert found.boxes[0].tolist() == [32, 0, 96, 64]


def test_boxes_that_are_empty_after_clipping_are_dropped() -> None:
    logits, deltas = quiet(1, 1)
    deltas[0, 0::4] = 100.0
    found = Proposals.choose(logits, deltas, cell_anchors(), (16, 16))
    assert found.boxes.shape == (0, 4)


def test_no_more_than_asked_for_and_fewer_is_legal() -> None:
    logits, deltas = quiet()
    some = Proposals.choose(logits, deltas, cell_anchors(), (64, 80))
    assert 0 < len(some.boxes) < 300
    assert len(Proposals.choose(logits, deltas, cell_anchors(), (64, 80), count=2).boxes) == 2


@pytest.mark.parametrize("count", [5, 60, 1000])
def test_trying_the_best_first_changes_nothing(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(400, 2, generator=generator) * 100
    boxes = torch.cat([corner, corner + 5 + torch.rand(400, 2, generator=generator) * 40], dim=1)
    scores = torch.rand(400, generator=generator).sort(descending=True).values
    monkeypatch.setattr(module, "FIRST_TRY", 50)
    assert torch.equal(suppress(boxes, scores, 0.7, count), nms(boxes, scores, 0.7)[:count])
