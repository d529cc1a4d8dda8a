"""regions, backend `torchvision`: its Faster R-CNNs for the things of COCO, by name, or in a file of one's own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from sentifuse import ConfigError
from sentifuse.extract.encoder import BackboneSpec
from sentifuse.extract.encoders.regions import DEFAULT_BACKEND
from sentifuse.extract.encoders.regions_detected import DetectedRegions
from sentifuse.extract.models.located import LocatedModel
from sentifuse.extract.models.torchvision_weights import (
    DETECTORS,
    KnownWeights,
    known_weights,
    recognise_weights,
)
from sentifuse.extract.settings import all_settings, check_choice, check_range

__all__ = ["ARCHITECTURES", "TorchvisionRegions", "TorchvisionSettings"]

ARCHITECTURES = (*DETECTORS, "tiny_rcnn")


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchvisionSettings:
    """Settings of the torchvision backend.

    Attributes
    ----------
    count
        Regions at most.
    overlap
        IoU above which the less probable of two regions is left out, whatever their classes.
    min_size, max_size
        Sides of the network's input in pixels: the short side is made `min_size`, unless the long one would exceed
        `max_size`. 0: the architecture's own (800 and 1333; 320 and 640 for the one with 320 in its name).
    norm_eps
        Epsilon of the backbone's frozen norms. Published weights bring theirs.
    features
        "float32" or "float16": how features are stored.
    """

    backend: str = DEFAULT_BACKEND  # "torchvision" is said in every profile, so that the recipe says it too
    count: int = 36
    overlap: float = 0.5
    min_size: int = 0
    max_size: int = 0
    norm_eps: float = 1e-5
    features: str = "float32"

    def __post_init__(self) -> None:
        check_range("count", self.count, 1, 1000)
        check_range("overlap", self.overlap, 0, 1)
        check_range("norm_eps", self.norm_eps, 0, 0.1)
        check_choice("features", self.features, ("float16", "float32"))
        for name in ("min_size", "max_size"):
            if getattr(self, name):
                check_range(name, getattr(self, name), 32, 4096)


class TorchvisionRegions(DetectedRegions):
    """image → the fields of `DetectedRegions` without attributes; features are those of the proposal, D = 1024.

    `regions_of_proposals` says which proposals become regions and which box is told. Object ids are torchvision's
    labels less one, for background is no object here: 0 is "person", and weights of COCO leave ten of the ids 0..89
    unused. The names: `FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][object_id + 1]`.
    """

    version: ClassVar[int] = 1
    Settings: ClassVar[type] = TorchvisionSettings

    @classmethod
    def resolve(cls, settings: Any, model: LocatedModel, given: frozenset[str]) -> Any:
        """The epsilon of published weights, also where they lie in a file of another name.

        Raises
        ------
        ConfigError
            The published weights are an image classifier's.
        """
        known: KnownWeights | None
        if model.source.kind == "torchvision":
            known = known_weights(model.source.architecture, model.source.weights)
            if not known.is_detector:
                raise ConfigError(f"{model.source}: no detector. There are: {', '.join(DETECTORS)}")
        else:
            known = recognise_weights(model.digest)
        own = known.settings if known is not None and known.is_detector else {}
        return replace(settings, **{name: value for name, value in own.items() if name not in given})

    @classmethod
    def stored_dtypes(cls, settings: Any) -> Mapping[str, str]:
        """No attributes; features as the settings say."""
        plain = {name: dtype for name, dtype in cls.dtypes.items() if not name.startswith("attribute_")}
        return plain | {"features": settings.features}

    @classmethod
    def backbone_spec(cls, settings: Any, model: LocatedModel, precision: str) -> BackboneSpec:
        """The whole detector.

        Raises
        ------
        ConfigError
            The model is a transformers folder, or of an architecture that is not known here.
        """
        if model.config:
            raise ConfigError(f"{model.source}: a transformers folder, expected a weights file with architecture = …")
        if model.architecture not in ARCHITECTURES:
            raise ConfigError.unknown("detector", model.architecture, ARCHITECTURES, where=str(model.source))
        stored_only = ("backend", "features")
        options = {name: value for name, value in all_settings(settings).items() if name not in stored_only}
        options["architecture"] = model.architecture  # the digest alone does not say which network the file is put into
        return BackboneSpec(
            factory="sentifuse.extract.backbones.regions_torchvision:TorchvisionDetector",
            model=model,
            precision=precision,
            options=options,
        )
