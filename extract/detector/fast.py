"""The network of `network.py` for a CPU, with the same numbers, rearranged for speed.

Norms are folded into convolutions; maps lie channels last, so 1x1 convolutions are matrix products on rows and add and
clip in passing. In the last stage, where 300 crops of 14 x 14 bins make 84 % of the work:

- its first 1x1 convolutions see one bin at a time, so they run once for every different window of the map (a fifth or
  less of the bins) and bins then look them up;
- its dilated 3x3 convolutions take 121 products instead of 441 (see `winograd.py`);
- crops go through in chunks that stay in the cache; only means of them are kept;
- of the box deltas only those of one class are computed.

Rounding in the first layers is what grows most on the way, and they are cheap: where exactness is asked for, the stem,
res2 and res3 are computed in float64. That brings res4 three times as near to the true numbers as float32 throughout.
Half precision concerns the last stage only. Edges of bins, boxes and scores are float32 always.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from sentifuse.extract.detector.architecture import PREDICTOR, Architecture
from sentifuse.extract.detector.boxes import cell_anchors
from sentifuse.extract.detector.crew import work_apart
from sentifuse.extract.detector.folded import fold
from sentifuse.extract.detector.kernels import Pointwise, SquareConv
from sentifuse.extract.detector.pooling import Windows, find_windows, pool_boxes, pool_windows
from sentifuse.extract.detector.stages import POOLED_SIDE
from sentifuse.extract.detector.winograd import GRID_SIDE, DilatedConv, Workspace

__all__ = ["FastNetwork"]

# Shapes: as in stages.py; B crops of a chunk, U windows, K channels. Maps inside are (h, w, K).
CHUNK = 25  # crops; 100, 150 and 300 are so many times an even number of them
MEAN_ROWS = 28
LATE_STAGE = "res4"
MAX_WINDOWS = 16_384  # whose 1x1 convolutions are kept at once: 170 MB in float32


class FastNetwork:
    """See the module; implements `Stages`.

    Parameters
    ----------
    early_dtype, crop_dtype
        Arithmetic of stem, res2 and res3: float64 or float32; of the last stage: float32 or bfloat16.
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        sizes: Architecture,
        *,
        early_dtype: torch.dtype = torch.float64,
        crop_dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self.crop_chunk = CHUNK
        self.has_attributes = sizes.has_attributes
        self.early_dtype = early_dtype
        self._state = state
        self._read_backbone(sizes)
        self._read_proposal_head()
        self.crops = CropStage(state, sizes.depths[3], dtype=crop_dtype)
        self._read_predictor()
        del self._state

    def backbone(self, pixels: Tensor) -> dict[str, Tensor]:
        """See `Stages`."""
        x = self._stem(pixels.to(self.early_dtype).permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)
        x = F.max_pool2d(x, 3, 2, padding=0, ceil_mode=True)[0].permute(1, 2, 0).contiguous()
        maps = {"stem": _nchw(x)}
        for name, blocks in self._stages.items():
            if name == LATE_STAGE:
                x = x.float()
            for block in blocks:
                x = block(x)
            maps[name] = _nchw(x)
        return maps

    def proposal_head(self, res4: Tensor) -> tuple[Tensor, Tensor]:
        """See `Stages`."""
        hidden = self._rpn_conv(_hwc(res4)[None])[0]
        both = self._rpn_out(hidden.reshape(-1, hidden.shape[2])).view(*hidden.shape[:2], -1)
        logits, deltas = both.tensor_split([self.anchor_count], dim=2)
        return _nchw(logits), _nchw(deltas)

    def pooled(self, res4: Tensor, boxes: Tensor) -> Tensor:
        """See `Stages`."""
        return pool_boxes(res4[0].float(), boxes)

    def features(self, res4: Tensor, boxes: Tensor) -> Tensor:
        """See `Stages`."""
        return self.crops(_hwc(res4), boxes)

    def class_logits(self, features: Tensor) -> Tensor:
        """See `Stages`."""
        return self._cls_score(features)

    def class_deltas(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """See `Stages`; four rows of the weights for each box."""
        weight, bias = self._bbox_weight[class_ids], self._bbox_bias[class_ids]  # (R, 4, D), (R, 4)
        return torch.baddbmm(bias[:, :, None], weight, features[:, :, None])[:, :, 0]

    def attribute_logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """See `Stages`."""
        hidden = torch.cat([features, self._embedding[class_ids]], dim=1)
        return self._attr_score(self._fc_attr(hidden, relu=True))

    def _read_backbone(self, sizes: Architecture) -> None:
        stem = fold(self._state, "backbone.stem.conv1")
        self._stem = SquareConv(stem.weight, stem.bias, stride=2, dtype=self.early_dtype)
        self._stages: dict[str, list[Bottleneck]] = {}
        for stage in (2, 3, 4):
            name = f"res{stage}"
            self._stages[name] = [
                Bottleneck(
                    self._state,
                    f"backbone.{name}.{block}",
                    stride=2 if block == 0 and stage > 2 else 1,
                    dtype=torch.float32 if name == LATE_STAGE else self.early_dtype,
                )
                for block in range(sizes.depths[stage - 2])
            ]

    def _read_proposal_head(self) -> None:
        state, prefix = self._state, "proposal_generator.rpn_head"
        anchors = state.get("proposal_generator.anchor_generator.cell_anchors.0")
        self.cell_anchors = (cell_anchors() if anchors is None else anchors.float()).clone()
        self.anchor_count = len(self.cell_anchors)
        self._rpn_conv = SquareConv(state[f"{prefix}.conv.weight"], state[f"{prefix}.conv.bias"], dtype=torch.float32)
        parts = ("objectness_logits", "anchor_deltas")
        weight = torch.cat([state[f"{prefix}.{part}.weight"].flatten(1) for part in parts])
        bias = torch.cat([state[f"{prefix}.{part}.bias"] for part in parts])
        self._rpn_out = Pointwise(weight, bias, dtype=torch.float32)

    def _read_predictor(self) -> None:
        self._cls_score = self._linear("cls_score")
        weight, bias = self._state[f"{PREDICTOR}.bbox_pred.weight"], self._state[f"{PREDICTOR}.bbox_pred.bias"]
        # Cloned: a view would keep the whole file in memory.
        self._bbox_weight = weight.float().clone().view(-1, 4, *weight.shape[1:])
        self._bbox_bias = bias.float().clone().view(-1, 4)
        if self.has_attributes:
            self._embedding = self._state[f"{PREDICTOR}.cls_embedding.weight"].float().clone()
            self._fc_attr = self._linear("fc_attr")
            self._attr_score = self._linear("attr_score")

    def _linear(self, name: str) -> Pointwise:
        weight, bias = self._state[f"{PREDICTOR}.{name}.weight"], self._state[f"{PREDICTOR}.{name}.bias"]
        return Pointwise(weight, bias, dtype=torch.float32)


class Bottleneck:
    """One block of the backbone on a map (h, w, K). Without a shortcut the input is overwritten."""

    def __init__(self, state: Mapping[str, Tensor], name: str, *, stride: int, dtype: torch.dtype) -> None:
        self.stride = stride
        self.shortcut = None
        if f"{name}.shortcut.weight" in state:
            self.shortcut = _pointwise(state, f"{name}.shortcut", dtype=dtype)
        self.conv1 = _pointwise(state, f"{name}.conv1", dtype=dtype)
        middle = fold(state, f"{name}.conv2")
        self.conv2 = SquareConv(middle.weight, middle.bias, dtype=dtype)
        self.conv3 = _pointwise(state, f"{name}.conv3", dtype=dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """(h, w, K) → (h / stride, w / stride, N)."""
        if self.stride > 1:  # a 1x1 convolution with a stride looks at every second cell only
            x = x[:: self.stride, :: self.stride].contiguous()
        height, width, wide_in = x.shape
        rows = x.view(-1, wide_in)
        inner = self.conv1(rows, relu=True)
        inner = self.conv2(inner.view(1, height, width, -1))[0]
        target = rows if self.shortcut is None else self.shortcut(rows)
        return self.conv3.add_to(target, inner.view(height * width, -1)).view(height, width, -1)


class CropStage:
    """The last stage on crops of a map, and the mean of each: (h, w, K) and boxes (R, 4) → (R, D) float32.

    Rows of a chunk lie by cell of a grid, then by grid, then by crop: as `winograd.py` wants them.
    """

    def __init__(self, state: Mapping[str, Tensor], depth: int, *, dtype: torch.dtype) -> None:
        prefix = "roi_heads.res5"
        self.dtype = dtype
        self.shortcut = _pointwise(state, f"{prefix}.0.shortcut", dtype=dtype)
        self.first, self.middle, self.last = [], [], []
        for block in range(depth):
            name = f"{prefix}.{block}"
            self.first.append(_pointwise(state, f"{name}.conv1", dtype=dtype))
            middle = fold(state, f"{name}.conv2")
            self.middle.append(DilatedConv(middle.weight, middle.bias, dtype=dtype))
            self.last.append(_pointwise(state, f"{name}.conv3", dtype=dtype, fixed_rows=CHUNK * POOLED_SIDE**2))
        self.width = self.shortcut.width

    def __call__(self, cells: Tensor, boxes: Tensor) -> Tensor:
        """See the class; no boxes give no rows."""
        out = torch.empty((len(boxes), self.width))
        cells = cells.float().contiguous()
        for rows, windows in _groups(boxes, *cells.shape[:2]):
            pooled = pool_windows(cells, windows.edges).to(self.dtype)  # (U + 1, K)
            inner, outer = self.first[0](pooled, relu=True), self.shortcut(pooled)
            del pooled
            self._run_chunks(inner, outer, torch.from_numpy(windows.of_bin), out[rows])
        return out

    def _run_chunks(self, inner: Tensor, outer: Tensor, bins: Tensor, out: Tensor) -> None:
        """Fill `out` (R, D) for bins (R, 14, 14); see `_means` for the rest."""

        def run(start: int, space: Workspace) -> None:
            part = bins[start : start + CHUNK]
            # A chunk is always full, so that a crop's numbers do not depend on how many others there are.
            full = torch.cat([part, part[-1:].expand(CHUNK - len(part), -1, -1)])
            out[start : start + len(part)] = self._means(inner, outer, full, space)[: len(part)]

        work_apart(run, range(0, len(bins), CHUNK), Workspace)

    def _means(self, inner: Tensor, outer: Tensor, bins: Tensor, space: Workspace) -> Tensor:
        """The rest of the stage for a chunk, from its first convolutions by window and the bins (B, 14, 14)."""
        count, bin_count = len(bins), bins.numel()
        place = bins.view(count, GRID_SIDE, 2, GRID_SIDE, 2).permute(1, 3, 2, 4, 0).reshape(-1)
        x = torch.index_select(outer, 0, place, out=space.take("x", bin_count, self.width, dtype=self.dtype))
        hidden = torch.index_select(inner, 0, place)
        for block, middle in enumerate(self.middle):
            if block:
                hidden = self.first[block](x, relu=True)
            hidden = middle(hidden.view(GRID_SIDE, GRID_SIDE, 4 * count, -1), space)
            x = self.last[block].add_to(x, hidden.view(bin_count, -1))
        return _mean(x.view(-1, count * self.width)).view(count, self.width)


def _mean(rows: Tensor) -> Tensor:
    """Mean over the first axis in float32. Torch's own would first make all of a half precision tensor float32."""
    total = torch.zeros(rows.shape[1])
    for start in range(0, len(rows), MEAN_ROWS):
        total += rows[start : start + MEAN_ROWS].float().sum(dim=0)
    return total / len(rows)


def _groups(boxes: Tensor, height: int, width: int) -> Iterator[tuple[slice, Windows]]:
    """Consecutive boxes with their windows, in as few groups as keep each below MAX_WINDOWS."""
    pending = [slice(0, len(boxes))] if len(boxes) else []
    while pending:
        rows = pending.pop()
        windows = find_windows(boxes[rows], height, width)
        if len(windows.edges) <= MAX_WINDOWS or rows.stop - rows.start == 1:
            yield rows, windows
            continue
        middle = (rows.start + rows.stop) // 2
        pending += [slice(middle, rows.stop), slice(rows.start, middle)]


def _pointwise(state: Mapping[str, Tensor], name: str, *, dtype: torch.dtype, fixed_rows: int = 0) -> Pointwise:
    folded = fold(state, name)
    return Pointwise(folded.weight.flatten(1), folded.bias, dtype=dtype, fixed_rows=fixed_rows)


def _hwc(maps: Tensor) -> Tensor:
    """(1, K, h, w) → (h, w, K)."""
    return maps[0].permute(1, 2, 0)


def _nchw(cells: Tensor) -> Tensor:
    """(h, w, K) → (1, K, h, w) on the same memory."""
    return cells.permute(2, 0, 1)[None]
