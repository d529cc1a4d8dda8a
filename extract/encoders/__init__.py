"""The encoders there are, by name; each is one file, loaded when it is asked for. Imports nothing heavy."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sentifuse import ConfigError

if TYPE_CHECKING:
    from sentifuse.extract.encoder import Encoder

__all__ = ["ENCODERS", "encoder_class"]

ENCODERS: dict[str, str] = {
    "clip": "sentifuse.extract.encoders.clip:Clip",
    "context": "sentifuse.extract.encoders.context:Context",
    "crowd": "sentifuse.extract.encoders.crowd:Crowd",
    "regions": "sentifuse.extract.encoders.regions:Regions",
    "teacher": "sentifuse.extract.encoders.teacher:Teacher",
    "tokens": "sentifuse.extract.encoders.tokens:Tokens",
}


def encoder_class(name: str, settings: Mapping[str, Any], *, where: str = "") -> "type[Encoder]":
    """The class behind `name`; an encoder with backends chooses among them by its settings.

    Raises
    ------
    ConfigError
        Unknown encoder or backend.
    """
    if name not in ENCODERS:
        raise ConfigError.unknown("encoder", name, ENCODERS, where=where)
    module, _, attribute = ENCODERS[name].partition(":")
    found: type[Encoder] = getattr(import_module(module), attribute)
    return found.choose(settings, where=where)
