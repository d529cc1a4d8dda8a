"""The network for a GPU, computed on a CPU."""

from collections.abc import Iterator

import pytest
import torch
from PIL import Image
from torch import Tensor

from sentifuse.extract.detector.architecture import Architecture
from sentifuse.extract.detector.batched import BatchedNetwork
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
    return build_network(state, sizes)


@pytest.fixture
def batched(state: dict[str, Tensor], sizes: Architecture) -> BatchedNetwork:
    return BatchedNetwork(state, sizes, device=CPU)


@pytest.fixture
def pixels(photo: Image.Image) -> Tensor:
    """Three images: one, its mirror image, its negative."""
    one = to_tensor(prepare(photo), device=CPU, dtype=torch.float32)[:, :, :130, :210]
    return torch.cat([one, one.flip(3), -one])


def boxes(images: int, count: int) -> Tensor:
    ends = torch.rand(2, images, count, 2, generator=torch.Generator().manual_seed(3)) * torch.tensor([210.0, 130.0])
    ends = ends.sort(dim=0).values
    return torch.cat([ends[0], ends[1]], dim=2)


@pytest.mark.parametrize("early", [torch.float64, torch.float32])
def test_every_stage_equals_the_plain_network(
    early: torch.dtype, plain: PlainNetwork, state: dict[str, Tensor], sizes: Architecture, pixels: Tensor
) -> None:
    batched = BatchedNetwork(state, sizes, device=CPU, early_dtype=early)
    ours, theirs = batched.backbone(pixels[:1]), plain.backbone(pixels[:1])
    assert list(ours) == list(theirs)
    for name in theirs:
        assert torch.allclose(ours[name].float(), theirs[name], atol=2e-5), name
    assert {ours[name].dtype for name in ("stem", "res2", "res3")} == {early}
    res4, some = theirs["res4"], boxes(1, 45)[0]
    assert torch.equal(batched.res4(pixels[:1]), ours["res4"])
    for found, expected in zip(batched.proposal_head(res4), plain.proposal_head(res4), strict=True):
        assert torch.allclose(found, expected, atol=2e-5)
    assert torch.equal(batched.pooled(res4, some), plain.pooled(res4, some))
    features = batched.features(res4, some)
    assert torch.allclose(features, plain.features(res4, some), atol=5e-5)
    ids = torch.arange(45) % sizes.class_count
    for stage in ("class_deltas", "attribute_logits"):
        assert torch.allclose(getattr(batched, stage)(features, ids), getattr(plain, stage)(features, ids), atol=1e-4)
    assert torch.allclose(batched.class_logits(features), plain.class_logits(features), atol=1e-4)


def test_images_together_give_what_each_gives_alone(batched: BatchedNetwork, pixels: Tensor) -> None:
    res4 = batched.res4(pixels)
    logits, _ = batched.proposal_head(res4)
    together = batched.features_together([res4], [boxes(3, 7)]).view(3, 7, -1)
    for image in range(3):
        alone = batched.res4(pixels[image : image + 1])
        assert torch.allclose(alone[0], res4[image], atol=1e-5)
        assert torch.allclose(batched.proposal_head(alone)[0][0], logits[image], atol=1e-5)
        assert torch.allclose(batched.features(alone, boxes(3, 7)[image]), together[image], atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 4, 5, 200])
def test_the_size_of_a_chunk_changes_nothing(batched: BatchedNetwork, pixels: Tensor, chunk: int) -> None:
    """Nor what else is in it: crops of images of another size."""
    sizes = [batched.res4(pixels[:2]), batched.res4(pixels[2:, :, :100])]
    each = [batched.features(sizes[0][:1], boxes(3, 7)[0]), batched.features(sizes[0][1:], boxes(3, 7)[1])]
    each.append(batched.features(sizes[1], boxes(3, 7)[2]))
    batched.crop_chunk = chunk
    together = batched.features_together(sizes, [boxes(3, 7)[:2], boxes(3, 7)[2:]])
    assert torch.allclose(together, torch.cat(each), atol=1e-5)


def test_no_boxes_give_no_features(batched: BatchedNetwork, pixels: Tensor, sizes: Architecture) -> None:
    assert batched.features(batched.res4(pixels[:1]), torch.zeros(0, 4)).shape == (0, sizes.feature_width)


def test_half_precision_ends_where_boxes_and_scores_begin(
    plain: PlainNetwork, state: dict[str, Tensor], sizes: Architecture, pixels: Tensor
) -> None:
    half = torch.bfloat16  # the one that a CPU computes quickly
    made = BatchedNetwork(state, sizes, device=CPU, early_dtype=half, backbone_dtype=half, crop_dtype=half)
    res4 = made.res4(pixels[:1])
    logits, deltas = made.proposal_head(res4)
    features = made.features(res4, boxes(1, 20)[0])
    assert res4.dtype == half
    assert {tensor.dtype for tensor in (logits, deltas, features, made.class_logits(features))} == {torch.float32}
    assert {made.pooled(res4, boxes(1, 20)[0]).dtype, made.cell_anchors.dtype} == {torch.float32}
    expected = plain.features(plain.backbone(pixels[:1])["res4"], boxes(1, 20)[0])
    assert float(torch.cosine_similarity(features, expected).min()) > 0.99


def test_weights_are_not_kept(state: dict[str, Tensor], batched: BatchedNetwork) -> None:
    addresses = {value.untyped_storage().data_ptr() for value in state.values()}
    parts = [vars(batched), *(vars(conv) for block in batched._res5 for conv in vars(block).values() if conv)]
    held = [value for part in parts for value in part.values() if isinstance(value, Tensor)]
    assert len(held) > 10
    assert not addresses & {value.untyped_storage().data_ptr() for value in held}
