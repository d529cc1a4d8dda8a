"""detectron2's detectors as a backbone: its parts compute, our rules choose. How it comes in: `detectron2_network.py`.

Every image has a pass of its own: padded together with larger ones it would see the padding.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sentifuse import DataError
from sentifuse.extract.backbones.arithmetic import half_precision
from sentifuse.extract.backbones.detected import regions_of_proposals
from sentifuse.extract.backbones.detectron2_network import (
    build_visual_genome,
    build_zoo_network,
    import_detectron2,
    read_zoo_weights,
)
from sentifuse.extract.detector.architecture import ARCHITECTURES
from sentifuse.extract.detector.boxes import clip_boxes, scale_boxes
from sentifuse.extract.detector.checkpoints.weights import read_weights
from sentifuse.extract.detector.preprocess import PreparedImage, net_size, prepare
from sentifuse.extract.detector.selection import select_adaptive, select_best, select_fixed
from sentifuse.extract.detector.settings import SelectionSettings
from sentifuse.extract.encoder import BackboneSpec
from sentifuse.extract.encoders.regions_detected import Detected
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.models.detectron2_package import find_detectron2

__all__ = ["Detectron2Detector"]

# Shapes: R proposals, K classes without background, D features, m chosen rows.
CROP_CHUNK = 32  # crops that go through the last stage at once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predicted:
    """What the library says about the proposals of one image."""

    features: Tensor  # (R, D)
    logits: Tensor  # (R, K + 1), background last
    probabilities: Tensor  # (R, K)
    proposals: Tensor  # (R, 4) pixels of the network's input
    moved: Tensor  # (R, K, 4), or (R, 1, 4) if all classes move a box alike
    net_hw: tuple[int, int]


class Detectron2Detector:
    """Images → {"regions": [Detected, …]}; implements `DetectorBackbone`."""

    inputs = ("image",)
    batch_limit = 1

    def __init__(self, spec: BackboneSpec, device: str) -> None:
        options = spec.options
        self.device, self.precision = torch.device(device), spec.precision
        package = find_detectron2(options["source"])
        if package.revision != options["commit"]:
            raise ModelMismatch(f"{package.root}: was {options['commit']} a moment ago, now {package.revision}")
        library = import_detectron2(package)
        self.settings: Any = None
        self.selection: SelectionSettings | None = None
        self.has_attributes = False
        with spec.model.opened() as file:
            if "config" in options:
                self.count, self.overlap = options["count"], options["overlap"]
                config = package.config_file(options["config"])
                self.net, self.settings = build_zoo_network(library, config, read_zoo_weights(file), device)
            else:
                names = {field.name for field in fields(SelectionSettings)}
                self.selection = SelectionSettings(**{name: options[name] for name in names & options.keys()})
                weights = read_weights(file, ARCHITECTURES[spec.model.architecture])
                self.has_attributes = weights.sizes.has_attributes
                if options["attributes"] and not self.has_attributes:
                    raise ModelMismatch(
                        f"{spec.model.source}: these weights were trained without attributes: set attributes = false"
                    )
                self.net = build_visual_genome(
                    library, weights.state, weights.sizes, proposals=self.selection.proposals, device=device
                )
        self.feature_width: int = self.net.roi_heads.box_predictor.cls_score.in_features

    def prepare(self, image: Image.Image | None, text: str | None) -> PreparedImage:
        """Resize as the network was trained; the pixels stay bytes.

        Raises
        ------
        DataError
            No image, or one too narrow for the network.
        """
        if image is None:
            raise DataError("no image")
        if self.settings is None:
            return prepare(image)
        sizes = self.settings.INPUT
        height, width = net_size(image.height, image.width, short=sizes.MIN_SIZE_TEST, long=sizes.MAX_SIZE_TEST)
        resized = image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(resized)[:, :, ::-1] if sizes.FORMAT == "BGR" else np.asarray(resized)
        return PreparedImage(pixels=np.ascontiguousarray(pixels), size=image.size)

    def batch_key(self, prepared: PreparedImage) -> Hashable:
        """Images of one network size."""
        return prepared.net_hw

    def forward(self, batch: Sequence[PreparedImage]) -> Mapping[str, Any]:
        """One pass for each image."""
        with torch.inference_mode():
            return {"regions": [self._detect(row) for row in batch]}

    def _detect(self, row: PreparedImage) -> Detected:
        found = self._predict(row)
        if self.selection is not None:
            return self._choose(found, row, self.selection)
        return regions_of_proposals(
            found.features,
            found.probabilities,
            found.moved,
            net_hw=found.net_hw,
            size=row.size,
            count=self.count,
            overlap=self.overlap,
        )

    def _predict(self, row: PreparedImage) -> Predicted:
        pixels = torch.tensor(row.pixels, device=self.device).permute(2, 0, 1).float()
        images = self.net.preprocess_image([{"image": pixels}])
        # Boxes are computed in float32 whatever the network: in half precision they would be off by pixels.
        with half_precision(self.device, self.precision):
            maps = self.net.backbone(images.tensor)
        with half_precision(self.device, "float32"):
            maps = {name: one.float() for name, one in maps.items()}
            proposals, _ = self.net.proposal_generator(images, maps, None)
        with half_precision(self.device, self.precision):
            features = self._features(maps, [proposals[0].proposal_boxes])
        with half_precision(self.device, "float32"):
            features = features.float()
            predictor = self.net.roi_heads.box_predictor
            predictions = predictor(features)
            moved = predictor.predict_boxes(predictions, proposals)[0]
        return Predicted(
            features=features,
            logits=predictions[0],
            probabilities=predictor.predict_probs(predictions, proposals)[0][:, :-1],
            proposals=proposals[0].proposal_boxes.tensor,
            moved=moved.reshape(len(moved), moved.shape[1] // 4, 4),
            net_hw=row.net_hw,
        )

    def _features(self, maps: Mapping[str, Tensor], boxes: list[Any]) -> Tensor:
        heads = self.net.roi_heads
        if not hasattr(heads, "res5"):
            pooled = heads.box_pooler([maps[name] for name in heads.box_in_features], boxes)
            vectors: Tensor = heads.box_head(pooled).flatten(1)
            return vectors
        crops = heads.pooler([maps[name] for name in heads.in_features], boxes)
        parts = crops.split(CROP_CHUNK) if len(crops) else (crops,)
        return torch.cat([heads.res5(part).mean(dim=(2, 3)) for part in parts])

    def _choose(self, found: Predicted, row: PreparedImage, rule: SelectionSettings) -> Detected:
        """The rules of the vg backend, see `detector/selection.py`."""
        scores, ids = found.probabilities.max(dim=1)
        if rule.mode == "fixed36":
            best = found.moved[torch.arange(len(ids), device=ids.device), ids]
            boxes = clip_boxes(best, *found.net_hw)
            chosen = select_fixed(boxes, scores, count=rule.count)
            boxes = scale_boxes(boxes, found.net_hw, row.original_hw)
        else:
            boxes = scale_boxes(found.proposals, found.net_hw, row.original_hw)
            if rule.mode == "caffe36":
                chosen = select_best(boxes, found.probabilities, count=rule.count)
            else:
                chosen = select_adaptive(boxes, found.probabilities, fewest=rule.fewest, most=rule.most)
        rows = chosen.rows
        attribute_ids = attribute_scores = None
        if self.has_attributes:
            predictor, classes = self.net.roi_heads.box_predictor, found.logits[rows].argmax(dim=1)
            logits = predictor.attribute_logits(found.features[rows], classes)[:, :-1]  # without "no attribute"
            attribute_scores, attribute_ids = torch.softmax(logits, dim=1).max(dim=1)
        return Detected(
            features=found.features[rows].cpu().numpy(),
            boxes=clip_boxes(boxes[rows], *row.original_hw).cpu().numpy(),
            scores=chosen.scores.cpu().numpy(),
            object_ids=ids[rows].cpu().numpy(),
            object_scores=scores[rows].cpu().numpy(),
            size=row.size,
            attribute_ids=None if attribute_ids is None else attribute_ids.cpu().numpy(),
            attribute_scores=None if attribute_scores is None else attribute_scores.cpu().numpy(),
        )
