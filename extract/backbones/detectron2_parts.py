"""What Visual Genome's network needs beside detectron2's own parts, registered with it under names of ours.

A stem whose pool pads nothing and rounds up, a last stage that is dilated instead of striding, a predictor that knows
attributes. Names of tensors are those of the public checkpoints. Nothing of the library is changed.
"""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BACKBONE", "HEADS", "register_parts"]

BACKBONE = "sentifuse_caffe_resnet_c4"
HEADS = "SentifuseVisualGenomeHeads"


def register_parts(library: SimpleNamespace) -> None:
    """Make our parts known to it under our names, once for a process."""
    if BACKBONE in library.modeling.BACKBONE_REGISTRY:
        return
    resnet, roi_heads = library.resnet, library.roi_heads

    class CeilStem(resnet.BasicStem):  # type: ignore[misc,name-defined]  # a class of an untyped library
        def forward(self, pixels: Tensor) -> Tensor:
            return F.max_pool2d(F.relu(self.conv1(pixels)), kernel_size=3, stride=2, padding=0, ceil_mode=True)

    def make_stage(settings: Any, number: int, *, stride: int, dilation: int) -> Any:
        own, width = settings.MODEL.SENTIFUSE, settings.MODEL.RESNETS.STEM_OUT_CHANNELS
        depth, inner = own.DEPTHS[number - 2], width << (number - 2)
        return resnet.ResNet.make_stage(
            resnet.BottleneckBlock,
            depth,
            in_channels=width if number == 2 else 2 * inner,
            out_channels=4 * inner,
            bottleneck_channels=inner,
            stride_per_block=[stride] + [1] * (depth - 1),
            stride_in_1x1=True,
            dilation=dilation,
            norm=settings.MODEL.RESNETS.NORM,
        )

    def sentifuse_caffe_resnet_c4(settings: Any, input_shape: Any) -> Any:
        names = settings.MODEL.RESNETS
        stem = CeilStem(input_shape.channels, names.STEM_OUT_CHANNELS, names.NORM)
        stages = [make_stage(settings, number, stride=1 if number == 2 else 2, dilation=1) for number in (2, 3, 4)]
        return resnet.ResNet(stem, stages, out_features=["res4"])

    class AttributePredictor(roi_heads.FastRCNNOutputLayers):  # type: ignore[misc,name-defined]  # as above
        def __init__(self, settings: Any, input_shape: Any) -> None:
            super().__init__(settings, input_shape)
            own, classes = settings.MODEL.SENTIFUSE, settings.MODEL.ROI_HEADS.NUM_CLASSES
            if own.ATTRIBUTES:
                self.cls_embedding = nn.Embedding(classes + 1, own.EMBEDDING_WIDTH)
                self.fc_attr = nn.Linear(input_shape.channels + own.EMBEDDING_WIDTH, own.ATTRIBUTE_WIDTH)
                self.attr_score = nn.Linear(own.ATTRIBUTE_WIDTH, own.ATTRIBUTES + 1)

        def attribute_logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
            hidden = torch.cat([features, self.cls_embedding(class_ids)], dim=1)
            logits: Tensor = self.attr_score(F.relu(self.fc_attr(hidden)))
            return logits

    class SentifuseVisualGenomeHeads(roi_heads.Res5ROIHeads):  # type: ignore[misc,name-defined]  # as above
        @classmethod
        def from_config(cls, cfg: Any, input_shape: Any) -> dict[str, Any]:  # the library asks for the name cfg
            parts: dict[str, Any] = super().from_config(cfg, input_shape)
            width = 8 * cfg.MODEL.RESNETS.RES2_OUT_CHANNELS
            parts["res5"] = nn.Sequential(*make_stage(cfg, 5, stride=1, dilation=2))
            parts["box_predictor"] = AttributePredictor(cfg, library.layers.ShapeSpec(channels=width))
            return parts

    library.modeling.BACKBONE_REGISTRY.register(sentifuse_caffe_resnet_c4)
    library.modeling.ROI_HEADS_REGISTRY.register(SentifuseVisualGenomeHeads)
