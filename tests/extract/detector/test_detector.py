from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from sentifuse import ConfigError
from sentifuse.extract.detector import weights
from sentifuse.extract.detector.architecture import ATTRIBUTE_KEYS, Architecture
from sentifuse.extract.detector.detector import Detector, Regions, SelectionSettings
from sentifuse.extract.errors import ModelMismatch

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
    sizes = weights.check_weights(plain, sizes, where="test")
    made = Detector(plain, sizes=sizes, selection=SelectionSettings(proposals=10, count=3, most=10))
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


@pytest.mark.parametrize("values", [{"mode": "fixed"}, {"count": 0}, {"count": 301}, {"fewest": 50, "most": 20}])
def test_settings_that_do_not_fit_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        SelectionSettings(**values)  # type: ignore[arg-type]


def test_an_unknown_arithmetic_is_refused(state: dict[str, Tensor], sizes: Architecture) -> None:
    with pytest.raises(ConfigError, match="exact"):
        Detector(state, sizes=sizes, arithmetic="exactly")
