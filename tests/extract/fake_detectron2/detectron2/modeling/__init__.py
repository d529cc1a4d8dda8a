"""The whole detector, built from settings."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import nms

from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock, ResNet
from detectron2.modeling.roi_heads import Res5ROIHeads, StandardROIHeads, apply_deltas


class Registry(dict[str, Any]):
    def register(self, thing: Any) -> None:
        assert thing.__name__ not in self, f"An object named {thing.__name__!r} was already registered"
        self[thing.__name__] = thing


BACKBONE_REGISTRY, ROI_HEADS_REGISTRY = Registry(), Registry()
ROI_HEADS_REGISTRY.register(Res5ROIHeads)
ROI_HEADS_REGISTRY.register(StandardROIHeads)


@BACKBONE_REGISTRY.register
def build_plain_backbone(cfg: Any, input_shape: ShapeSpec) -> ResNet:
    width = cfg.MODEL.RESNETS.STEM_OUT_CHANNELS
    options = {"bottleneck_channels": width, "norm": "FrozenBN", "stride_per_block": [2]}
    stage = ResNet.make_stage(BottleneckBlock, 1, in_channels=width, out_channels=4 * width, **options)
    return ResNet(BasicStem(input_shape.channels, width, "FrozenBN"), [stage], out_features=["res2"])


@BACKBONE_REGISTRY.register
def build_deformable_backbone(cfg: Any, input_shape: ShapeSpec) -> ResNet:
    raise ImportError("Cannot import 'detectron2._C', therefore 'DeformConv' is not available")


class RPNHead(nn.Module):
    def __init__(self, wide_in: int, width: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(wide_in, width, 3, padding=1)
        self.objectness_logits = nn.Conv2d(width, anchors, 1)
        self.anchor_deltas = nn.Conv2d(width, 4 * anchors, 1)


class RPN(nn.Module):
    def __init__(self, cfg: Any, shape: ShapeSpec, feature: str) -> None:
        super().__init__()
        self.settings, self.stride, self.feature = cfg.MODEL.RPN, shape.stride, feature
        (sizes,), (ratios,) = cfg.MODEL.ANCHOR_GENERATOR.SIZES, cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS
        assert cfg.MODEL.ANCHOR_GENERATOR.OFFSET == 0.0
        sides = torch.tensor([(size / ratio**0.5, size * ratio**0.5) for size in sizes for ratio in ratios])
        self.anchor_generator, cells = nn.Module(), nn.Module()
        cells.register_buffer("0", torch.cat([-sides / 2, sides / 2], dim=1), persistent=False)
        self.anchor_generator.cell_anchors = cells
        width = cfg.MODEL.RPN.CONV_DIMS[0]
        self.rpn_head = RPNHead(shape.channels, shape.channels if width == -1 else width, len(sides))

    def forward(self, images: Any, maps: dict[str, Tensor], targets: None) -> tuple[list[Any], dict[str, Any]]:
        head, one = self.rpn_head, maps[self.feature]
        hidden = F.relu(head.conv(one))
        logits = head.objectness_logits(hidden)[0].permute(1, 2, 0).flatten()
        deltas = head.anchor_deltas(hidden)[0].unflatten(0, (-1, 4)).permute(2, 3, 0, 1).reshape(-1, 4)
        y, x = (self.stride * torch.arange(float(side)) for side in one.shape[2:])
        grid = torch.cartesian_prod(y, x).flip(1).repeat(1, 2)
        anchors = (grid[:, None] + self.anchor_generator.cell_anchors.get_buffer("0")).flatten(0, 1)
        order = logits.argsort(descending=True)[: self.settings.PRE_NMS_TOPK_TEST]
        boxes = apply_deltas(deltas[order], anchors[order], (1.0,) * 4)
        ((height, width),) = images.image_sizes
        boxes = torch.minimum(boxes.clamp(min=0), torch.tensor([width, height, width, height]))
        real = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        boxes, scores = boxes[real], logits[order][real]
        kept = nms(boxes, scores, self.settings.NMS_THRESH)[: self.settings.POST_NMS_TOPK_TEST]
        return [SimpleNamespace(proposal_boxes=SimpleNamespace(tensor=boxes[kept]))], {}


class GeneralizedRCNN(nn.Module):
    def __init__(self, cfg: Any) -> None:
        super().__init__()
        shape = ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN))
        self.backbone = BACKBONE_REGISTRY[cfg.MODEL.BACKBONE.NAME](cfg, shape)
        ((feature, shape),) = self.backbone.output_shape().items()
        has_rpn = cfg.MODEL.PROPOSAL_GENERATOR.NAME == "RPN"
        self.proposal_generator = RPN(cfg, shape, feature) if has_rpn else None
        self.roi_heads = ROI_HEADS_REGISTRY[cfg.MODEL.ROI_HEADS.NAME](cfg, self.backbone.output_shape())
        for name, values in (("pixel_mean", cfg.MODEL.PIXEL_MEAN), ("pixel_std", cfg.MODEL.PIXEL_STD)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def preprocess_image(self, inputs: list[dict[str, Tensor]]) -> Any:
        (pixels,) = (one["image"] for one in inputs)  # one at a time: together they would be padded
        normal = (pixels - self.pixel_mean) / self.pixel_std
        return SimpleNamespace(tensor=normal[None], image_sizes=[tuple(normal.shape[1:])])


def build_model(cfg: Any) -> GeneralizedRCNN:
    assert (cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.WEIGHTS) == ("GeneralizedRCNN", "")
    return GeneralizedRCNN(cfg).to(cfg.MODEL.DEVICE)
