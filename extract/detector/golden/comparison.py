"""Compares an implementation of the network with a file of golden numbers, stage by stage.

A golden file holds, for one image and the synthetic weights of one seed (`rule.py`), sampled values of every
map, all proposals, classes, attributes and selections, computed in float64. Later stages are also fed with the golden
proposals, so that a deviation is found where it arises. Rows are matched by anchor and class, never by position, and
only those are demanded whose decision is not within rounding error of another.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sentifuse.extract.detector.arithmetic import float32_only
from sentifuse.extract.detector.boxes import scale_boxes
from sentifuse.extract.detector.detector import Regions
from sentifuse.extract.detector.golden.file import SELECTIONS, Array, GoldenFile, read_golden
from sentifuse.extract.detector.golden.limits import LIMITS, Deviation, Limits, first_beyond
from sentifuse.extract.detector.predictions import predict_attributes, predict_boxes, predict_classes
from sentifuse.extract.detector.preprocess import prepare, to_tensor
from sentifuse.extract.detector.proposals import Proposals
from sentifuse.extract.detector.selection import confidences, select_adaptive, select_best, select_fixed
from sentifuse.extract.detector.stages import STRIDE, Stages

__all__ = [
    "LIMITS",
    "Deviation",
    "GoldenFile",
    "Limits",
    "compare",
    "compare_regions",
    "first_beyond",
    "read_golden",
]

BYTES = 1e-5  # the mean has no exact binary value: with equal bytes the float32 difference is below this


def compare(stages: Stages, golden: GoldenFile, limits: Limits, *, with_regions: bool = True) -> list[Deviation]:
    """The largest deviation of every stage; the weights in `stages` must be those of `golden.seed`.

    Parameters
    ----------
    with_regions
        Also what follows the pooled crops, which is nine tenths of the time.

    Raises
    ------
    DataError
        The file's image is not there, or not the one.
    """
    with torch.inference_mode(), float32_only(stages):
        return list(_Comparison(stages, golden, limits).deviations(with_regions=with_regions))


def compare_regions(regions: Regions, golden: GoldenFile, limits: Limits, *, stage: str) -> Iterator[Deviation]:
    """The same for what a detector gives of the golden image by the rule fixed36."""
    found: dict[str, Array] = {
        "f36_box": regions.boxes,
        "f36_box_norm": regions.boxes_normalised,
        "f36_score": regions.class_scores,
        "f36_feat": regions.features,
    }
    if regions.attribute_ids is not None and regions.attribute_scores is not None:
        found |= {"f36_attr": regions.attribute_ids, "f36_attr_p": regions.attribute_scores}
    yield from _of_regions(golden, limits, stage, regions.anchors, regions.class_ids, found)


class _Comparison:
    """One forward pass, and the questions asked about it."""

    def __init__(self, stages: Stages, golden: GoldenFile, limits: Limits) -> None:
        self.stages = stages
        self.golden = golden
        self.values = golden.values
        self.limits = limits
        self.prepared = prepare(golden.open_image())

    def deviations(self, *, with_regions: bool) -> Iterator[Deviation]:
        limits = self.limits
        pixels = to_tensor(self.prepared, device=self.stages.device, dtype=self.stages.dtype)
        yield self._sampled("input", pixels, min(BYTES, limits.early))
        maps = self.stages.backbone(pixels)
        for name in ("stem", "res2", "res3"):
            yield self._sampled(name, maps[name], limits.early)
        res4 = maps["res4"]
        yield self._sampled("res4", res4, limits.res4)
        logits, deltas = self.stages.proposal_head(res4)
        yield self._sampled("rpn_logits", logits, limits.head)
        yield self._sampled("rpn_deltas", deltas, limits.head)
        found = Proposals.choose(logits, deltas, self.stages.cell_anchors, self.prepared.net_hw)
        yield from self._proposals(found)
        boxes = self._tensor("prop_box", self.stages.dtype)
        yield self._pooled(res4, boxes)
        if with_regions:
            features = self.stages.features(res4, boxes)
            yield from self._head_at_golden_boxes(boxes, features)
            yield from self._end_to_end(found, self._features_of(found, res4, boxes, features))

    def _sampled(self, name: str, tensor: Tensor, limit: float) -> Deviation:
        c, y, x = self.values[f"at_{name}"].T
        sides, expected = tuple(tensor.shape[1:]), tuple(int(side) for side in self.values[f"stat_{name}"][:3])
        if sides != expected:
            quantity = f"{_sides(sides)}, not {_sides(expected)}"
            return Deviation(stage=name, quantity=quantity, value=np.nan, limit=limit)
        difference = _array(tensor)[0, c, y, x] - self.values[f"val_{name}"]
        return Deviation(stage=name, quantity="largest difference", value=_largest(difference), limit=limit)

    def _proposals(self, found: Proposals) -> Iterator[Deviation]:
        place = {int(anchor): row for row, anchor in enumerate(found.anchors.tolist())}
        wanted = self.values["prop_robust" if self.limits.flag == "robust" else "prop_in_stable"]
        pairs = [
            (row, place[int(anchor)])
            for row, anchor in enumerate(self.values["prop_anchor"])
            if wanted[row] and int(anchor) in place
        ]
        count = int(wanted.sum())
        yield _floor("proposals", "share of anchors found", len(pairs) / count if count else 1.0, self.limits)
        theirs, ours = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        boxes = _array(found.boxes)[ours] - self.values["prop_box"][theirs]
        yield Deviation(stage="proposals", quantity="boxes, px", value=_largest(boxes), limit=self.limits.box_px)

    def _pooled(self, res4: Tensor, boxes: Tensor) -> Deviation:
        crops = self.stages.pooled(res4, boxes[self._tensor("roi_rows", torch.int64)])
        row, c, y, x = self.values["at_roi"].T
        difference = _array(crops)[row, c, y, x] - self.values["val_roi"]
        limit = self.limits.res4
        return Deviation(stage="pooling", quantity="largest difference", value=_largest(difference), limit=limit)

    def _head_at_golden_boxes(self, boxes: Tensor, features: Tensor) -> Iterator[Deviation]:
        limits, values = self.limits, self.values
        yield from self._features(_array(features))
        classes = predict_classes(self.stages, features)
        yield from self._classes(_array(classes.probabilities), _array(classes.background), _array(classes.ids_of_all))
        deltas = self.stages.class_deltas(features, self._tensor("top5_id", torch.int64)[:, 0])
        difference = _array(deltas) - values["delta_top1"]
        # A delta of 1 moves a box by a tenth of its side or by exp(0.2): the limit is a feature's.
        yield Deviation(stage="boxes", quantity="raw deltas", value=_largest(difference), limit=limits.feature)
        if self.stages.has_attributes:
            ids, scores = predict_attributes(self.stages, features, self._tensor("argmax_all", torch.int64))
            yield from self._attributes(_array(ids), _array(scores))
        yield from self._selections(boxes, features)

    def _features(self, features: Array) -> Iterator[Deviation]:
        values, limits = self.values, self.limits
        pairs = [
            (features[:, : values["feat_head"].shape[1]], values["feat_head"]),
            (features[values["f36_row"]], values["f36_feat"]),
        ]
        if self.golden.features is not None:
            pairs.append((features[self.golden.feature_rows], self.golden.features))
        largest = _largest(*(ours - theirs for ours, theirs in pairs))
        cosine = float(np.min([_smallest_cosine(ours, theirs) for ours, theirs in pairs[1:]]))
        yield Deviation(stage="features", quantity="largest difference", value=largest, limit=limits.feature)
        yield Deviation(stage="features", quantity="smallest cosine", value=cosine, limit=limits.cosine, is_floor=True)

    def _classes(self, probabilities: Array, background: Array, ids_of_all: Array) -> Iterator[Deviation]:
        values, limits = self.values, self.limits
        scores = np.take_along_axis(probabilities, values["top5_id"].astype(np.int64), axis=1)
        largest = _largest(scores - values["top5_p"], background - values["bg_p"])
        yield Deviation(stage="classes", quantity="probabilities", value=largest, limit=limits.score)
        sure = values.get(f"attr_{limits.flag}", values[f"prop_{'robust' if limits.flag == 'robust' else 'in_stable'}"])
        wrong = int((ids_of_all != values["argmax_all"])[sure].sum())
        yield Deviation(stage="classes", quantity="ids that differ", value=wrong, limit=limits.ids_that_differ)

    def _attributes(self, ids: Array, scores: Array) -> Iterator[Deviation]:
        values, limits = self.values, self.limits
        sure, is_same = values[f"attr_{limits.flag}"], ids == values["attr_id_all"]
        wrong = int((~is_same)[sure].sum())
        yield Deviation(stage="attributes", quantity="ids that differ", value=wrong, limit=limits.ids_that_differ)
        difference = (scores - values["attr_p_all"])[sure & is_same]
        yield Deviation(stage="attributes", quantity="probabilities", value=_largest(difference), limit=limits.score)

    def _selections(self, boxes: Tensor, features: Tensor) -> Iterator[Deviation]:
        """All three rules on the golden proposals."""
        values, net_hw = self.values, self.prepared.net_hw
        classes = predict_classes(self.stages, features)
        moved = predict_boxes(self.stages, features, classes.ids, boxes, net_hw)
        in_original = scale_boxes(boxes, net_hw, self.prepared.original_hw)
        chosen = {
            "f36": select_fixed(moved, classes.scores).rows,
            "c36": select_best(in_original, classes.probabilities).rows,
            "ada": select_adaptive(in_original, classes.probabilities).rows,
        }
        for name, rows in chosen.items():
            is_sure = values[f"{name}_{self.limits.flag}"]
            missing = len(set(values[f"{name}_row"][is_sure].tolist()) - set(rows.tolist()))
            yield _missing("selection", f"{SELECTIONS[name]} rows", missing, self.limits)
            too_many = abs(len(rows) - len(is_sure))
            limit = int((~is_sure).sum()) + self.limits.regions_missing
            yield Deviation(
                stage="selection", quantity=f"{SELECTIONS[name]} rows too many", value=too_many, limit=limit
            )
        trusted = _array(confidences(in_original, classes.probabilities, 0.0))
        is_near = np.abs(trusted - values["max_conf"]) <= self.limits.score
        # One decision on the edge gives a row another class's probability, so a few rows may be far off.
        share = float(np.mean(is_near)) if len(is_near) else 1.0
        yield Deviation(stage="selection", quantity="share of confidences", value=share, limit=0.98, is_floor=True)

    def _features_of(self, found: Proposals, res4: Tensor, boxes: Tensor, features: Tensor) -> Tensor:
        """Features of the proposals that were found; `features` are those of the golden `boxes`.

        A crop is of whole cells, so a box with the corners of the golden one in cells has its very crop; computing all
        of them again would double the time.
        """
        if not len(boxes):
            return self.stages.features(res4, found.boxes)
        place = {int(anchor): row for row, anchor in enumerate(self.values["prop_anchor"])}
        rows = torch.tensor(
            [place.get(anchor, -1) for anchor in found.anchors.tolist()], device=features.device, dtype=torch.int64
        )
        cells, golden_cells = (torch.floor(some.float() / STRIDE + 0.5) for some in (found.boxes, boxes))
        is_same = (rows >= 0) & (cells == golden_cells[rows]).all(dim=1)
        every = features[rows]
        if not is_same.all():
            every[~is_same] = self.stages.features(res4, found.boxes[~is_same])
        return every

    def _end_to_end(self, proposals: Proposals, features: Tensor) -> Iterator[Deviation]:
        """Rule fixed36 on the proposals that were really found."""
        net_hw, original_hw = self.prepared.net_hw, self.prepared.original_hw
        classes = predict_classes(self.stages, features)
        moved = predict_boxes(self.stages, features, classes.ids, proposals.boxes, net_hw)
        rows = select_fixed(moved, classes.scores).rows
        found = {
            "f36_box_net": _array(moved[rows]),
            "f36_box": _array(scale_boxes(moved[rows], net_hw, original_hw)),
            "f36_score": _array(classes.scores[rows]),
            "f36_feat": _array(features[rows]),
        }
        if self.stages.has_attributes:
            ids, scores = predict_attributes(self.stages, features[rows], classes.ids_of_all[rows])
            found |= {"f36_attr": _array(ids), "f36_attr_p": _array(scores)}
        anchors, class_ids = _array(proposals.anchors[rows]), _array(classes.ids[rows])
        yield from _of_regions(self.golden, self.limits, "end to end", anchors, class_ids, found)

    def _tensor(self, name: str, dtype: torch.dtype) -> Tensor:
        # Through wide numbers: torch knows few of numpy's integers.
        wide = self.values[name].astype(np.int64 if dtype == torch.int64 else np.float64)
        return torch.from_numpy(wide).to(self.stages.device, dtype)


def _of_regions(
    golden: GoldenFile,
    limits: Limits,
    stage: str,
    anchors: Array,
    class_ids: Array,
    found: Mapping[str, Array],
) -> Iterator[Deviation]:
    """Deviations of regions, matched by anchor and class; `found` by the names of the golden fields."""
    values = golden.values
    place = {pair: row for row, pair in enumerate(zip(anchors.tolist(), class_ids.tolist(), strict=True))}
    theirs = values["prop_anchor"][values["f36_row"]].tolist()
    names = list(zip(theirs, values["f36_cls"].tolist(), strict=True))
    sure = values[f"f36_{limits.flag}"]
    missing = sum(1 for row, name in enumerate(names) if sure[row] and name not in place)
    yield _missing(stage, "fixed36 regions", missing, limits)
    pairs = [(row, place[name]) for row, name in enumerate(names) if name in place and sure[row]]
    golden_rows, rows = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    widest = float(np.max(values["orig_hw"] / values["net_hw"], initial=1.0))
    bounds = {
        "f36_box_net": ("boxes, px", limits.box_px),
        "f36_box": ("boxes in the image, px", limits.box_px * widest),
        "f36_box_norm": ("boxes, normalised", limits.box_px * widest / float(np.min(values["orig_hw"]))),
        "f36_score": ("scores", limits.score),
        "f36_feat": ("features", limits.feature),
    }
    for name, (quantity, limit) in bounds.items():
        if name in found:
            largest = _largest(found[name][rows] - values[name][golden_rows])
            yield Deviation(stage=stage, quantity=quantity, value=largest, limit=limit)
    if "f36_attr" in found:
        is_sure = values[f"attr_{limits.flag}"][values["f36_row"][golden_rows]]
        is_same = found["f36_attr"][rows] == values["f36_attr"][golden_rows]
        wrong = int((~is_same & is_sure).sum())
        yield Deviation(stage=stage, quantity="attributes that differ", value=wrong, limit=limits.ids_that_differ)
        scores = (found["f36_attr_p"][rows] - values["f36_attr_p"][golden_rows])[is_same & is_sure]
        yield Deviation(stage=stage, quantity="attribute scores", value=_largest(scores), limit=limits.score)


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().cpu().to(torch.float64 if tensor.is_floating_point() else torch.int64).numpy()
    return array


def _largest(*differences: npt.NDArray[Any]) -> float:
    # numpy's maximum: Python's own would pass over what is not a number.
    return float(np.max([np.abs(difference).max(initial=0.0) for difference in differences]))


def _smallest_cosine(ours: Array, theirs: Array) -> float:
    theirs = theirs.astype(np.float64)
    cosines = (ours * theirs).sum(axis=1) / (np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1))
    return float(cosines.min(initial=1.0))


def _floor(stage: str, quantity: str, value: float, limits: Limits) -> Deviation:
    return Deviation(stage=stage, quantity=quantity, value=value, limit=limits.proposals_found, is_floor=True)


def _missing(stage: str, what: str, missing: int, limits: Limits) -> Deviation:
    return Deviation(stage=stage, quantity=f"{what} missing", value=missing, limit=limits.regions_missing)


def _sides(sides: tuple[int, ...]) -> str:
    return "x".join(map(str, sides))
