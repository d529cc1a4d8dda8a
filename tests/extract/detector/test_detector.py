from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from sentifuse import ConfigError, DataError, ResourceError
from sentifuse.extract.detector.architecture import ATTRIBUTE_KEYS, Architecture
from sentifuse.extract.detector.detector import Detector, Regions, SelectionSettings
from sentifuse.extract.detector.preprocess import PreparedImage
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.lanes import Lanes

ARRAYS = ("features", "boxes", "boxes_normalised", "proposals", "class_scores", "attribute_scores")
WHOLE = ("class_ids", "attribute_ids", "rows", "anchors")
# Sides that differ, so that networks sizes do too; the long ones keep the maps small.
SIZES = [(10, 100), (100, 10), (12, 100)]


def picture(size: tuple[int, int], seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def assert_equal(first: Regions, second: Regions, tolerance: float) -> None:
    assert len(first) == len(second)
    for name in ARRAYS:
        assert np.allclose(getattr(first, name), getattr(second, name), rtol=0, atol=tolerance), name
    for name in WHOLE:
        assert np.array_equal(getattr(first, name), getattr(second, name)), name


@pytest.fixture(scope="module")
def detector(state: dict[str, Tensor], sizes: Architecture) -> Detector:
    return Detector(state, sizes=sizes, selection=SelectionSettings(count=5, proposals=30, most=20))


def test_regions_have_the_shapes_and_ranges_they_promise(detector: Detector, sizes: Architecture) -> None:
    regions = detector.detect([detector.prepare(picture((100, 10), 1))])[0]
    assert regions.size == (100, 10)
    assert regions.features.shape == (5, sizes.feature_width)
    assert regions.features.dtype == regions.boxes.dtype == np.float32
    assert (regions.boxes[:, :2] <= regions.boxes[:, 2:]).all()
    assert (regions.boxes >= 0).all() and (regions.boxes <= [100, 10, 100, 10]).all()  # noqa: PT018
    assert np.allclose(regions.boxes_normalised * [100, 10, 100, 10], regions.boxes, atol=1e-4)
    assert (np.diff(regions.class_scores) <= 0).all()
    assert set(regions.class_ids.tolist()) <= set(range(sizes.class_count))
    assert regions.attribute_ids is not None
    assert set(regions.attribute_ids.tolist()) <= set(range(sizes.attribute_count))
    assert repr(regions).startswith("<5 regions of an image of 100x10, first of class ")


@pytest.mark.parametrize("mode", ["fixed36", "caffe36", "adaptive"])
def test_exact_equals_plain_in_every_mode(mode: str, state: dict[str, Tensor], sizes: Architecture) -> None:
    selection = SelectionSettings(mode=mode, count=6, proposals=25, most=20)
    images = [Detector.prepare(picture((100, 12), 2))]
    plain, exact = (
        Detector(state, sizes=sizes, arithmetic=arithmetic, selection=selection).detect(images)[0]
        for arithmetic in ("float64", "exact")
    )
    assert_equal(plain, exact, 2e-3)
    assert np.allclose(plain.features, exact.features, atol=1e-4)
    assert len(exact) >= (10 if mode == "adaptive" else 6)


@pytest.mark.parametrize("mode", ["fixed36", "caffe36", "adaptive"])
def test_scores_are_what_the_mode_ranks_by(mode: str, state: dict[str, Tensor], sizes: Architecture) -> None:
    selection = SelectionSettings(mode=mode, count=12, proposals=25, fewest=12, most=20)
    made = Detector(state, sizes=sizes, selection=selection)
    regions = made.detect([made.prepare(picture((100, 12), 2))])[0]
    assert len(regions) == 12
    assert (np.diff(regions.scores) <= 0).all()
    if mode == "fixed36":
        assert np.array_equal(regions.scores, regions.class_scores)
    else:  # the best class may be one in which a better row overlaps this one
        assert (regions.scores <= regions.class_scores).all()
        assert (regions.scores < regions.class_scores).any()


def test_a_proposal_is_the_box_unless_the_class_moves_it(state: dict[str, Tensor], sizes: Architecture) -> None:
    images = [Detector.prepare(picture((100, 12), 2))]
    made = {
        mode: Detector(state, sizes=sizes, selection=SelectionSettings(mode=mode, proposals=25, count=5, most=20))
        for mode in ("fixed36", "caffe36")
    }
    fixed, caffe = (made[mode].detect(images)[0] for mode in ("fixed36", "caffe36"))
    assert np.array_equal(caffe.boxes, caffe.proposals)
    assert not np.array_equal(fixed.boxes, fixed.proposals)


def test_alone_in_a_batch_and_in_another_order_give_the_same(detector: Detector) -> None:
    images = [detector.prepare(picture((100, 10), seed)) for seed in range(3)]
    together = detector.detect(images)
    backwards = detector.detect(images[::-1])[::-1]
    for image, first, second in zip(images, together, backwards, strict=True):
        assert_equal(first, second, 1e-5)
        assert_equal(first, detector.detect([image])[0], 1e-5)


def test_only_images_of_one_network_size_share_a_batch(detector: Detector) -> None:
    keys = [detector.batch_key(detector.prepare(picture(size, 0))) for size in SIZES]
    assert len(set(keys)) == len(SIZES)


def test_weights_without_attributes_give_none(state: dict[str, Tensor], sizes: Architecture) -> None:
    plain = {name: value for name, value in state.items() if name not in ATTRIBUTE_KEYS}
    made = Detector(
        plain, sizes=replace(sizes, has_attributes=False), selection=SelectionSettings(proposals=10, count=3, most=10)
    )
    regions = made.detect([made.prepare(picture((100, 10), 1))])[0]
    assert (made.has_attributes, regions.attribute_ids, regions.attribute_scores) == (False, None, None)


def test_an_image_without_proposals_has_no_regions(state: dict[str, Tensor], sizes: Architecture) -> None:
    empty = {**state, "proposal_generator.anchor_generator.cell_anchors.0": torch.full((12, 4), -5000.0)}
    for mode in ("fixed36", "caffe36", "adaptive"):
        made = Detector(empty, sizes=sizes, selection=SelectionSettings(mode=mode))
        regions = made.detect([made.prepare(picture((100, 10), 1))])[0]
        assert regions.features.shape == (0, sizes.feature_width)
        assert repr(regions) == "<0 regions of an image of 100x10>"


def test_other_weights_are_refused_before_anything_is_built(state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "small.safetensors")
    with pytest.raises(ModelMismatch, match="of another shape"):
        Detector.load(tmp_path / "small.safetensors")


def test_an_unknown_arithmetic_is_refused(state: dict[str, Tensor], sizes: Architecture) -> None:
    with pytest.raises(ConfigError, match="exact"):
        Detector(state, sizes=sizes, arithmetic="exactly")


NARROW = [(1, 401), (5000, 1)]
ODD = [(1, 1), (1, 300), (400, 1), (16, 16), (10_000, 40), (40, 10_000)]


@pytest.mark.parametrize("arithmetic", ["plain", "exact"])
@pytest.mark.parametrize("size", ODD)
def test_images_of_odd_shapes_have_regions_inside_them(
    size: tuple[int, int], arithmetic: str, state: dict[str, Tensor], sizes: Architecture
) -> None:
    made = Detector(state, sizes=sizes, arithmetic=arithmetic, selection=SelectionSettings(count=5, proposals=20))
    regions = made.detect([made.prepare(picture(size, 3))])[0]
    assert 1 <= len(regions) <= 5
    assert np.isfinite(regions.features).all()
    assert (regions.boxes >= 0).all()
    assert (regions.boxes <= np.float32(size * 2) * (1 + 1e-6)).all()


@pytest.mark.parametrize("size", NARROW)
def test_an_image_of_which_the_stem_leaves_nothing_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=rf"an image of {size[0]}x{size[1]} pixels is .* too narrow"):
        Detector.prepare(picture(size, 3))


