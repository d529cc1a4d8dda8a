"""Known faults of ports of the detector, each put into ours by changing one function or constant of the package."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import nms, roi_align, roi_pool

from sentifuse.extract.detector import (
    boxes,
    fast,
    folded,
    network,
    pooling,
    predictions,
    preprocess,
    proposals,
    selection,
)
from sentifuse.extract.detector.golden import comparison, self_test
from sentifuse.extract.detector.network import PlainNetwork
from sentifuse.extract.detector.predictions import Classes
from sentifuse.extract.detector.preprocess import PreparedImage
from sentifuse.extract.detector.proposals import Proposals
from sentifuse.extract.detector.selection import Selected

Patch = pytest.MonkeyPatch
Fault = Callable[[Patch], None]
ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"
EMBEDDING = "roi_heads.box_predictor.cls_embedding.weight"


# Colours and resizing ------------------------------------------------------------------------------------------------


def red_first(patch: Patch) -> None:
    true = preprocess.prepare

    def prepare(image: Image.Image) -> PreparedImage:
        made = true(image)
        return replace(made, pixels=np.ascontiguousarray(made.pixels[:, :, ::-1]))

    patch.setattr(comparison, "prepare", prepare)


def mean_of_red_first(patch: Patch) -> None:
    patch.setattr(preprocess, "MEAN_BGR", preprocess.MEAN_BGR[::-1])


def resized_by(mode: str, *, align_corners: bool | None) -> Fault:
    def inject(patch: Patch) -> None:
        def prepare(image: Image.Image) -> PreparedImage:
            pixels = torch.from_numpy(np.asarray(image)[:, :, ::-1].copy()).permute(2, 0, 1)[None].float()
            size = preprocess.net_size(image.height, image.width)
            large = F.interpolate(pixels, size=size, mode=mode, align_corners=align_corners)[0].permute(1, 2, 0)
            return PreparedImage(pixels=large.numpy(), size=image.size)  # type: ignore[arg-type]  # floats: the fault

        patch.setattr(comparison, "prepare", prepare)

    return inject


# The backbone --------------------------------------------------------------------------------------------------------


def stem_pool(*, padding: int, ceil_mode: bool) -> Fault:
    def inject(patch: Patch) -> None:
        true = F.max_pool2d

        def pool(x: Tensor, *_: object, **__: object) -> Tensor:
            return true(x, 3, 2, padding=padding, ceil_mode=ceil_mode)

        patch.setattr(F, "max_pool2d", pool)

    return inject


def stride_in_the_3x3(patch: Patch) -> None:
    class Bottleneck(network.Bottleneck):
        def __init__(self, wide_in: int, inner: int, *, is_first: bool, stride: int, dilation: int) -> None:
            super().__init__(wide_in, inner, is_first=is_first, stride=stride, dilation=dilation)
            self.conv1.stride, self.conv2.stride = (1, 1), (stride, stride)

    patch.setattr(network, "Bottleneck", Bottleneck)


def epsilon_of_plain(value: float) -> Fault:
    def inject(patch: Patch) -> None:
        class NormedConv(network.NormedConv):
            def __init__(self, wide_in: int, wide_out: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> None:
                super().__init__(wide_in, wide_out, kernel, stride=stride, dilation=dilation)
                self.norm = nn.BatchNorm2d(wide_out, eps=value)

        patch.setattr(network, "NormedConv", NormedConv)

    return inject


def epsilon_of_folding(patch: Patch) -> None:
    patch.setattr(folded, "EPSILON", 1e-3)


def zeros_beside_the_image(patch: Patch) -> None:
    """As in a batch with larger images: the maps are cut to the image's part afterwards."""
    true = PlainNetwork.backbone

    def backbone(self: PlainNetwork, pixels: Tensor) -> dict[str, Tensor]:
        maps, padded = true(self, pixels), true(self, F.pad(pixels, (0, 64, 0, 64)))
        return {name: padded[name][:, :, : values.shape[2], : values.shape[3]] for name, values in maps.items()}

    patch.setattr(PlainNetwork, "backbone", backbone)


# Proposals -----------------------------------------------------------------------------------------------------------


