"""The encoders there are, by name; each is one file, loaded when it is asked for. Imports nothing heavy."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sentifuse import ConfigError

if TYPE_CHECKING:
    from sentifuse.extract.encoder import Encoder

__all__ = ["ENCODERS", "encoder_class", "encoder_inputs"]

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
    return _load(name, where).choose(settings, where=where)


def encoder_inputs(name: str) -> tuple[str, ...]:
    """What an encoder reads, whatever its settings: ("image",), ("text",) or both.

    Raises
    ------
    ConfigError
        Unknown encoder.
    """
    return _load(name, "").inputs


def _load(name: str, where: str) -> "type[Encoder]":
    if name not in ENCODERS:
        raise ConfigError.unknown("encoder", name, ENCODERS, where=where)
    module, _, attribute = ENCODERS[name].partition(":")
    found: type[Encoder] = getattr(import_module(module), attribute)
    return found
