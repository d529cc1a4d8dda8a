"""regions, backend `vg`: the Faster R-CNN trained on Visual Genome. Named here so that it is refused in plain words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sentifuse.extract.encoder import Encoder
from sentifuse.extract.encoders.regions import DEFAULT_BACKEND
from sentifuse.extract.errors import MissingModel
from sentifuse.extract.settings import check_range

__all__ = ["VisualGenomeRegions", "VisualGenomeSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualGenomeSettings:
    """Settings that a profile may already give."""

    backend: str = DEFAULT_BACKEND
    count: int = 36

    def __post_init__(self) -> None:
        check_range("count", self.count, 1, 300)


class VisualGenomeRegions(Encoder):
    """Not there yet."""

    name: ClassVar[str] = "regions"
    version: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    dtypes: ClassVar[Mapping[str, str]] = {}
    Settings: ClassVar[type] = VisualGenomeSettings

    @classmethod
    def check_available(cls) -> None:
        """Always refuses.

        Raises
        ------
        MissingModel
            With what works instead.
        """
        raise MissingModel(
            "the Visual Genome detector (Faster R-CNN, ResNet-101) comes in a later version; until then use the grid "
            'of an image network: backend = "grid" with an image classifier as model in a profile of your own'
        )
