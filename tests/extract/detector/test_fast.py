from collections.abc import Iterator

import pytest
import torch
from PIL import Image
from torch import Tensor

from sentifuse.extract.detector import fast
from sentifuse.extract.detector.architecture import Architecture
from sentifuse.extract.detector.fast import FastNetwork
from sentifuse.extract.detector.network import PlainNetwork, build_network
from sentifuse.extract.detector.preprocess import prepare, to_tensor

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    torch.set_grad_enabled(False)
    yield
    torch.set_grad_enabled(True)


@pytest.fixture
def plain(state: dict[str, Tensor], sizes: Architecture) -> PlainNetwork:
    return build_network(state, sizes, dtype=torch.float64)


@pytest.fixture
def pixels(photo: Image.Image) -> Tensor:
    return to_tensor(prepare(photo), device=CPU, dtype=torch.float32)[:, :, :210, :330].contiguous()


def boxes(count: int) -> Tensor:
    ends = torch.rand(2, count, 2, generator=torch.Generator().manual_seed(3)) * torch.tensor([330.0, 210.0])
    ends = ends.sort(dim=0).values
    return torch.cat([ends[0], ends[1]], dim=1)


@pytest.mark.parametrize("early", [torch.float64, torch.float32])
def test_every_stage_equals_the_plain_network(
    early: torch.dtype, plain: PlainNetwork, state: dict[str, Tensor], sizes: Architecture, pixels: Tensor
) -> None:
    quick = FastNetwork(state, sizes, early_dtype=early)
    ours, theirs = quick.backbone(pixels), plain.backbone(pixels)
    assert list(ours) == list(theirs)
    for name in theirs:
        assert torch.allclose(ours[name].double(), theirs[name], atol=2e-5), name
    res4 = theirs["res4"]
    for found, expected in zip(quick.proposal_head(res4.float()), plain.proposal_head(res4), strict=True):
        assert torch.allclose(found.double(), expected, atol=2e-5)
    assert torch.equal(quick.pooled(res4, boxes(9)), plain.pooled(res4, boxes(9)).float())
    features = quick.features(res4.float(), boxes(45))
    expected = plain.features(res4, boxes(45))
    assert torch.allclose(features.double(), expected, atol=5e-5)
    ids = torch.arange(45) % sizes.class_count
    assert torch.allclose(quick.class_logits(features).double(), plain.class_logits(expected), atol=1e-4)
    assert torch.allclose(quick.class_deltas(features, ids).double(), plain.class_deltas(expected, ids), atol=1e-4)
    assert torch.allclose(
        quick.attribute_logits(features, ids).double(), plain.attribute_logits(expected, ids), atol=1e-4
    )


def test_half_precision_keeps_the_direction_of_features(
    plain: PlainNetwork, state: dict[str, Tensor], sizes: Architecture, pixels: Tensor
) -> None:
    quick = FastNetwork(state, sizes, early_dtype=torch.float32, crop_dtype=torch.bfloat16)
    res4 = plain.backbone(pixels)["res4"]
    found, expected = quick.features(res4.float(), boxes(25)), plain.features(res4, boxes(25))
    assert found.dtype == torch.float32
    assert float(torch.cosine_similarity(found.double(), expected).min()) > 0.999


def test_a_region_does_not_depend_on_how_many_others_there_are(
    state: dict[str, Tensor], sizes: Architecture, pixels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = FastNetwork(state, sizes)
    res4 = quick.backbone(pixels)["res4"]
    together = quick.features(res4, boxes(50))
    alone = torch.cat([quick.features(res4, box[None]) for box in boxes(50)[:4]])
    backwards = quick.features(res4, boxes(50).flip(0)).flip(0)
    monkeypatch.setattr(fast, "MAX_WINDOWS", 200)  # several groups of boxes
    in_groups = quick.features(res4, boxes(50))
    assert torch.allclose(alone, together[:4], atol=1e-5)
    assert torch.allclose(backwards, together, atol=1e-5)
    assert torch.allclose(in_groups, together, atol=1e-5)


def test_no_boxes_give_no_features(state: dict[str, Tensor], sizes: Architecture, pixels: Tensor) -> None:
    quick = FastNetwork(state, sizes)
    assert quick.features(quick.backbone(pixels)["res4"], torch.zeros(0, 4)).shape == (0, sizes.feature_width)


def test_weights_are_not_kept(state: dict[str, Tensor], sizes: Architecture) -> None:
    quick = FastNetwork(state, sizes)
    addresses = {value.untyped_storage().data_ptr() for value in state.values()}
    held = [value for value in vars(quick).values() if isinstance(value, Tensor)]
    assert held
    assert not addresses & {value.untyped_storage().data_ptr() for value in held}
