import numpy as np
import pytest

from sentifuse.extract.detector.architecture import PREDICTOR
from sentifuse.extract.detector.layouts import RPN, from_milvlg
from sentifuse.extract.errors import ModelMismatch


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


def test_one_logit_where_there_should_be_two_is_refused() -> None:
    with pytest.raises(ModelMismatch, match="expected 24"):
        from_milvlg({f"{RPN}.objectness_logits.bias": np.zeros(12)})
