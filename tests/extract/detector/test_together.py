"""Several images through the network for a GPU, computed on a CPU: the regions are those of the plain network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sentifuse import DataError
from sentifuse.extract.detector import proposals, together
from sentifuse.extract.detector.architecture import ATTRIBUTE_KEYS, VISUAL_GENOME, Architecture
from sentifuse.extract.detector.batched import BatchedNetwork
from sentifuse.extract.detector.detector import Detector
from sentifuse.extract.detector.golden.comparison import compare
from sentifuse.extract.detector.golden.file import read_golden
from sentifuse.extract.detector.golden.rule import synthetic_weights
from sentifuse.extract.detector.regions import Regions
from sentifuse.extract.detector.settings import SelectionSettings
from sentifuse.extract.detector.together import Unproved, detect_together

CPU = torch.device("cpu")
FLOATS = ("features", "boxes", "boxes_normalised", "proposals", "scores", "class_scores", "attribute_scores")
WHOLE = ("class_ids", "attribute_ids", "rows", "anchors")
MODES = [
    SelectionSettings(count=6, proposals=25),
    SelectionSettings(mode="caffe36", count=6, proposals=25),
    SelectionSettings(mode="adaptive", fewest=2, most=20, proposals=25),
]


@pytest.fixture(autouse=True)
def few_candidates(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough in miniature, and a tenth of the time."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(proposals, "ONLY_TRY", 400)


def picture(size: tuple[int, int], seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def batched(state: dict[str, Tensor], sizes: Architecture, selection: SelectionSettings) -> Detector:
    """A detector as on a GPU."""
    made = Detector(state, sizes=sizes, arithmetic="plain", selection=selection)
    made.stages = BatchedNetwork(state, sizes, device=CPU)
    return made


def assert_same(first: Regions, second: Regions, tolerance: float) -> None:
    assert (len(first), first.size) == (len(second), second.size)
    assert first.overlap == second.overlap
    for name in FLOATS:
        ours, theirs = getattr(first, name), getattr(second, name)
        assert ours.dtype == theirs.dtype == np.float32
        assert np.allclose(ours, theirs, rtol=1e-6, atol=tolerance), name
    for name in WHOLE:
        assert np.array_equal(getattr(first, name), getattr(second, name)), name
        assert getattr(first, name).dtype == np.int64


@pytest.mark.parametrize("selection", MODES, ids=lambda selection: selection.mode)
def test_regions_are_those_of_the_plain_network(
    selection: SelectionSettings, state: dict[str, Tensor], sizes: Architecture
) -> None:
    # Originals of different sizes that are one size to the network.
    images = [Detector.prepare(picture(size, seed)) for seed, size in enumerate([(100, 4), (50, 2), (100, 4)])]
    assert len({prepared.net_hw for prepared in images}) == 1
    plain = Detector(state, sizes=sizes, arithmetic="plain", selection=selection).detect(images)
    for ours, theirs in zip(batched(state, sizes, selection).detect(images), plain, strict=True):
        assert len(theirs) > 0
        assert_same(ours, theirs, 2e-4)


def test_numbers_that_are_not_finite_spoil_their_image_only(
    state: dict[str, Tensor], sizes: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = batched(state, sizes, MODES[0])
    whole = made.stages.proposal_head

    def broken(res4: Tensor) -> tuple[Tensor, Tensor]:
        logits, deltas = whole(res4)
        return logits.where(res4.flatten(1).amax(dim=1)[:, None, None, None] < worst, torch.inf), deltas

    images = [Detector.prepare(picture((100, 4), seed)) for seed in range(3)]
    peaks = [float(made.stages.backbone(together._upload([image], made.stages))["res4"].amax()) for image in images]
    worst = max(peaks)
    monkeypatch.setattr(made.stages, "proposal_head", broken)
    found = made.detect(images)
    assert [isinstance(one, DataError) for one in found] == [peak == worst for peak in peaks]


def test_alone_in_a_batch_and_in_another_order_give_the_same(
    state: dict[str, Tensor], sizes: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "GROUP", 2)
    made = batched(state, sizes, MODES[0])
    images = [made.prepare(picture((100, 4 + seed % 2), seed)) for seed in range(5)]  # of two sizes
    all_of_them = made.detect(images)
    backwards = made.detect(images[::-1])[::-1]
    with torch.inference_mode():
        answers = detect_together(made.stages, images, made.selection)
    assert {type(answer) for answer in answers} == {Regions}  # none of them was settled alone
    for image, first, second in zip(images, all_of_them, backwards, strict=True):
        assert_same(first, second, 1e-5)
        assert_same(first, made.detect([image])[0], 1e-5)


def test_an_image_that_is_not_proved_is_settled_alone(
    state: dict[str, Tensor], sizes: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = batched(state, sizes, MODES[0])
    images = [made.prepare(picture((100, 4), seed)) for seed in range(2)]
    expected = made.detect(images)
    monkeypatch.setattr(proposals, "ONLY_TRY", 20)  # which leave less than 25 boxes
    with torch.inference_mode():
        answers = detect_together(made.stages, images, made.selection)
    assert [type(answer) for answer in answers] == [Unproved, Unproved]
    for first, second in zip(made.detect(images), expected, strict=True):
        assert_same(first, second, 1e-5)


def test_what_is_known_of_an_unproved_image_is_kept(state: dict[str, Tensor], sizes: Architecture) -> None:
    selection = SelectionSettings(mode="caffe36", count=25, proposals=25)  # more than reach 0.2
    made = batched(state, sizes, selection)
    images = [made.prepare(picture((100, 4), seed)) for seed in range(2)]
    with torch.inference_mode():
        answers = detect_together(made.stages, images, selection)
    assert all(isinstance(answer, Unproved) and answer.known for answer in answers)
    plain = Detector(state, sizes=sizes, arithmetic="plain", selection=selection).detect(images)
    for ours, theirs in zip(made.detect(images), plain, strict=True):
        assert_same(ours, theirs, 2e-4)


def test_weights_without_attributes_give_none(state: dict[str, Tensor], sizes: Architecture) -> None:
    plain = {name: value for name, value in state.items() if name not in ATTRIBUTE_KEYS}
    made = batched(plain, replace(sizes, has_attributes=False), MODES[0])
    regions = made.detect([made.prepare(picture((100, 4), 1))])[0]
    assert (made.has_attributes, regions.attribute_ids, regions.attribute_scores) == (False, None, None)


def test_an_image_without_proposals_has_no_regions(state: dict[str, Tensor], sizes: Architecture) -> None:
    empty = {**state, "proposal_generator.anchor_generator.cell_anchors.0": torch.full((12, 4), -5000.0)}
    for selection in MODES:
        made = batched(empty, sizes, selection)
        regions = made.detect([made.prepare(picture((100, 4), 1))])[0]
        assert regions.features.shape == (0, sizes.feature_width)


def test_regions_do_not_hold_the_memory_of_their_batch(state: dict[str, Tensor], sizes: Architecture) -> None:
    made = batched(state, sizes, MODES[0])
    regions = made.detect([made.prepare(picture((100, 4), seed)) for seed in range(4)])[0]
    assert {getattr(regions, name).base is None for name in (*FLOATS, *WHOLE)} == {True}


def test_sizes_may_be_mixed_for_none_is_padded(state: dict[str, Tensor], sizes: Architecture) -> None:
    made = batched(state, sizes, MODES[0])
    images = [made.prepare(picture(size, seed)) for seed, size in enumerate([(100, 4), (4, 100), (100, 5), (100, 4)])]
    assert len({made.batch_key(prepared) for prepared in images}) == 1
    plain = Detector(state, sizes=sizes, arithmetic="plain", selection=MODES[0]).detect(images)
    for ours, theirs in zip(made.detect(images), plain, strict=True):
        assert_same(ours, theirs, 2e-4)


@pytest.mark.slow
def test_at_full_size_it_keeps_the_golden_file_of_the_repository() -> None:
    state = {key: torch.from_numpy(value) for key, value in synthetic_weights(101, VISUAL_GENOME).items()}
    made = BatchedNetwork(state, VISUAL_GENOME, device=CPU)
    made.crop_chunk = 50
    folder = Path(__file__).resolve().parents[2] / "golden" / "frcnn"
    golden = read_golden(folder / "smooth_s101_img_0_400x300.npz")
    found = compare(made, golden, golden.limits())
    assert len(found) > 20
    assert [str(deviation) for deviation in found if not deviation.is_within] == []
