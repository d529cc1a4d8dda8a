from typing import Any

import numpy as np
import pytest

from sentifuse.extract.detector.architecture import PREDICTOR, VISUAL_GENOME, Architecture, tensor_specs
from sentifuse.extract.detector.boxes import cell_anchors, cell_anchors_of_caffe
from sentifuse.extract.detector.checkpoints.layouts import (
    ANCHORS_KEY,
    RPN,
    caffe_shapes,
    from_milvlg,
    is_milvlg,
    milvlg_shapes,
    split_layers,
)
from sentifuse.extract.detector.golden.rule import synthetic_weights


def test_background_goes_from_first_to_last() -> None:
    found = from_milvlg({f"{PREDICTOR}.cls_score.bias": np.arange(5), f"{PREDICTOR}.cls_embed.weight": np.eye(3)})
    assert found[f"{PREDICTOR}.cls_score.bias"].tolist() == [1, 2, 3, 4, 0]
    assert found[f"{PREDICTOR}.cls_embedding.weight"][2].tolist() == [1, 0, 0]


def test_the_backgrounds_boxes_go_and_others_are_in_our_units() -> None:
    found = from_milvlg({f"{PREDICTOR}.bbox_pred.bias": np.ones(12, dtype=np.float32)})
    assert found[f"{PREDICTOR}.bbox_pred.bias"].tolist() == [10, 10, 5, 5] * 2


def test_two_logits_become_their_difference_by_size() -> None:
    logits = np.concatenate([np.full(12, 100), 100 + np.arange(12)])  # background, then object by ratio and size
    found = from_milvlg({f"{RPN}.objectness_logits.bias": logits})
    assert found[f"{RPN}.objectness_logits.bias"].tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]


def test_deltas_keep_their_component() -> None:
    found = from_milvlg({f"{RPN}.anchor_deltas.bias": np.arange(48)})
    assert found[f"{RPN}.anchor_deltas.bias"][4:8].tolist() == [16, 17, 18, 19]


@pytest.mark.parametrize("ours", [cell_anchors_of_caffe().numpy(), cell_anchors().numpy()], ids=["caffe", "formula"])
@pytest.mark.parametrize("has_pixel", [True, False])
def test_anchors_get_the_pixel_that_their_arithmetic_adds_once(written: Any, ours: np.ndarray, has_pixel: bool) -> None:
    theirs = written.to_milvlg({ANCHORS_KEY: ours})[ANCHORS_KEY]
    if has_pixel:
        theirs = theirs + np.array([0, 0, 1, 1], dtype=np.float32)
    assert np.array_equal(from_milvlg({ANCHORS_KEY: theirs})[ANCHORS_KEY], ours)


def test_anchors_of_somebodys_own_training_get_it_too(written: Any) -> None:
    wide = cell_anchors().numpy() * 1.25
    by_ratio = written.to_milvlg({ANCHORS_KEY: wide})[ANCHORS_KEY]
    assert np.allclose(from_milvlg({ANCHORS_KEY: by_ratio})[ANCHORS_KEY], wide)


def test_milvlg_is_known_by_its_names_or_by_two_logits() -> None:
    assert is_milvlg({f"{PREDICTOR}.cls_embed.weight": (1601, 256)})
    assert is_milvlg({f"{RPN}.objectness_logits.bias": (24,)})
    assert not is_milvlg({f"{RPN}.objectness_logits.bias": (12,), f"{PREDICTOR}.cls_embedding.weight": (1601, 256)})


def test_their_shapes_are_those_of_what_is_written_in_their_layout(written: Any, sizes: Architecture) -> None:
    state = synthetic_weights(102, sizes)
    assert {name: value.shape for name, value in written.to_milvlg(state).items()} == milvlg_shapes(sizes)
    arrays, others = split_layers(written.to_caffe(state, sizes), sizes)
    assert {name: value.shape for name, value in arrays.items()} == caffe_shapes(sizes)
    assert others == []


def test_the_shapes_of_the_published_files() -> None:
    shapes = caffe_shapes(VISUAL_GENOME)
    assert shapes["rpn_cls_score[0]"] == (24, 512, 1, 1)
    assert shapes["bbox_pred[0]"] == (6404, 2048)
    assert shapes["cls_score[1]"] == (1601,)
    assert shapes["res4b22_branch2c[0]"] == (1024, 256, 1, 1)
    assert len(shapes) == 104 * 6 + 15  # six arrays for each convolution, and the heads
    assert milvlg_shapes(VISUAL_GENOME)[f"{PREDICTOR}.attr_linear2.weight"] == (401, 512)
    assert milvlg_shapes(VISUAL_GENOME).keys() & tensor_specs(VISUAL_GENOME).keys()
