"""regions: the parts of an image, each with its features and its box, by one of several backends.

This file is the table of backends; each backend is an encoder named `regions` in a file of its own.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

from sentifuse import ConfigError
from sentifuse.extract.encoder import Encoder

__all__ = ["BACKENDS", "DEFAULT_BACKEND", "Regions"]

BACKENDS: dict[str, str] = {
    "detectron2": "sentifuse.extract.encoders.regions_detectron2:Detectron2Regions",
    "grid": "sentifuse.extract.encoders.regions_grid:GridRegions",
    "torchvision": "sentifuse.extract.encoders.regions_torchvision:TorchvisionRegions",
    "vg": "sentifuse.extract.encoders.regions_vg:VisualGenomeRegions",
}
DEFAULT_BACKEND = "vg"


class Regions(Encoder):
    """Chooses the backend that the settings name."""

    name: ClassVar[str] = "regions"
    inputs: ClassVar[tuple[str, ...]] = ("image",)

    @classmethod
    def choose(cls, settings: Mapping[str, Any], *, where: str) -> type[Encoder]:
        """The backend's class.

        Raises
        ------
        ConfigError
            Unknown backend, with the nearest one.
        """
        backend = settings.get("backend", DEFAULT_BACKEND)
        if backend not in BACKENDS:
            raise ConfigError.unknown("backend", str(backend), BACKENDS, where=where)
        module, _, name = BACKENDS[backend].partition(":")
        found: type[Encoder] = getattr(import_module(module), name)
        return found
