"""The network of `network.py` for a GPU: many images at once, what bears it in half precision.

Norms are folded into convolutions, maps lie channels last. Whatever is asked of it is only put in the device's queue:
nothing here waits for an answer. The backbone takes images of one size; their crops and those of other sizes form one
row of equal chunks, so that the last stage, nine tenths of the work, always has enough to do. Boxes, the edges of bins
and everything behind a crop's mean are float32.

Where exactness is asked for, the stem, res2 and res3 are computed in float64, as on a CPU: rounding there is what grows
on the way, and in float32 throughout some golden probabilities are missed.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_pool

from sentifuse.extract.detector.architecture import PREDICTOR, Architecture
from sentifuse.extract.detector.boxes import cell_anchors
from sentifuse.extract.detector.folded import Folded, fold
from sentifuse.extract.detector.stages import POOLED_SIDE, STRIDE

__all__ = ["BatchedNetwork"]

# Shapes: as in stages.py, but B images where there is one; n crops.
LATE_STAGE = 4
CROPS = 600  # of two images; their maps take 3 GB in float32
STEP = 100  # the last chunk is filled up to so many, so that few shapes are ever seen


class BatchedNetwork:
    """See the module; implements `Stages` for one image, and takes several wherever that speaks of one.

    Parameters
    ----------
    early_dtype, backbone_dtype, crop_dtype
        Arithmetic of stem, res2 and res3; of res4 and the proposal head; of the last stage.
    is_tf32
        Whether convolutions in float32 may round their factors to ten bits, as a GPU does ten times as fast. Only
        `arithmetic.float32_only` lets them.
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        sizes: Architecture,
        *,
        device: torch.device,
        early_dtype: torch.dtype = torch.float64,
        backbone_dtype: torch.dtype = torch.float32,
        crop_dtype: torch.dtype = torch.float32,
        is_tf32: bool = False,
    ) -> None:
        self.device = device
        self.dtype = torch.float32
        self.crop_chunk = CROPS
        self.has_attributes = sizes.has_attributes
        self.feature_width = sizes.feature_width
        self.early_dtype, self.backbone_dtype, self.crop_dtype = early_dtype, backbone_dtype, crop_dtype
        self.is_tf32 = is_tf32
        self._stem = Conv(fold(state, "backbone.stem.conv1"), dtype=early_dtype, device=device, stride=2)
        self._stages = {
            stage: [
                Bottleneck(
                    state,
                    f"backbone.res{stage}.{block}",
                    dtype=backbone_dtype if stage == LATE_STAGE else early_dtype,
                    device=device,
                    stride=2 if block == 0 and stage > 2 else 1,
                )
                for block in range(sizes.depths[stage - 2])
            ]
            for stage in (2, 3, 4)
        }
        self._res5 = [
            Bottleneck(state, f"roi_heads.res5.{block}", dtype=crop_dtype, device=device, dilation=2)
            for block in range(sizes.depths[3])
        ]
        self._read_proposal_head(state)
        self._read_predictor(state)

    def backbone(self, pixels: Tensor) -> dict[str, Tensor]:
        """See `Stages`."""
        return dict(self._maps(pixels))

    def res4(self, pixels: Tensor) -> Tensor:
        """The last of the backbone's maps; the others are not kept."""
        return next(found for name, found in self._maps(pixels) if name == "res4")

    def proposal_head(self, res4: Tensor) -> tuple[Tensor, Tensor]:
        """See `Stages`."""
        hidden = self._rpn_conv(res4).relu_().float().permute(0, 2, 3, 1)
        both = F.linear(hidden, *self._rpn_out).permute(0, 3, 1, 2)
        logits, deltas = both.tensor_split([len(self.cell_anchors)], dim=1)
        return logits, deltas

    def pooled(self, res4: Tensor, boxes: Tensor) -> Tensor:
        """See `Stages`."""
        return _pool(_for_pooling(res4), _with_image(boxes[None]))

    def features(self, res4: Tensor, boxes: Tensor) -> Tensor:
        """See `Stages`."""
        return self.features_together([res4], [boxes[None]])

    def features_together(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """(n, D): mean over each crop after the last stage.

        Parameters
        ----------
        maps, boxes
            (B, 1024, h, w) and (B, R, 4) for each size of image. The crops come in the order of the boxes.
        """
        cells, rois = [_for_pooling(some) for some in maps], [_with_image(some) for some in boxes]
        count = sum(map(len, rois))
        out = torch.empty((count, self.feature_width), device=self.device)
        step = min(STEP, self.crop_chunk)
        rois[-1] = torch.cat([rois[-1], rois[-1][-1:].expand(-count % step, -1)])
        start = 0
        for pieces in _chunks([len(some) for some in rois], self.crop_chunk):
            crops = [_pool(cells[size], rois[size][rows]) for size, rows in pieces]
            part = out[start : start + self.crop_chunk]
            part.copy_(self._means(crops[0] if len(crops) == 1 else torch.cat(crops))[: len(part)])
            start += len(part)
        return out

    def class_logits(self, features: Tensor) -> Tensor:
        """See `Stages`."""
        return F.linear(features, *self._cls_score)

    def class_deltas(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """See `Stages`; four rows of the weights for each box."""
        weight, bias = self._bbox_pred
        return torch.baddbmm(bias[class_ids][:, :, None], weight[class_ids], features[:, :, None])[:, :, 0]

    def attribute_logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """See `Stages`."""
        hidden = torch.cat([features, self._embedding[class_ids]], dim=1)
        return F.linear(F.linear(hidden, *self._fc_attr).relu_(), *self._attr_score)

    def _maps(self, pixels: Tensor) -> Iterator[tuple[str, Tensor]]:
        # cuDNN knows no channels last in float64.
        early = torch.contiguous_format if self.early_dtype == torch.float64 else torch.channels_last
        x = pixels.to(self.early_dtype, memory_format=early)
        x = F.max_pool2d(self._stem(x).relu_(), 3, 2, padding=0, ceil_mode=True)
        yield "stem", x
        for stage, blocks in self._stages.items():
            if stage == LATE_STAGE:
                x = x.to(self.backbone_dtype, memory_format=torch.channels_last)
            for block in blocks:
                x = block(x)
            yield f"res{stage}", x

    def _means(self, crops: Tensor) -> Tensor:
        """(n, D) of crops (n, 1024, 14, 14)."""
        x = crops.to(self.crop_dtype, memory_format=torch.channels_last)
        for block in self._res5:
            x = block(x)
        return x.mean(dim=(2, 3), dtype=torch.float32)

    def _read_proposal_head(self, state: Mapping[str, Tensor]) -> None:
        prefix = "proposal_generator.rpn_head"
        anchors = state.get("proposal_generator.anchor_generator.cell_anchors.0")
        self.cell_anchors = (cell_anchors() if anchors is None else anchors.float()).to(self.device, copy=True)
        conv = Folded(weight=state[f"{prefix}.conv.weight"], bias=state[f"{prefix}.conv.bias"])
        self._rpn_conv = Conv(conv, dtype=self.backbone_dtype, device=self.device)
        parts = ("objectness_logits", "anchor_deltas")
        weight, bias = (torch.cat([state[f"{prefix}.{part}.{kind}"] for part in parts]) for kind in ("weight", "bias"))
        self._rpn_out = weight.flatten(1).to(self.device, torch.float32), bias.to(self.device, torch.float32)

    def _read_predictor(self, state: Mapping[str, Tensor]) -> None:
        def linear(name: str) -> tuple[Tensor, Tensor]:
            weight, bias = (
                state[f"{PREDICTOR}.{name}.{kind}"].to(self.device, torch.float32, copy=True)
                for kind in ("weight", "bias")
            )
            return weight, bias

        self._cls_score = linear("cls_score")
        weight, bias = linear("bbox_pred")
        self._bbox_pred = weight.view(-1, 4, self.feature_width), bias.view(-1, 4)
        if self.has_attributes:
            self._embedding = state[f"{PREDICTOR}.cls_embedding.weight"].to(self.device, torch.float32, copy=True)
            self._fc_attr, self._attr_score = linear("fc_attr"), linear("attr_score")


class Conv:
    """A convolution with bias on channels-last maps that keeps their size, but for the stride."""

    def __init__(
        self, folded: Folded, *, dtype: torch.dtype, device: torch.device, stride: int = 1, dilation: int = 1
    ) -> None:
        self.stride, self.dilation, self.padding = stride, dilation, dilation * (folded.weight.shape[2] // 2)
        self.weight = folded.weight.to(device, dtype, copy=True, memory_format=torch.channels_last)
        self.bias = folded.bias.to(device, dtype, copy=True)
        # In half precision a product of matrices adds the bias in passing. In float32 it would not take TF32.
        self.is_product = self.padding == 0 and dtype in (torch.float16, torch.bfloat16)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, K, h, w) → (B, N, h / stride, w / stride)."""
        if not self.is_product:
            return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation)
        cells = x[:, :, :: self.stride, :: self.stride].permute(0, 2, 3, 1)
        return F.linear(cells, self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)


class Bottleneck:
    """One block on maps or crops; its input is not changed."""

    def __init__(
        self,
        state: Mapping[str, Tensor],
        name: str,
        *,
        dtype: torch.dtype,
        device: torch.device,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        self.shortcut = None
        if f"{name}.shortcut.weight" in state:
            self.shortcut = Conv(fold(state, f"{name}.shortcut"), dtype=dtype, device=device, stride=stride)
        self.conv1 = Conv(fold(state, f"{name}.conv1"), dtype=dtype, device=device, stride=stride)
        self.conv2 = Conv(fold(state, f"{name}.conv2"), dtype=dtype, device=device, dilation=dilation)
        self.conv3 = Conv(fold(state, f"{name}.conv3"), dtype=dtype, device=device)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, K, h, w) → (B, N, h / stride, w / stride)."""
        inner = self.conv2(self.conv1(x).relu_()).relu_()
        rest = x if self.shortcut is None else self.shortcut(x)
        return self.conv3(inner).add_(rest).relu_()


def _chunks(counts: Sequence[int], size: int) -> Iterator[list[tuple[int, slice]]]:
    """Rows of tables of `counts` rows, `size` at a time: for each chunk, which rows of which table.

    >>> [*_chunks([2, 5], 4)]
    [[(0, slice(0, 2, None)), (1, slice(0, 2, None))], [(1, slice(2, 5, None))]]
    """
    chunk: list[tuple[int, slice]] = []
    room = size
    for table, count in enumerate(counts):
        start = 0
        while start < count:
            stop = min(start + room, count)
            chunk.append((table, slice(start, stop)))
            room -= stop - start
            start = stop
            if not room:
                yield chunk
                chunk, room = [], size
    if chunk:
        yield chunk


def _for_pooling(maps: Tensor) -> Tensor:
    """As torchvision pools them: float32, so that bins are float32's too, and channels first."""
    return maps.float().contiguous()


def _pool(cells: Tensor, rois: Tensor) -> Tensor:
    crops: Tensor = roi_pool(cells, rois, POOLED_SIDE, 1.0 / STRIDE)
    return crops


def _with_image(boxes: Tensor) -> Tensor:
    """(B, R, 4) → (B R, 5) float32: the number of the image before each box."""
    images = torch.arange(len(boxes), device=boxes.device, dtype=torch.float32)
    return torch.cat([images[:, None, None].expand(-1, boxes.shape[1], 1), boxes.float()], dim=2).flatten(0, 1)
