"""Our parts among detectron2's: the pool and the last stage of Visual Genome's network, and its names of tensors."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sentifuse.extract.backbones.detectron2_network import build_visual_genome, import_detectron2
from sentifuse.extract.backbones.detectron2_parts import BACKBONE, HEADS, register_parts
from sentifuse.extract.detector.architecture import ATTRIBUTE_KEYS
from sentifuse.extract.detector.golden.rule import synthetic_weights
from sentifuse.extract.detector.golden.self_test import MINIATURE
from sentifuse.extract.models.detectron2_package import NEEDS, find_detectron2

FAKE = Path(__file__).parents[1] / "fake_detectron2"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The library in small, and empty files for what it imports."""
    folder = tmp_path_factory.mktemp("needs")
    for name in NEEDS:
        (folder / f"{name}.py").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == "detectron2"]:
            patch.delitem(sys.modules, name)
        yield import_detectron2(find_detectron2(str(FAKE)))
        for name in [name for name in sys.modules if name.partition(".")[0] == "detectron2"]:
            del sys.modules[name]


def network(library: Any, *, has_attributes: bool = True) -> Any:
    state = {name: torch.from_numpy(value) for name, value in synthetic_weights(102, MINIATURE).items()}
    if not has_attributes:
        state = {name: value for name, value in state.items() if name not in ATTRIBUTE_KEYS}
    sizes = replace(MINIATURE, has_attributes=has_attributes)
    return build_visual_genome(library, state, sizes, proposals=20, device="cpu")


def test_parts_are_registered_once_and_nothing_else_is_changed(library: Any) -> None:
    register_parts(library)
    backbones, heads = library.modeling.BACKBONE_REGISTRY, library.modeling.ROI_HEADS_REGISTRY
    before = dict(backbones), dict(heads)
    assert BACKBONE in backbones
    assert HEADS in heads
    register_parts(library)  # would be refused by the registry
    assert (dict(backbones), dict(heads)) == before
    assert {"Res5ROIHeads", "StandardROIHeads"} < set(heads)


def test_the_pool_rounds_up_and_pads_nothing(library: Any) -> None:
    stem = network(library).backbone.stem
    with torch.inference_mode():
        # 15 wide after the convolution: seven whole windows. 16 wide: an eighth, of two pixels.
        assert stem(torch.zeros(1, 3, 30, 30)).shape[2:] == (7, 7)
        assert stem(torch.zeros(1, 3, 32, 32)).shape[2:] == (8, 8)


def test_the_last_stage_is_dilated_in_place_of_striding(library: Any) -> None:
    blocks = network(library).roi_heads.res5
    assert [block.conv2.dilation for block in blocks] == [(2, 2)] * MINIATURE.depths[3]
    with torch.inference_mode():
        crops = torch.zeros(1, MINIATURE.output_width(4), 14, 14)
        assert blocks(crops).shape == (1, MINIATURE.feature_width, 14, 14)


def test_attributes_depend_on_the_class_and_are_left_out_where_weights_have_none(library: Any) -> None:
    predictor = network(library).roi_heads.box_predictor
    features = torch.ones(2, MINIATURE.feature_width)
    with torch.inference_mode():
        logits = predictor.attribute_logits(features, torch.tensor([0, 5]))
    assert logits.shape == (2, MINIATURE.attribute_count + 1)
    assert not torch.equal(logits[0], logits[1])
    assert not hasattr(network(library, has_attributes=False).roi_heads.box_predictor, "fc_attr")
