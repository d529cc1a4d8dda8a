"""regions, backend `detectron2`: the networks of that library, from where the user has it; it need not be compiled."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from sentifuse import ConfigError
from sentifuse.extract.detector.architecture import ARCHITECTURES
from sentifuse.extract.detector.settings import SelectionSettings
from sentifuse.extract.encoder import BackboneSpec
from sentifuse.extract.encoders.regions_detected import DetectedRegions
from sentifuse.extract.encoders.regions_vg import IDLE, VisualGenomeSettings
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.models.detectron2_package import find_detectron2
from sentifuse.extract.models.located import LocatedModel
from sentifuse.extract.precision import Precision, choose_precision
from sentifuse.extract.settings import check_range

__all__ = ["ZOO", "Detectron2Regions", "Detectron2Settings"]

ZOO = "generalized_rcnn"  # the architecture of weights whose network a configuration describes
# What the configuration of a zoo network says itself, or what such a network does not have.
VISUAL_GENOME_ONLY = ("mode", "fewest", "most", "proposals", "attributes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Detectron2Settings(VisualGenomeSettings):
    """Settings of the detectron2 backend: those of vg, and which detectron2 and which of its networks it is.

    Attributes
    ----------
    source
        Folder with the library's sources, compiled or not; relative to the profile. Empty: the one that is installed.
    config
        A configuration of its zoo, such as "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml". Empty: Visual Genome's
        network, with the selection of vg.
    overlap
        With a configuration: IoU above which the less probable of two regions is left out, whatever their classes.
    commit, is_compiled, config_digest
        What was found: the library's commit (its version, where it is no checkout) and digest, whether its C++
        operations are there, the configuration's digest. A profile may pin them: another library is then refused. Of
        the commit its first digits do.
    """

    source: str = field(default="", metadata={"is_path": True})
    config: str = ""
    overlap: float = 0.5
    commit: str = ""
    is_compiled: bool = False
    config_digest: str = ""

    def __post_init__(self) -> None:
        super(Detectron2Settings, self).__post_init__()  # a slotted dataclass is made twice: see GridSettings
        check_range("overlap", self.overlap, 0, 1)
        default = {one.name: one.default for one in fields(self)}
        for name in VISUAL_GENOME_ONLY if self.config else ("overlap", "config_digest"):
            if getattr(self, name) != default[name]:
                other = "Visual Genome's network (without config)" if self.config else "networks with a config"
                raise ConfigError(f"{name} is {getattr(self, name)!r}, but it is for {other}; leave it out")


class Detectron2Regions(DetectedRegions):
    """image → the fields of `DetectedRegions`; features are those of the proposal.

    Visual Genome's network with its weights gives what backend `vg` gives, computed by the library. Any other C4, DC5
    or FPN network of its zoo gives no attributes; its features are those of its box head, and `regions_of_proposals`
    says which proposals become regions. Object ids are the library's: of COCO 0..79, without gaps.
    """

    version: ClassVar[int] = 1
    Settings: ClassVar[type] = Detectron2Settings

    @classmethod
    def check_available(cls, settings: Mapping[str, Any]) -> None:
        """Look for the library and for what it imports.

        Raises
        ------
        MissingModel
            With the ways to have it.
        """
        find_detectron2(str(settings.get("source", "")))

    @classmethod
    def choose_arithmetic(cls, asked: str, *, device: str) -> Precision:
        """As any network whose half precision nobody measured."""
        return choose_precision(asked, device=device, keeps_float16=False)

    @classmethod
    def resolve(cls, settings: Any, model: LocatedModel, given: frozenset[str]) -> Any:
        """Fill in which library it is.

        Raises
        ------
        MissingModel
            It is not there.
        ModelMismatch
            It is not the one that the profile pins.
        """
        package = find_detectron2(settings.source)
        found = {
            "commit": package.revision,
            "is_compiled": package.is_compiled,
            "config_digest": package.config_digest(settings.config) if settings.config else "",
        }
        for name in sorted(given & found.keys()):
            pinned, there = getattr(settings, name), found[name]
            if not (there.startswith(pinned) if isinstance(there, str) else there == pinned):
                raise ModelMismatch(
                    f"{package.root}: {name} of this detectron2 is {there!r}, the profile pins {pinned!r}; name the "
                    "folder of that one as source, or correct the profile"
                )
        return replace(settings, **found)

    @classmethod
    def stored_dtypes(cls, settings: Any) -> Mapping[str, str]:
        """The fields of `DetectedRegions`; attributes only of Visual Genome."""
        has_attributes = settings.attributes and not settings.config
        kept = {name: dtype for name, dtype in cls.dtypes.items() if has_attributes or "attribute" not in name}
        return {**kept, "features": settings.features}

    @classmethod
    def backbone_spec(cls, settings: Any, model: LocatedModel, precision: str) -> BackboneSpec:
        """The whole detector with its selection.

        Raises
        ------
        ConfigError
            A model of another architecture.
        """
        known = (ZOO,) if settings.config else tuple(ARCHITECTURES)
        if model.architecture not in known:
            reason = f"config = {settings.config!r} needs" if settings.config else "without config it is"
            raise ConfigError(
                f"{model.source}: of architecture {model.architecture!r}; {reason} architecture = {', '.join(known)!r}"
            )
        options: dict[str, Any] = {"source": settings.source, "commit": settings.commit}
        if settings.config:
            options |= {"config": settings.config, "count": settings.count, "overlap": settings.overlap}
            options["config_digest"] = settings.config_digest
        else:
            chosen = {one.name for one in fields(SelectionSettings)} - set(IDLE[settings.mode])
            options |= {name: getattr(settings, name) for name in sorted(chosen)}
            options["attributes"] = settings.attributes
        return BackboneSpec(
            factory="sentifuse.extract.backbones.regions_detectron2:Detectron2Detector",
            model=model,
            precision=precision,
            options=options,
        )
