"""From maps and proposals to features, classes and moved boxes."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align, roi_pool

from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone.resnet import BottleneckBlock, ResNet


def apply_deltas(deltas: Tensor, boxes: Tensor, weights: Any) -> Tensor:
    """(R, 4 k) boxes, from deltas of that shape and boxes (R, 4)."""
    moved = (deltas.unflatten(1, (-1, 4)) / torch.tensor(weights)).unbind(2)
    sides = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + 0.5 * sides
    x, y = (moved[i] * sides[:, i, None] + centre[:, i, None] for i in (0, 1))
    w, h = (torch.exp(moved[2 + i].clamp(max=math.log(1000 / 16))) * sides[:, i, None] for i in (0, 1))
    return torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], dim=2).flatten(1)


class Pooler:
    def __init__(self, settings: Any, stride: int) -> None:
        self.is_max, self.side = settings.POOLER_TYPE == "ROIPool", settings.POOLER_RESOLUTION
        self.scale = 1 / stride

    def __call__(self, maps: list[Tensor], boxes: list[Any]) -> Tensor:
        (one,), corners = maps, [each.tensor for each in boxes]
        if self.is_max:
            return roi_pool(one, corners, self.side, self.scale)
        return roi_align(one, corners, self.side, self.scale, 0, True)


class FastRCNNOutputLayers(nn.Module):
    def __init__(self, cfg: Any, input_shape: ShapeSpec) -> None:
        super().__init__()
        width = input_shape.channels * (input_shape.height or 1) * (input_shape.width or 1)
        self.cls_score = nn.Linear(width, cfg.MODEL.ROI_HEADS.NUM_CLASSES + 1)
        self.bbox_pred = nn.Linear(width, cfg.MODEL.ROI_HEADS.NUM_CLASSES * 4)
        self.weights = cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(features), self.bbox_pred(features)

    def predict_boxes(self, predictions: Any, proposals: list[Any]) -> list[Tensor]:
        (one,) = proposals
        return [apply_deltas(predictions[1], one.proposal_boxes.tensor, self.weights)]

    def predict_probs(self, predictions: Any, proposals: list[Any]) -> list[Tensor]:
        return [torch.softmax(predictions[0], dim=1)]


class Res5ROIHeads(nn.Module):
    """C4: the last stage runs on crops."""

    def __init__(self, cfg: Any, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__()
        for name, value in type(self).from_config(cfg, input_shape).items():
            setattr(self, name, value)

    @classmethod
    def from_config(cls, cfg: Any, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        width, out = cfg.MODEL.RESNETS.WIDTH_PER_GROUP * 8, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS * 8
        stage = ResNet.make_stage(
            BottleneckBlock, 3, in_channels=out // 2, out_channels=out, bottleneck_channels=width,
            stride_per_block=[2, 1, 1], norm=cfg.MODEL.RESNETS.NORM,
        )  # fmt: skip
        return {
            "in_features": ["res4"],
            "pooler": Pooler(cfg.MODEL.ROI_BOX_HEAD, input_shape["res4"].stride),
            "res5": nn.Sequential(*stage),
            "box_predictor": FastRCNNOutputLayers(cfg, ShapeSpec(channels=out, height=1, width=1)),
        }


class StandardROIHeads(nn.Module):
    """FPN and its like: two linear layers on crops."""

    def __init__(self, cfg: Any, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__()
        self.box_in_features = ["res2"]
        shape, side = input_shape["res2"], cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION
        self.box_pooler = Pooler(cfg.MODEL.ROI_BOX_HEAD, shape.stride)
        self.box_head = nn.Sequential(nn.Flatten(), nn.Linear(shape.channels * side**2, 24), nn.ReLU())
        self.box_predictor = FastRCNNOutputLayers(cfg, ShapeSpec(channels=24))
