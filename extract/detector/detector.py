"""The detector's door: images in, regions out.

`Detector.load(file)` reads weights; `detector.detect([detector.prepare(image), ...])` gives a `Regions` for each image.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from sentifuse import ConfigError
from sentifuse.extract.detector.architecture import Architecture
from sentifuse.extract.detector.arithmetic import ARITHMETICS, build_stages, float32_only
from sentifuse.extract.detector.boxes import scale_boxes
from sentifuse.extract.detector.network import PlainNetwork
from sentifuse.extract.detector.predictions import Classes, predict_attributes, predict_boxes, predict_classes
from sentifuse.extract.detector.preprocess import PreparedImage, prepare, to_tensor
from sentifuse.extract.detector.proposals import Proposals
from sentifuse.extract.detector.selection import (
    MODES,
    Selected,
    confidences,
    confidences_by_class,
    select_adaptive,
    select_best,
    select_fixed,
)
from sentifuse.extract.detector.stages import Stages
from sentifuse.extract.detector.weights import read_weights
from sentifuse.extract.settings import check_choice, check_range

__all__ = ["Detector", "Regions", "SelectionSettings"]

# Shapes: R proposals, m regions, D = 2048.
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionSettings:
    """What decides which regions are given.

    Attributes
    ----------
    mode
        "fixed36", "caffe36" or "adaptive": see `selection.py`.
    count
        Regions at most in the first two modes.
    fewest, most
        Bounds of the third.
    proposals
        Boxes looked at. Time falls in proportion, but below 300 the regions are others.
    """

    mode: str = "fixed36"
    count: int = 36
    fewest: int = 10
    most: int = 100
    proposals: int = 300

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, MODES)
        check_range("proposals", self.proposals, 1, 6000)
        check_range("count", self.count, 1, self.proposals)
        check_range("most", self.most, 1, self.proposals)
        check_range("fewest", self.fewest, 0, self.most)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Regions:
    """The regions of one image, in the order of the selection; m may be smaller than asked for, even 0.

    Attributes
    ----------
    features
        float32 (m, D), of the proposals, whatever box is reported.
    boxes, boxes_normalised
        float32 (m, 4) x1 y1 x2 y2 in pixels of the original; divided by its width and height. Mode fixed36: moved as
        the class says; other modes: the proposals.
    proposals
        float32 (m, 4) in pixels of the original: where the features were pooled.
    class_ids, class_scores
        int64 and float32 (m,): best class of 0..1599 and its probability.
    attribute_ids, attribute_scores
        int64 and float32 (m,), of 0..399; None if the weights have no attributes.
    rows, anchors
        int64 (m,): number among the proposals, and the anchor the proposal came from.
    overlap
        IoU that was allowed between boxes in the end.
    size
        (width, height) of the original in pixels.
    """

    features: Floats
    boxes: Floats
    boxes_normalised: Floats
    proposals: Floats
    class_ids: Ints
    class_scores: Floats
    attribute_ids: Ints | None
    attribute_scores: Floats | None
    rows: Ints
    anchors: Ints
    overlap: float
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        best = f", first of class {self.class_ids[0]} ({self.class_scores[0]:.2f})" if len(self) else ""
        return f"<{len(self)} regions of an image of {self.size[0]}x{self.size[1]}{best}>"


class Detector:
    """A network with weights on a device, and what to select from its proposals.

    Parameters
    ----------
    state
        Weights as `read_weights` gives them. Not kept: the caller may let go of it.
    arithmetic
        "plain": the network as written in `network.py`; "exact": the same in float32, sooner; "fast": the last stage
        in half precision; "fastest": everything in half precision that can be. See `arithmetic.py`.
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        *,
        sizes: Architecture,
        device: str | torch.device = "cpu",
        arithmetic: str = "exact",
        selection: SelectionSettings | None = None,
    ) -> None:
        if arithmetic not in ARITHMETICS:
            raise ConfigError.unknown("arithmetic", arithmetic, ARITHMETICS)
        self.selection = selection or SelectionSettings()
        self.stages: Stages = build_stages(state, sizes, device=torch.device(device), arithmetic=arithmetic)
        # The plain network takes the plain rule too: it is what everything else is measured against.
        self._trust = confidences_by_class if isinstance(self.stages, PlainNetwork) else confidences

    @classmethod
    def load(
        cls,
        file: Path,
        *,
        device: str | torch.device = "cpu",
        arithmetic: str = "exact",
        selection: SelectionSettings | None = None,
    ) -> "Detector":
        """Read a weights file of any known layout; for the rest see the class.

        Raises
        ------
        ModelMismatch
            Not such a file, a torn one, or another network's.
        """
        weights = read_weights(file)
        return cls(weights.state, sizes=weights.sizes, device=device, arithmetic=arithmetic, selection=selection)

    @property
    def has_attributes(self) -> bool:
        """Whether the weights know attributes."""
        return self.stages.has_attributes

    @staticmethod
    def prepare(image: Image.Image) -> PreparedImage:
        """Resize an upright, decoded image; needs no weights, so loader threads may do it."""
        return prepare(image)

    @staticmethod
    def batch_key(prepared: PreparedImage) -> Hashable:
        """Images with equal keys may go into one batch: those of one network size, which none is padded to."""
        return prepared.net_hw

    def detect(self, batch: Sequence[PreparedImage]) -> list[Regions]:
        """Regions of each image. They do not depend on the other images: on a CPU each has a pass of its own.

        Larger matrices gain nothing there, and some libraries add up in another order for them.
        """
        with torch.inference_mode(), float32_only(self.stages):
            return [self._detect_one(prepared) for prepared in batch]

    def _detect_one(self, prepared: PreparedImage) -> Regions:
        net_hw = prepared.net_hw
        pixels = to_tensor(prepared, device=self.stages.device, dtype=self.stages.dtype)
        res4 = self.stages.backbone(pixels)["res4"]
        proposals = Proposals.choose(
            *self.stages.proposal_head(res4), self.stages.cell_anchors, net_hw, count=self.selection.proposals
        )
        features = self.stages.features(res4, proposals.boxes)
        classes = predict_classes(self.stages, features)
        return self.select(proposals, features, classes, prepared)

    def select(self, proposals: Proposals, features: Tensor, classes: Classes, prepared: PreparedImage) -> Regions:
        """The regions among proposals whose features (R, D) and classes are known."""
        net_hw, original_hw = prepared.net_hw, prepared.original_hw
        in_original = scale_boxes(proposals.boxes, net_hw, original_hw)
        if self.selection.mode == "fixed36":
            moved = predict_boxes(self.stages, features, classes.ids, proposals.boxes, net_hw)
            chosen = select_fixed(moved, classes.scores, count=self.selection.count)
            boxes = scale_boxes(moved, net_hw, original_hw)[chosen.rows]
        else:
            chosen = self._select_by_class(in_original, classes.probabilities)
            boxes = in_original[chosen.rows]
        rows = chosen.rows
        attribute_ids = attribute_scores = None
        if self.has_attributes:
            attribute_ids, attribute_scores = predict_attributes(self.stages, features[rows], classes.ids_of_all[rows])
        height, width = original_hw
        return Regions(
            features=_floats(features[rows]),
            boxes=_floats(boxes),
            boxes_normalised=_floats(boxes / boxes.new_tensor([width, height, width, height])),
            proposals=_floats(in_original[rows]),
            class_ids=_ints(classes.ids[rows]),
            class_scores=_floats(classes.scores[rows]),
            attribute_ids=None if attribute_ids is None else _ints(attribute_ids),
            attribute_scores=None if attribute_scores is None else _floats(attribute_scores),
            rows=_ints(rows),
            anchors=_ints(proposals.anchors[rows]),
            overlap=chosen.overlap,
            size=prepared.size,
        )

    def _select_by_class(self, boxes: Tensor, probabilities: Tensor) -> Selected:
        if self.selection.mode == "caffe36":
            return select_best(boxes, probabilities, count=self.selection.count, trust=self._trust)
        return select_adaptive(
            boxes, probabilities, fewest=self.selection.fewest, most=self.selection.most, trust=self._trust
        )


def _floats(values: Tensor) -> Floats:
    return values.to("cpu", torch.float32).numpy()


def _ints(values: Tensor) -> Ints:
    return values.to("cpu", torch.int64).numpy()