def other_anchors(change: Callable[[Tensor], Tensor]) -> Fault:
    def inject(patch: Patch) -> None:
        true = boxes.anchor_grid
        patch.setattr(proposals, "anchor_grid", lambda anchors, *sides: true(change(anchors), *sides))

    return inject


def half_a_cell_further(anchors: Tensor) -> Tensor:
    return anchors + 8


def ratios_outside(anchors: Tensor) -> Tensor:
    return anchors.view(4, 3, 4).transpose(0, 1).reshape(12, 4)


def by_the_formula(anchors: Tensor) -> Tensor:
    return boxes.cell_anchors().to(anchors.dtype)


def stored_anchors_left_out(patch: Patch) -> None:
    true = self_test.miniature_weights
    patch.setattr(self_test, "miniature_weights", lambda: {k: v for k, v in true().items() if k != ANCHORS})


def one_pixel_more(patch: Patch) -> None:
    true = boxes.apply_deltas

    def apply_deltas(deltas: Tensor, around: Tensor) -> Tensor:
        one = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=around.dtype)
        return true(deltas, around + one) - one

    patch.setattr(proposals, "apply_deltas", apply_deltas)


def clipped_one_pixel_earlier(patch: Patch) -> None:
    true = boxes.clip_boxes
    patch.setattr(proposals, "clip_boxes", lambda some, height, width: true(some, height - 1, width - 1))


def anchors_outermost(patch: Patch) -> None:
    true = Proposals.choose.__func__  # type: ignore[attr-defined]

    def choose(
        cls: type[Proposals], logits: Tensor, deltas: Tensor, cells: Tensor, net_hw: tuple[int, int]
    ) -> Proposals:
        _, count, height, width = logits.shape
        shuffled = logits.reshape(height, width, count).permute(2, 0, 1)[None]
        made: Proposals = true(cls, shuffled, deltas, cells, net_hw)
        return made

    patch.setattr(Proposals, "choose", classmethod(choose))


def overlap_of_proposals(patch: Patch) -> None:
    patch.setattr(proposals, "OVERLAP", 0.5)


def least_side(pixels: float) -> Fault:
    def inject(patch: Patch) -> None:
        true = proposals.suppress

        def suppress(some: Tensor, scores: Tensor, overlap: float, count: int) -> Tensor:
            sides = torch.minimum(some[:, 2] - some[:, 0], some[:, 3] - some[:, 1])
            large = torch.nonzero(sides >= pixels).flatten()
            return large[true(some[large], scores[large], overlap, count)]

        patch.setattr(proposals, "suppress", suppress)

    return inject


# Pooling and the last stage ------------------------------------------------------------------------------------------


def aligned_pool(*, aligned: bool) -> Fault:
    def inject(patch: Patch) -> None:
        patch.setattr(
            network,
            "roi_pool",
            lambda maps, some, side, scale: roi_align(maps, some, side, scale, sampling_ratio=0, aligned=aligned),
        )

    return inject


def boxes_in_bfloat16(patch: Patch) -> None:
    patch.setattr(
        network,
        "roi_pool",
        lambda maps, some, side, scale: roi_pool(maps, [one.bfloat16().float() for one in some], side, scale),
    )


def boxes_in_bfloat16_for_windows(patch: Patch) -> None:
    true = pooling.find_windows
    patch.setattr(fast, "find_windows", lambda some, *sides: true(some.bfloat16().float(), *sides))


