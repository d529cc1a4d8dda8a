"""Residual networks with frozen norms."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.layers import ShapeSpec


class FrozenNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((width,), value))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-5)


class NormedConv(nn.Conv2d):
    def __init__(self, *sizes: int, **options: Any) -> None:
        super().__init__(*sizes, bias=False, **options)
        self.norm = FrozenNorm(sizes[1])

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))


class BasicStem(nn.Module):
    def __init__(self, in_channels: int = 3, out_channels: int = 64, norm: str = "BN") -> None:
        super().__init__()
        assert norm == "FrozenBN"
        self.stride, self.out_channels = 4, out_channels
        self.conv1 = NormedConv(in_channels, out_channels, 7, stride=2, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(self.conv1(x)), kernel_size=3, stride=2, padding=1)


class BottleneckBlock(nn.Module):
    def __init__(
        self, in_channels: int, out_channels: int, *, bottleneck_channels: int, stride: int = 1,
        norm: str = "BN", stride_in_1x1: bool = False, dilation: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        assert norm == "FrozenBN"
        self.stride, self.out_channels = stride, out_channels
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        has_shortcut = in_channels != out_channels
        self.shortcut = NormedConv(in_channels, out_channels, 1, stride=stride) if has_shortcut else None
        self.conv1 = NormedConv(in_channels, bottleneck_channels, 1, stride=first)
        self.conv2 = NormedConv(
            bottleneck_channels, bottleneck_channels, 3, stride=second, padding=dilation, dilation=dilation
        )
        self.conv3 = NormedConv(bottleneck_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))
        return F.relu(inner + (self.shortcut(x) if self.shortcut is not None else x))


class ResNet(nn.Module):
    size_divisibility = 0

    def __init__(self, stem: Any, stages: list[list[Any]], num_classes: None = None, out_features: Any = None) -> None:
        super().__init__()
        self.stem, self.names = stem, [f"res{number}" for number in range(2, 2 + len(stages))]
        self.out_features, stride = out_features, stem.stride
        self.shapes = {}
        for name, blocks in zip(self.names, stages, strict=True):
            self.add_module(name, nn.Sequential(*blocks))
            for block in blocks:
                stride *= block.stride
            self.shapes[name] = ShapeSpec(channels=blocks[-1].out_channels, stride=stride)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x, maps = self.stem(x), {}
        for name in self.names:
            x = maps[name] = self.get_submodule(name)(x)
        return {name: maps[name] for name in self.out_features}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {name: self.shapes[name] for name in self.out_features}

    @staticmethod
    def make_stage(
        block_class: Any, num_blocks: int, *, in_channels: int, out_channels: int, **options: Any
    ) -> list[Any]:
        blocks = []
        for number in range(num_blocks):
            own = {
                k.removesuffix("_per_block"): v[number] if k.endswith("_per_block") else v for k, v in options.items()
            }
            blocks.append(block_class(in_channels, out_channels, **own))
            in_channels = out_channels
        return blocks