@pytest.fixture
def starved(state: dict[str, Tensor], sizes: Architecture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Detector]:
    """starved(crops=20, images=99) → a detector on a device that has memory for so much at a time."""

    def make(*, crops: int = 20, images: int = 99) -> Detector:
        made = Detector(state, sizes=sizes, selection=SelectionSettings(count=5, proposals=30))
        made.stages.crop_chunk = 20
        features, detect = made.stages.features, made._detect

        def small_features(res4: Tensor, boxes: Tensor) -> Tensor:
            if made.stages.crop_chunk > crops:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 96.00 MiB.")
            return features(res4, boxes)

        def small_batches(batch: Sequence[PreparedImage]) -> list[Regions]:
            if len(batch) > images:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.")
            passes.append((len(batch), made.stages.crop_chunk))
            return detect(batch)

        passes: list[tuple[int, int]] = []
        made.passes = passes  # type: ignore[attr-defined]
        monkeypatch.setattr(made.stages, "features", small_features)
        monkeypatch.setattr(made, "_detect", small_batches)
        return made

    return make


def test_without_memory_fewer_images_go_at_once_and_then_fewer_crops(
    detector: Detector, starved: Callable[..., Any]
) -> None:
    images = [detector.prepare(picture((100, 10), seed)) for seed in range(4)]
    expected = detector.detect(images)
    made = starved(images=2)
    for first, second in zip(expected, made.detect(images), strict=True):
        assert_equal(first, second, 1e-5)
    assert made.passes == [(2, 20), (2, 20)]
    made = starved(crops=4)
    for first, second in zip(expected, made.detect(images[:2]), strict=False):
        assert_equal(first, second, 1e-5)
    # Two images failed, then one with 20, 10 and 5 crops at a time; what went then is kept.
    assert made.passes == [(2, 20), (1, 20), (1, 10), (1, 5), (1, 2), (1, 2)]
    made.passes.clear()
    made.detect(images[2:])
    assert made.passes == [(1, 2), (1, 2)]


