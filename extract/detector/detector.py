"""The detector's door: images in, regions out.

`Detector.load(file)` reads weights; `detector.detect([detector.prepare(image), ...])` gives a `Regions` for each image.
"""

import sys
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from sentifuse import ConfigError, DataError, ResourceError
from sentifuse.extract.detector.architecture import Architecture
from sentifuse.extract.detector.arithmetic import ARITHMETICS, build_stages, float32_only
from sentifuse.extract.detector.batched import BatchedNetwork
from sentifuse.extract.detector.boxes import scale_boxes
from sentifuse.extract.detector.checkpoints.weights import read_weights
from sentifuse.extract.detector.network import PlainNetwork
from sentifuse.extract.detector.predictions import Classes, predict_attributes, predict_boxes, predict_classes
from sentifuse.extract.detector.preprocess import PreparedImage, prepare, to_tensor
from sentifuse.extract.detector.proposals import Proposals
from sentifuse.extract.detector.regions import Regions
from sentifuse.extract.detector.selection import (
    Selected,
    confidences,
    confidences_by_class,
    select_adaptive,
    select_best,
    select_fixed,
)
from sentifuse.extract.detector.settings import SelectionSettings
from sentifuse.extract.detector.shrink import is_out_of_memory, retry_smaller
from sentifuse.extract.detector.stages import Stages
from sentifuse.extract.detector.together import Unproved, detect_together

__all__ = ["Detector", "Regions", "SelectionSettings"]

# Shapes: R proposals, m regions, D = 2048.
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Found = Regions | DataError  # of one image, or why it has none
LEAST_CROPS = 75  # at a time: with fewer, fewer images help more


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
        self._images_at_once = sys.maxsize  # lowered where a GPU's memory is short

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

    def batch_key(self, prepared: PreparedImage) -> Hashable:
        """Images with equal keys may go into one batch: those of one network size, on a GPU all. None is ever padded.

        A GPU shares between images of several sizes what has no size: the crops.
        """
        return None if isinstance(self.stages, BatchedNetwork) else prepared.net_hw

    def detect(self, batch: Sequence[PreparedImage]) -> list[Found]:
        """Regions of each image, or why it has none: the network gave something that is no number.

        On a CPU each image has a pass of its own: larger matrices gain nothing, and some libraries add up in another
        order for them. On a GPU the last bits of an image may depend on how many others there are, never more. Where
        a GPU's memory does not suffice, fewer crops go at once, then fewer images, then fewer crops still; that stays.

        Raises
        ------
        ResourceError
            There is no memory even for one crop of one image at a time.
        """
        found: list[Found] = []
        with torch.inference_mode(), float32_only(self.stages):
            while len(found) < len(batch):
                rest = batch[len(found) :]
                asked = min(self._images_at_once, len(rest))
                try:
                    made, went = retry_smaller(partial(self._detect_first, rest), asked)
                except RuntimeError as error:
                    if is_out_of_memory(error):
                        raise self._too_small(rest[0], error) from error
                    raise
                if went < asked:
                    self._images_at_once = went
                found += made
        return found

    def _detect_first(self, images: Sequence[PreparedImage], count: int) -> list[Found]:
        """The first `count` images in one pass, with fewer crops at a time if need be; a single one with but one."""
        least = LEAST_CROPS if count > 1 else 1
        made, _ = retry_smaller(partial(self._detect_in_chunks, images[:count]), self.stages.crop_chunk, least=least)
        return made

    def _detect_in_chunks(self, images: Sequence[PreparedImage], crops: int) -> list[Found]:
        self.stages.crop_chunk = crops
        return self._detect(images)

    def _detect(self, images: Sequence[PreparedImage]) -> list[Found]:
        """One image after the other; on a GPU all together."""
        if not isinstance(self.stages, BatchedNetwork):
            return [self._detect_one(prepared) for prepared in images]
        answers = detect_together(self.stages, images, self.selection)
        return [
            self._settle(answer, prepared) if isinstance(answer, Unproved) else answer
            for answer, prepared in zip(answers, images, strict=True)
        ]

    def _settle(self, answer: Unproved, prepared: PreparedImage) -> Found:
        """The regions of an image that could not be decided together with others."""
        return self.select(*answer.known, prepared) if answer.known else self._detect_one(prepared)

    def _too_small(self, prepared: PreparedImage, error: RuntimeError) -> ResourceError:
        width, height = prepared.size
        return ResourceError(
            f"{self.stages.device}: no memory for the regions of an image of {width}x{height}, one image and one crop "
            f"at a time ({str(error).splitlines()[0][:200]}). End what else uses this device, look at fewer boxes "
            f"(proposals = {max(self.selection.proposals // 2, 1)}), use half precision (--precision fast), or another "
            "device (--device cpu); a smaller --batch is of no use any more"
        )

    def _detect_one(self, prepared: PreparedImage) -> Found:
        net_hw = prepared.net_hw
        pixels = to_tensor(prepared, device=self.stages.device, dtype=self.stages.dtype)
        res4 = self.stages.backbone(pixels)["res4"]
        logits, deltas = self.stages.proposal_head(res4)
        if not (torch.isfinite(logits).all() and torch.isfinite(deltas).all()):
            # Unnoticed it would be an image without regions: no box of such numbers counts as one.
            return DataError("the detector gave numbers that are not finite for this image")
        proposals = Proposals.choose(logits, deltas, self.stages.cell_anchors, net_hw, count=self.selection.proposals)
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
            scores=_floats(chosen.scores),
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
