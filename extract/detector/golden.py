"""Compares an implementation of the network with a file of golden numbers, stage by stage.

A golden file holds, for one image and the synthetic weights of one seed (`golden_rule.py`), sampled values of every
map, all proposals, classes, attributes and selections, computed in float64. Later stages are also fed with the golden
proposals, so that a deviation is found where it arises. Rows are matched by anchor and class, never by position, and
only those are demanded whose decision is not within rounding error of another.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from sentifuse import ConfigError
from sentifuse.extract.detector.arithmetic import float32_only
from sentifuse.extract.detector.boxes import scale_boxes
from sentifuse.extract.detector.golden_rule import is_smooth
from sentifuse.extract.detector.predictions import predict_attributes, predict_boxes, predict_classes
from sentifuse.extract.detector.preprocess import prepare, to_tensor
from sentifuse.extract.detector.proposals import Proposals
from sentifuse.extract.detector.selection import confidences, select_adaptive, select_best, select_fixed
from sentifuse.extract.detector.stages import Stages

__all__ = ["LIMITS", "Deviation", "GoldenFile", "Limits", "compare", "read_golden"]

Array = npt.NDArray[Any]
MAPS = ("stem", "res2", "res3", "res4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Largest deviations that are accepted; shares are of the rows that must be found again."""

    early: float  # stem, res2, res3
    res4: float
    head: float  # objectness logits and anchor deltas
    box_px: float
    proposals_found: float
    feature: float
    cosine: float
    score: float
    regions_missing: int
    flag: str = "stable"  # which rows must be found: those that survive float32's noise, or bfloat16's ("robust")