def test_of_many_crops_fewer_go_at_once_before_fewer_images_do(detector: Detector, starved: Callable[..., Any]) -> None:
    images = [detector.prepare(picture((100, 10), seed)) for seed in range(2)]
    made = starved(crops=80)
    made.stages.crop_chunk = 600
    made.detect(images)
    assert made.passes == [(2, 600), (2, 300), (2, 150), (2, 75)]
    assert made.stages.crop_chunk == 75


@pytest.mark.parametrize("head", [0, 1])
def test_numbers_that_are_not_finite_are_no_image_without_regions(
    head: int, state: dict[str, Tensor], sizes: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Detector(state, sizes=sizes, selection=SelectionSettings(count=5, proposals=30))
    whole = made.stages.proposal_head
    calls = []

    def broken(res4: Tensor) -> tuple[Tensor, Tensor]:
        parts = [part.clone() for part in whole(res4)]
        calls.append(res4)
        if len(calls) == 1:
            parts[head][0, 0, 0, 0] = torch.nan
        return parts[0], parts[1]

    monkeypatch.setattr(made.stages, "proposal_head", broken)
    first, second = made.detect([made.prepare(picture((100, 10), seed)) for seed in range(2)])
    assert isinstance(first, DataError)
    assert "not finite" in str(first)
    assert len(second) == 5


def test_without_memory_for_one_crop_it_is_said_what_to_set(detector: Detector, starved: Callable[..., Any]) -> None:
    made = starved(crops=0)
    with pytest.raises(
        ResourceError, match=r"cpu: no memory .*100x10.* \(proposals = 15\).*--precision fast.*--device"
    ):
        made.detect([detector.prepare(picture((100, 10), 1))])


def test_two_lanes_of_one_thread_give_what_one_gives(detector: Detector) -> None:
    images = [detector.prepare(picture((100, 10), seed)) for seed in range(4)]
    alone = [detector.detect([image])[0] for image in images]
    found: dict[int, Regions] = {}
    threads: set[int] = set()

    def detect(number: int) -> None:
        threads.add(torch.get_num_threads())
        found[number] = detector.detect([images[number]])[0]
        threads.add(torch.get_num_threads())

    torch.set_num_threads(2)  # of the thread that starts the lanes; theirs is one each
    with Lanes("cpu", 2) as lanes:
        for number in range(len(images)):
            lanes.run(partial(detect, number))
        lanes.drain()
    assert threads == {1}
    for number, expected in enumerate(alone):
        assert_equal(expected, found[number], 0)
