"""Settings of encoders: frozen dataclasses filled from a profile's TOML. Knows types and names, no meaning."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from sentifuse import ConfigError

__all__ = ["all_settings", "changed_settings", "check_choice", "check_range", "path_settings", "read_settings"]

S = TypeVar("S")


def read_settings(settings_type: type[S], values: Mapping[str, Any], *, where: str) -> S:
    """Build a settings object from plain TOML values; lists become tuples.

    Raises
    ------
    ConfigError
        An unknown name (with the nearest one), a value of the wrong type, or one the dataclass itself refuses.
    """
    hints = typing.get_type_hints(settings_type)
    arguments = {}
    for name, value in values.items():
        if name not in hints:
            raise ConfigError.unknown("setting", name, hints, where=where)
        plain = tuple(value) if isinstance(value, list) else value
        if not _fits(plain, hints[name]):
            raise ConfigError(f"{where}: {name} is {value!r}, expected {_spoken(hints[name])}")
        arguments[name] = plain
    try:
        return settings_type(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def all_settings(settings: Any) -> dict[str, Any]:
    """Every setting with its value, tuples as lists: what is written beside the features for people."""
    return {field.name: _plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}


def changed_settings(settings: Any) -> dict[str, Any]:
    """Only the settings that differ from their defaults: what is hashed.

    A setting added later is absent here as long as it stands at its default, so old fingerprints stay valid. A path is
    absent always: where something lies changes no number.
    """
    default = type(settings)()
    paths = path_settings(type(settings))
    return {
        name: value
        for name, value in all_settings(settings).items()
        if name not in paths and value != _plain(getattr(default, name))
    }


def path_settings(settings_type: type) -> frozenset[str]:
    """Names of the settings that are paths: fields declared with ``metadata={"is_path": True}``."""
    return frozenset(field.name for field in dataclasses.fields(settings_type) if field.metadata.get("is_path", False))


def check_choice(name: str, value: str, known: typing.Iterable[str]) -> None:
    """Refuse a value that is not one of `known`."""
    if value not in set(known):
        raise ConfigError.unknown(name, value, known)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside low..high, both included."""
    if not low <= value <= high:
        raise ConfigError(f"{name} is {value}, expected {low} to {high}")


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, choice) for choice in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return all(_fits(one, arguments[0]) for one in value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if hint is bool or isinstance(value, bool):  # True is an int to Python, but not a size
        return hint is bool and isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float)
    return isinstance(value, hint)


def _spoken(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_spoken(choice) for choice in arguments)
    if origin is tuple:
        inner = arguments[:1] if arguments[-1] is Ellipsis else arguments
        return f"a list of {'' if len(inner) == 1 else f'{len(inner)} '}{_spoken(inner[0])}"
    names = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    return names.get(hint, str(hint))


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
