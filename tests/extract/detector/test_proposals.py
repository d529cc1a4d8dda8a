import pytest
import torch
from torchvision.ops import nms

from sentifuse.extract.detector import proposals as module
from sentifuse.extract.detector.boxes import cell_anchors, cell_anchors_of_caffe
from sentifuse.extract.detector.proposals import Proposals, ProposalsTogether, suppress


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


def noisy(images: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(height)
    logits = torch.randn(images, 12, height, width, generator=generator)
    return logits, torch.randn(images, 48, height, width, generator=generator) / 4


@pytest.mark.parametrize(("height", "width", "count"), [(4, 5, 20), (4, 5, 300), (13, 16, 50)])
def test_images_together_have_the_proposals_that_each_has_alone(height: int, width: int, count: int) -> None:
    logits, deltas = noisy(3, height, width)
    logits[1] = logits[1].round()  # many equal ones: the first anchor wins
    size = (16 * height, 16 * width)
    together = ProposalsTogether.choose(logits, deltas, cell_anchors(), size, count=count)
    assert together.is_proved.all()
    for image in range(3):
        alone = Proposals.choose(logits[image, None], deltas[image, None], cell_anchors(), size, count=count)
        real = together.is_real[image]
        assert int(real.sum()) == len(alone.boxes)
        found = together.of_image(image, len(alone.boxes))
        for name in ("boxes", "logits", "anchors"):
            assert torch.equal(getattr(found, name), getattr(alone, name)), name


def test_too_few_of_the_best_anchors_are_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ONLY_TRY", 30)
    logits, deltas = noisy(2, 4, 5)
    many, few = (ProposalsTogether.choose(logits, deltas, cell_anchors(), (64, 80), count=count) for count in (30, 3))
    assert not many.is_proved.any()
    assert few.is_proved.all()


def test_images_of_several_sizes_are_filled_up_with_what_is_not_real() -> None:
    sizes = [(64, 80), (16, 16)]
    parts = [
        ProposalsTogether.choose(*noisy(2, height // 16, width // 16), cell_anchors(), (height, width), count=40)
        for height, width in sizes
    ]
    joined = ProposalsTogether.joined(parts)
    assert joined.boxes.shape == (4, 40, 4)
    assert parts[1].boxes.shape[1] < 40
    for image, (part, row) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        count = int(parts[part].is_real[row].sum())
        assert int(joined.is_real[image].sum()) == count
        assert torch.equal(joined.of_image(image, count).anchors, parts[part].of_image(row, count).anchors)