LIMITS: Mapping[str, Limits] = {
    "float64": Limits(
        early=1e-8,
        res4=1e-8,
        head=1e-8,
        box_px=1e-4,  # the anchors are float32
        proposals_found=1.0,
        feature=1e-5,  # stored in float32
        cosine=0.9999999,
        score=1e-6,
        regions_missing=0,
    ),
    "sharp": Limits(
        early=1e-4,
        res4=2e-2,
        head=2e-2,
        box_px=0.5,
        proposals_found=0.99,
        feature=1e-2,
        cosine=0.99999,
        score=1e-3,
        regions_missing=0,
    ),
    "smooth": Limits(
        early=1e-4,
        res4=3e-4,
        head=5e-4,
        box_px=0.02,
        proposals_found=0.99,
        feature=1e-4,
        cosine=0.99999,
        score=5e-5,
        regions_missing=0,
    ),
    "reduced": Limits(  # half precision, only on the smooth profile
        early=np.inf,
        res4=np.inf,
        head=np.inf,
        box_px=np.inf,
        proposals_found=0.85,
        feature=np.inf,
        cosine=0.999,
        score=np.inf,
        regions_missing=2,
        flag="robust",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """How far one quantity is from the golden one. For shares and cosines `value` is what must not fall short."""

    stage: str
    quantity: str
    value: float
    limit: float
    is_floor: bool = False

    @property
    def is_within(self) -> bool:
        """Whether the limit is kept; a value that is not a number keeps none."""
        return self.value >= self.limit if self.is_floor else self.value <= self.limit

    def __str__(self) -> str:
        sign, word = (">=" if self.is_floor else "<="), ("ok" if self.is_within else "FAILS")
        return f"{self.stage:12s} {self.quantity:22s} {self.value:12.4g} {sign} {self.limit:<10.4g} {word}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenFile:
    """A golden file with its image; `features` (rows, 2048) of `feature_rows` where the second file is there."""

    name: str
    values: Mapping[str, Array]
    image: Path
    features: Array | None
    feature_rows: Array | None

    @property
    def seed(self) -> int:
        """Seed of the weights these numbers were made with."""
        return int(self.values["seed"])

    def limits(self, *, is_reduced: bool = False, is_float64: bool = False) -> Limits:
        """The limits for this file's profile.

        Raises
        ------
        ConfigError
            Reduced precision on a sharp file, which enlarges rounding beyond recognition.
        """
        if is_reduced and not is_smooth(self.seed):
            raise ConfigError(f"{self.name}: a sharp golden file, expected a smooth one for reduced precision")
        if is_float64:
            return LIMITS["float64"]
        return LIMITS["reduced" if is_reduced else "smooth" if is_smooth(self.seed) else "sharp"]


def read_golden(file: Path) -> GoldenFile:
    """Read a golden file; its image lies beside it, and maybe a second file `*_feats.npz`."""
    with np.load(file, allow_pickle=False) as archive:
        values = {name: archive[name] for name in archive.files}
    more = file.with_name(f"{file.stem}_feats.npz")
    features = feature_rows = None
    if more.is_file():
        with np.load(more, allow_pickle=False) as archive:
            features, feature_rows = archive["feat"], archive["rows"]
    image = file.with_name(str(values["image"]))
    return GoldenFile(name=file.name, values=values, image=image, features=features, feature_rows=feature_rows)


def compare(stages: Stages, golden: GoldenFile, limits: Limits, *, with_regions: bool = True) -> list[Deviation]:
    """The largest deviation of every stage; the weights in `stages` must be those of `golden.seed`.

    Parameters
    ----------
    with_regions
        Also what follows the pooled crops, which is nine tenths of the time.
    """
    with torch.inference_mode(), float32_only(stages):
        return list(_Comparison(stages, golden, limits).deviations(with_regions=with_regions))


class _Comparison:
    """One forward pass, and the questions asked about it."""

    def __init__(self, stages: Stages, golden: GoldenFile, limits: Limits) -> None:
        self.stages = stages
        self.golden = golden
        self.values = golden.values
        self.limits = limits
        with Image.open(golden.image) as image:
            self.prepared = prepare(image)

    def deviations(self, *, with_regions: bool) -> Iterator[Deviation]:
        pixels = to_tensor(self.prepared, device=self.stages.device, dtype=self.stages.dtype)
        # The mean has no exact binary value: with equal bytes the float32 difference is below 1e-5.
        yield self._sampled("input", pixels, 1e-5)
        maps = self.stages.backbone(pixels)
        for name in MAPS:
            yield self._sampled(name, maps[name], self.limits.res4 if name == "res4" else self.limits.early)
        res4 = maps["res4"]
        logits, deltas = self.stages.proposal_head(res4)
        yield self._sampled("rpn_logits", logits, self.limits.head)
        yield self._sampled("rpn_deltas", deltas, self.limits.head)
        found = Proposals.choose(logits, deltas, self.stages.cell_anchors, self.prepared.net_hw)
        yield from self._proposals(found)
        boxes = torch.from_numpy(self.values["prop_box"]).to(self.stages.device, self.stages.dtype)
        yield self._pooled(res4, boxes)
        if with_regions:
            yield from self._head_at_golden_boxes(res4, boxes)
            yield from self._end_to_end(res4, found)

    def _sampled(self, name: str, tensor: Tensor, limit: float) -> Deviation:
        c, y, x = self.values[f"at_{name}"].T
        sides = tuple(tensor.shape[1:])
        if sides != tuple(int(side) for side in self.values[f"stat_{name}"][:3]):
            return Deviation(stage=name, quantity=f"shape {sides}", value=np.nan, limit=limit)
        difference = _array(tensor)[0, c, y, x] - self.values[f"val_{name}"]
        return Deviation(stage=name, quantity="largest difference", value=_largest(difference), limit=limit)

    def _proposals(self, found: Proposals) -> Iterator[Deviation]:
        flag = "prop_robust" if self.limits.flag == "robust" else "prop_in_stable"
        place = {int(anchor): row for row, anchor in enumerate(found.anchors.tolist())}
        wanted = self.values[flag]
        pairs = [
            (row, place[int(anchor)])
            for row, anchor in enumerate(self.values["prop_anchor"])
            if wanted[row] and int(anchor) in place
        ]
        share = len(pairs) / max(int(wanted.sum()), 1)
        yield _floor("proposals", "share of anchors found", share, self.limits.proposals_found)
        theirs, ours = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        boxes = _array(found.boxes)[ours] - self.values["prop_box"][theirs]
        yield Deviation(stage="proposals", quantity="boxes, px", value=_largest(boxes), limit=self.limits.box_px)

    def _pooled(self, res4: Tensor, boxes: Tensor) -> Deviation:
        limits, values = self.limits, self.values
        crops = self.stages.pooled(res4, boxes[values["roi_rows"]])
        row, c, y, x = values["at_roi"].T
        row = np.searchsorted(values["roi_rows"], row) if row.max(initial=0) >= len(crops) else row
        difference = _array(crops)[row, c, y, x] - values["val_roi"]
        return Deviation(stage="pooling", quantity="largest difference", value=_largest(difference), limit=limits.res4)

    def _head_at_golden_boxes(self, res4: Tensor, boxes: Tensor) -> Iterator[Deviation]:
        limits, values = self.limits, self.values
        features = self.stages.features(res4, boxes)
        yield from self._features(_array(features))
        classes = predict_classes(self.stages, features)
        yield from self._classes(_array(classes.probabilities), _array(classes.background), _array(classes.ids_of_all))
        deltas = self.stages.class_deltas(
            features, torch.from_numpy(values["top5_id"][:, 0]).long().to(features.device)
        )
        difference = _array(deltas) - values["delta_top1"]
        # A delta of 1 moves a box by a tenth of its side or by exp(0.2): the limit is a feature's.
        yield Deviation(stage="boxes", quantity="raw deltas", value=_largest(difference), limit=limits.feature)
        if self.stages.has_attributes:
            ids, scores = predict_attributes(
                self.stages, features, torch.from_numpy(values["argmax_all"]).long().to(features.device)
            )
            yield from self._attributes(_array(ids), _array(scores))
        yield from self._selections(boxes, features)

    def _features(self, features: Array) -> Iterator[Deviation]:
        values, limits = self.values, self.limits
        rows = values["f36_row"]
        pairs = [
            (features[:, : values["feat_head"].shape[1]], values["feat_head"]),
            (features[rows], values["f36_feat"]),
        ]
        if self.golden.features is not None:
            pairs.append((features[self.golden.feature_rows], self.golden.features))
        largest = max(_largest(ours - theirs) for ours, theirs in pairs)
        cosine = min(_smallest_cosine(ours, theirs) for ours, theirs in pairs[1:])
        yield Deviation(stage="features", quantity="largest difference", value=largest, limit=limits.feature)
        yield _floor("features", "smallest cosine", cosine, limits.cosine)

    def _classes(self, probabilities: Array, background: Array, ids_of_all: Array) -> Iterator[Deviation]:
        values, limits = self.values, self.limits
        scores = np.take_along_axis(probabilities, values["top5_id"].astype(np.int64), axis=1)
        largest = max(_largest(scores - values["top5_p"]), _largest(background - values["bg_p"]))
        yield Deviation(stage="classes", quantity="probabilities", value=largest, limit=limits.score)
        sure = self._sure("attr")
        wrong = int((ids_of_all != values["argmax_all"])[sure].sum())
        yield Deviation(stage="classes", quantity="ids that differ", value=wrong, limit=self._few_ids())

    def _attributes(self, ids: Array, scores: Array) -> Iterator[Deviation]:
        values = self.values
        sure = self._sure("attr")
        wrong = int((ids != values["attr_id_all"])[sure].sum())
        yield Deviation(stage="attributes", quantity="ids that differ", value=wrong, limit=self._few_ids())
        difference = (scores - values["attr_p_all"])[sure & (ids == values["attr_id_all"])]
        yield Deviation(
            stage="attributes", quantity="probabilities", value=_largest(difference), limit=self.limits.score
        )

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
            wanted = values[f"{name}_row"][self._sure(name)]
            missing = len(set(wanted.tolist()) - set(rows.tolist()))
            yield self._missing(f"{name} rows", missing, stage="selection")
        trusted = _array(confidences(in_original, classes.probabilities, 0.0))
        difference = np.abs(trusted - values["max_conf"])
        # One decision on the edge gives a row another class's probability, so a few rows may be far off.
        share = float(np.mean(difference <= self.limits.score))
        yield _floor("selection", "share of confidences", share, 0.98)

    def _end_to_end(self, res4: Tensor, found: Proposals) -> Iterator[Deviation]:
        """Rule fixed36 on the proposals that were really found."""
        values, net_hw = self.values, self.prepared.net_hw
        features = self.stages.features(res4, found.boxes)
        classes = predict_classes(self.stages, features)
        moved = predict_boxes(self.stages, features, classes.ids, found.boxes, net_hw)
        rows = select_fixed(moved, classes.scores).rows
        anchors, ids = found.anchors[rows].tolist(), classes.ids[rows].tolist()
        place = {pair: row for row, pair in enumerate(zip(anchors, ids, strict=True))}
        golden_anchors = values["prop_anchor"][values["f36_row"]].tolist()
        names = list(zip(golden_anchors, values["f36_cls"].tolist(), strict=True))
        sure = self._sure("f36")
        missing = sum(1 for row, name in enumerate(names) if sure[row] and name not in place)
        yield self._missing("fixed36 regions", missing, stage="end to end")
        pairs = [(row, place[name]) for row, name in enumerate(names) if name in place and sure[row]]
        theirs, ours = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        boxes = _array(moved[rows])[ours] - values["f36_box_net"][theirs]
        scores = _array(classes.scores[rows])[ours] - values["f36_score"][theirs]
        vectors = _array(features[rows])[ours] - values["f36_feat"][theirs]
        limits = self.limits
        yield Deviation(stage="end to end", quantity="boxes, px", value=_largest(boxes), limit=limits.box_px)
        yield Deviation(stage="end to end", quantity="scores", value=_largest(scores), limit=limits.score)
        yield Deviation(stage="end to end", quantity="features", value=_largest(vectors), limit=limits.feature)

    def _sure(self, name: str) -> npt.NDArray[np.bool_]:
        return np.asarray(self.values[f"{name}_{self.limits.flag}"], dtype=bool)

    def _few_ids(self) -> float:
        return 0 if self.limits.flag == "stable" else 5

    def _missing(self, quantity: str, missing: int, *, stage: str) -> Deviation:
        return Deviation(stage=stage, quantity=f"{quantity} missing", value=missing, limit=self.limits.regions_missing)


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().cpu().to(torch.float64 if tensor.is_floating_point() else torch.int64).numpy()
    return array


def _largest(difference: Array) -> float:
    return float(np.abs(difference).max(initial=0.0))


def _smallest_cosine(ours: Array, theirs: Array) -> float:
    theirs = theirs.astype(np.float64)
    cosines = (ours * theirs).sum(axis=1) / (np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1))
    return float(cosines.min(initial=1.0))


def _floor(stage: str, quantity: str, value: float, limit: float) -> Deviation:
    return Deviation(stage=stage, quantity=quantity, value=value, limit=limit, is_floor=True)
