"""The miniature of torchvision's detector: built like torchvision's own, narrow, and quick."""

import torch

from sentifuse.extract.backbones.tiny_rcnn import FEATURE_WIDTH, tiny_rcnn


def test_it_is_called_like_torchvisions_builders_and_counts_background() -> None:
    net = tiny_rcnn(num_classes=5)
    predictor = net.roi_heads.box_predictor
    assert (predictor.cls_score.in_features, predictor.cls_score.out_features) == (FEATURE_WIDTH, 5)
    assert predictor.bbox_pred.out_features == 4 * 5
    assert sum(value.numel() for value in net.parameters()) < 200_000


def test_sides_are_small_and_may_be_given() -> None:
    assert (tiny_rcnn().transform.min_size, tiny_rcnn().transform.max_size) == ((96,), 160)
    assert tiny_rcnn(min_size=64, max_size=64).transform.max_size == 64


def test_a_picture_goes_through_it() -> None:
    torch.manual_seed(0)
    net = tiny_rcnn().eval()
    with torch.inference_mode():
        (found,) = net([torch.rand(3, 50, 80)])
        maps = net.backbone(torch.rand(1, 3, 96, 160))
    assert set(found) == {"boxes", "labels", "scores"}
    assert maps["0"].shape == (1, net.backbone.out_channels, 6, 10)