def edges_in_float64(patch: Patch) -> None:
    def bins(low: np.ndarray, high: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
        start, end = pooling._nearest(low / 16), pooling._nearest(high / 16)
        side = np.maximum(end - start + 1, 1).astype(np.float64) / 14
        edge = np.arange(15) * side[:, None]
        first, last = np.floor(edge[:, :-1]).astype(np.int64), np.ceil(edge[:, 1:]).astype(np.int64)
        return np.clip(first + start[:, None], 0, limit), np.clip(last + start[:, None], 0, limit)

    patch.setattr(pooling, "_bins", bins)


def pooled_where_the_class_moves_it(patch: Patch) -> None:
    true = PlainNetwork.features

    def features(self: PlainNetwork, res4: Tensor, some: Tensor) -> Tensor:
        found = true(self, res4, some)
        ids = predictions.predict_classes(self, found).ids
        return true(self, res4, predictions.predict_boxes(self, found, ids, some, (328, 1000)))

    patch.setattr(PlainNetwork, "features", features)


def last_stage(*, stride: int, dilation: int) -> Fault:
    def inject(patch: Patch) -> None:
        true = network._stage

        def stage(sizes: object, number: int, **settings: int) -> nn.Sequential:
            return true(sizes, number, **({"stride": stride, "dilation": dilation} if number == 5 else settings))  # type: ignore[arg-type]

        patch.setattr(network, "_stage", stage)

    return inject


# Predictions ---------------------------------------------------------------------------------------------------------


def classes_one_off(patch: Patch) -> None:
    true = PlainNetwork.class_logits
    patch.setattr(PlainNetwork, "class_logits", lambda self, features: true(self, features).roll(-1, dims=1))


def without_background(patch: Patch) -> None:
    true = predictions.predict_classes

    def predict(stages: PlainNetwork, features: Tensor) -> Classes:
        made = true(stages, features)
        every = torch.softmax(stages.class_logits(features)[:, :-1], dim=1)
        return replace(made, probabilities=every, scores=every.amax(dim=1))

    patch.setattr(comparison, "predict_classes", predict)


def best_object_for_the_embedding(patch: Patch) -> None:
    true = predictions.predict_classes

    def predict(stages: PlainNetwork, features: Tensor) -> Classes:
        made = true(stages, features)
        return replace(made, ids_of_all=made.ids)

    patch.setattr(comparison, "predict_classes", predict)


def background_first_in_the_embedding(patch: Patch) -> None:
    true = self_test.miniature_weights

    def weights() -> dict[str, Tensor]:
        state = true()
        return {**state, EMBEDDING: state[EMBEDDING].roll(1, dims=0)}

    patch.setattr(self_test, "miniature_weights", weights)


def no_attribute_in_the_softmax(patch: Patch) -> None:
    true = PlainNetwork.attribute_logits

    def logits(self: PlainNetwork, features: Tensor, ids: Tensor) -> Tensor:
        return F.pad(true(self, features, ids), (0, 1), value=-torch.inf)  # what is dropped then says nothing

    patch.setattr(PlainNetwork, "attribute_logits", logits)


def deltas_not_divided(patch: Patch) -> None:
    patch.setattr(predictions, "BOX_WEIGHTS", (1.0, 1.0, 1.0, 1.0))


# Selection -----------------------------------------------------------------------------------------------------------


def overlaps_from_three_tenths(patch: Patch) -> None:
    patch.setattr(selection, "FIXED_OVERLAPS", (0.3, 0.4, 0.5, 0.6, 0.7))


def overlap_of_a_class(patch: Patch) -> None:
    patch.setattr(selection, "CLASS_OVERLAP", 0.5)


def confidence_of_a_tenth(patch: Patch) -> None:
    patch.setattr(selection, "CONFIDENCE", 0.1)


def by_class_above_two_tenths(patch: Patch) -> None:
    """The published notebook's rule."""
    true = predictions.predict_classes
    last: list[Classes] = []

    def predict(stages: PlainNetwork, features: Tensor) -> Classes:
        last[:] = [true(stages, features)]
        return last[0]

    def select(moved: Tensor, scores: Tensor) -> Selected:
        every = last[0].probabilities
        likely = every[:, (every > 0.2).any(dim=0)]
        kept = [row for column in likely.T for row in nms(moved, column, 0.5).tolist() if column[row] > 0.2]
        rows = torch.tensor(kept[:36], dtype=torch.int64)
        return Selected(rows=rows, scores=scores[rows], overlap=0.5)

    patch.setattr(comparison, "predict_classes", predict)
    patch.setattr(comparison, "select_fixed", select)


def selected_by_proposals(patch: Patch) -> None:
    true = selection.select_fixed
    first: list[Tensor] = []

    def predict(stages: PlainNetwork, features: Tensor, ids: Tensor, some: Tensor, net_hw: tuple[int, int]) -> Tensor:
        first[:] = [some]
        return predictions.predict_boxes(stages, features, ids, some, net_hw)

    patch.setattr(comparison, "predict_boxes", predict)
    patch.setattr(comparison, "select_fixed", lambda moved, scores: true(first[0], scores))


@dataclass(frozen=True)
class Injected:
    """A fault, what computes, and the stage that must be the first to deviate."""

    fault: Fault
    stage: str
    arithmetic: str = "plain"


FAULTS = {
    "red first": Injected(red_first, "input"),
    "mean of red first": Injected(mean_of_red_first, "input"),
    "float bilinear resize": Injected(resized_by("bilinear", align_corners=False), "input"),
    "bilinear resize, corners aligned": Injected(resized_by("bilinear", align_corners=True), "input"),
    "bicubic resize": Injected(resized_by("bicubic", align_corners=False), "input"),
    "nearest resize": Injected(resized_by("nearest", align_corners=None), "input"),
    "stem pool padded, rounded down": Injected(stem_pool(padding=1, ceil_mode=False), "stem"),
    "stem pool rounded down": Injected(stem_pool(padding=0, ceil_mode=False), "stem"),
    "stem pool padded, rounded down: exact": Injected(stem_pool(padding=1, ceil_mode=False), "stem", "exact"),
    "stem pool rounded down: exact": Injected(stem_pool(padding=0, ceil_mode=False), "stem", "exact"),
    "stride in the 3x3": Injected(stride_in_the_3x3, "res3"),
    "epsilon 1e-3": Injected(epsilon_of_plain(1e-3), "res2"),
    "epsilon 2e-5": Injected(epsilon_of_plain(2e-5), "res2"),
    "epsilon 0": Injected(epsilon_of_plain(1e-30), "res2"),  # older torch refuses 0 itself
    "epsilon 1e-3: exact": Injected(epsilon_of_folding, "res2", "exact"),
    "zeros beside the image": Injected(zeros_beside_the_image, "stem"),
    "anchors half a cell further": Injected(other_anchors(half_a_cell_further), "proposals"),
    "anchors by ratio": Injected(other_anchors(ratios_outside), "proposals"),
    "anchors by the formula": Injected(other_anchors(by_the_formula), "proposals"),
    "stored anchors left out": Injected(stored_anchors_left_out, "proposals"),
    "one pixel more": Injected(one_pixel_more, "proposals"),
    "clipped one pixel earlier": Injected(clipped_one_pixel_earlier, "proposals"),
    "anchors outermost": Injected(anchors_outermost, "proposals"),
    "proposals' overlap 0.5": Injected(overlap_of_proposals, "proposals"),
    "least side 16": Injected(least_side(16.0), "proposals"),
    "least side 16 of the original": Injected(least_side(16.0 * 328 / 42), "proposals"),
    "RoIAlign": Injected(aligned_pool(aligned=False), "pooling"),
    "RoIAlign, half a cell less": Injected(aligned_pool(aligned=True), "pooling"),
    "boxes in bfloat16": Injected(boxes_in_bfloat16, "pooling"),
    "boxes in bfloat16: exact": Injected(boxes_in_bfloat16_for_windows, "features", "exact"),
    "edges of bins in float64: exact": Injected(edges_in_float64, "pooling", "exact"),
    "pooled where the class moves it": Injected(pooled_where_the_class_moves_it, "features"),
    "last stage not dilated": Injected(last_stage(stride=1, dilation=1), "features"),
    "last stage of stride 2": Injected(last_stage(stride=2, dilation=1), "features"),
    "last stage of stride 2, dilated": Injected(last_stage(stride=2, dilation=2), "features"),
    "classes one off": Injected(classes_one_off, "classes"),
    "softmax without background": Injected(without_background, "classes"),
    "best object for the embedding": Injected(best_object_for_the_embedding, "classes"),
    "background first in the embedding": Injected(background_first_in_the_embedding, "attributes"),
    "no attribute in the softmax": Injected(no_attribute_in_the_softmax, "attributes"),
    "deltas not divided": Injected(deltas_not_divided, "selection"),
    "overlaps from 0.3": Injected(overlaps_from_three_tenths, "selection"),
    "overlap of a class 0.5": Injected(overlap_of_a_class, "selection"),
    "confidence 0.1": Injected(confidence_of_a_tenth, "selection"),
    "by class above 0.2": Injected(by_class_above_two_tenths, "selection"),
    "selected by proposals": Injected(selected_by_proposals, "selection"),
}
