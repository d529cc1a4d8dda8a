"""The Visual Genome detector as a backbone: images in, what the encoders of regions read out. Stores nothing."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from PIL.Image import Image

from sentifuse import DataError
from sentifuse.extract.detector.architecture import ARCHITECTURES
from sentifuse.extract.detector.checkpoints.header import WITHOUT_ATTRIBUTES
from sentifuse.extract.detector.checkpoints.weights import read_weights
from sentifuse.extract.detector.detector import Detector
from sentifuse.extract.detector.precision import arithmetic_of
from sentifuse.extract.detector.preprocess import PreparedImage
from sentifuse.extract.detector.regions import Regions
from sentifuse.extract.detector.settings import SelectionSettings
from sentifuse.extract.encoder import BackboneSpec
from sentifuse.extract.encoders.regions_detected import Detected
from sentifuse.extract.errors import ModelMismatch

__all__ = ["VisualGenomeBackbone"]


class VisualGenomeBackbone:
    """Images → {"regions": [Detected or DataError, …]}; implements `DetectorBackbone`.

    Raises
    ------
    ModelMismatch
        The file is torn or of another network, or its weights lack the attributes that are to be stored.
    """

    inputs = ("image",)

    def __init__(self, spec: BackboneSpec, device: str) -> None:
        chosen = {name: value for name, value in spec.options.items() if name != "attributes"}
        with spec.model.opened() as file:
            weights = read_weights(file, ARCHITECTURES[spec.model.architecture])
        if spec.options["attributes"] and not weights.sizes.has_attributes:
            raise ModelMismatch(f"{spec.model.source}: {WITHOUT_ATTRIBUTES}")
        self.detector = Detector(
            weights.state,
            sizes=weights.sizes,
            device=device,
            arithmetic=arithmetic_of(spec.precision),
            selection=SelectionSettings(**chosen),
        )
        self.feature_width = weights.sizes.feature_width
        self.has_attributes = weights.sizes.has_attributes
        # On a CPU each image has a pass of its own whatever the batch: so the lanes share the images of a batch.
        self.batch_limit = 1 if device == "cpu" else None

    def prepare(self, image: Image | None, text: str | None) -> PreparedImage:
        """Resize to the network's input; the pixels stay bytes (1.4 MB at 600 x 800).

        Raises
        ------
        DataError
            No image, or one so narrow that the network sees nothing of it.
        """
        if image is None:
            raise DataError("no image")
        return self.detector.prepare(image)

    def batch_key(self, prepared: PreparedImage) -> Hashable:
        """See `Detector`: none is ever padded."""
        return self.detector.batch_key(prepared)

    def forward(self, batch: Sequence[PreparedImage]) -> Mapping[str, Any]:
        """One pass; see the class."""
        return {"regions": [_detected(found) for found in self.detector.detect(batch)]}


def _detected(found: Regions | DataError) -> Detected | DataError:
    if isinstance(found, DataError):
        return found
    return Detected(
        features=found.features,
        boxes=found.boxes,
        scores=found.scores,
        object_ids=found.class_ids,
        object_scores=found.class_scores,
        attribute_ids=found.attribute_ids,
        attribute_scores=found.attribute_scores,
        size=found.size,
    )
