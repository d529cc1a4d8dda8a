"""regions, backend `vg`: the Faster R-CNN trained on Visual Genome, from weights that lie on this machine."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from sentifuse import ConfigError
from sentifuse.extract.detector.architecture import ARCHITECTURES
from sentifuse.extract.detector.checkpoints.header import check_header
from sentifuse.extract.detector.precision import choose_arithmetic
from sentifuse.extract.detector.settings import SelectionSettings
from sentifuse.extract.encoder import BackboneSpec
from sentifuse.extract.encoders.regions import DEFAULT_BACKEND
from sentifuse.extract.encoders.regions_detected import DetectedRegions
from sentifuse.extract.models.located import LocatedModel
from sentifuse.extract.precision import Precision
from sentifuse.extract.settings import check_choice

__all__ = ["VisualGenomeRegions", "VisualGenomeSettings"]

ATTRIBUTE_FIELDS = ("attribute_ids", "attribute_scores")
# Bounds that a mode does not look at. Left alone they change no fingerprint.
IDLE = {"fixed36": ("fewest", "most"), "caffe36": ("fewest", "most"), "adaptive": ("count",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualGenomeSettings(SelectionSettings):
    """Settings of the vg backend: the selection, and what of it is stored.

    Attributes
    ----------
    attributes
        Whether the attribute of each region is stored; weights trained without attributes need false.
    features
        "float32" or "float16": how features are stored, whatever they are computed in.
    """

    backend: str = DEFAULT_BACKEND
    attributes: bool = True
    features: str = "float32"

    def __post_init__(self) -> None:
        super(VisualGenomeSettings, self).__post_init__()  # a slotted dataclass is made twice: see GridSettings
        check_choice("features", self.features, ("float32", "float16"))
        default = {field.name: field.default for field in fields(self)}
        for name in IDLE[self.mode]:
            if getattr(self, name) != default[name]:
                modes = ", ".join(mode for mode in IDLE if name not in IDLE[mode])
                raise ConfigError(
                    f"{name} is {getattr(self, name)}, but mode {self.mode!r} does not look at it: leave it out, or "
                    f"choose the mode it is for ({modes})"
                )


class VisualGenomeRegions(DetectedRegions):
    """image → regions with objects and attributes, by the network of bottom-up attention; see `DetectedRegions`.

    Boxes are those the mode reports: moved as the class says in fixed36, the proposals in the other modes. Features are
    those of the proposals always.
    """

    version: ClassVar[int] = 1
    Settings: ClassVar[type] = VisualGenomeSettings
    model_advice: ClassVar[str] = (
        "No place is known for certain to offer these weights any more (`sentifuse weights list` tells what is said of "
        "each): make the file from a copy of your own, in any layout that went around, with `sentifuse weights convert "
        "FILE`"
    )

    @classmethod
    def choose_arithmetic(cls, asked: str, *, device: str) -> Precision:
        """Half precision where it was measured to do no harm; see `detector/precision.py`."""
        return choose_arithmetic(asked, device=device)

    @classmethod
    def stored_dtypes(cls, settings: Any) -> Mapping[str, str]:
        """The fields of `DetectedRegions`; without attributes not theirs."""
        dtypes = {
            name: dtype for name, dtype in cls.dtypes.items() if settings.attributes or name not in ATTRIBUTE_FIELDS
        }
        return {**dtypes, "features": settings.features}

    @classmethod
    def backbone_spec(cls, settings: Any, model: LocatedModel, precision: str) -> BackboneSpec:
        """The detector with its selection.

        Raises
        ------
        ConfigError
            A model of another architecture.
        ModelMismatch
            A file that cannot be its weights, as far as its first bytes tell.
        """
        if model.architecture not in ARCHITECTURES:
            raise ConfigError(
                f"{model.source}: of architecture {model.architecture!r}, but regions with backend 'vg' is the Faster "
                f"R-CNN trained on Visual Genome: {model.source.as_detector}. An image classifier goes with "
                "backend = 'grid'"
            )
        if model.path is not None and model.path.is_file():
            check_header(model.path, ARCHITECTURES[model.architecture], wants_attributes=settings.attributes)
        chosen = {
            field.name: getattr(settings, field.name)
            for field in fields(SelectionSettings)
            if field.name not in IDLE[settings.mode]
        }
        return BackboneSpec(
            factory="sentifuse.extract.backbones.regions_vg:VisualGenomeBackbone",
            model=model,
            precision=precision,
            options={**chosen, "attributes": settings.attributes},
        )
