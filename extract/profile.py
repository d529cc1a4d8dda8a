"""Profiles: TOML files that name a model and settings for every encoder. Reads and checks them; loads no model.

description = "what this profile is for"
default = ["tokens", "context"]

[encoders.tokens]
model = { hub = "google-bert/bert-base-uncased" }
clean = "tweet"
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from sentifuse import ConfigError
from sentifuse.extract.encoders import ENCODERS, encoder_class
from sentifuse.extract.models.source import ModelSource, read_source
from sentifuse.extract.settings import path_settings, read_settings

__all__ = ["EncoderEntry", "Profile", "list_profiles", "load_profile"]

KEYS = ("description", "notice", "default", "encoders")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderEntry:
    """One encoder of a profile: its name, its model, and the settings the profile gives (the rest are defaults)."""

    name: str
    model: ModelSource
    settings: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""  # file and table, for messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A named set of encoders; `notice` is said loudly whenever the profile is used."""

    name: str
    description: str
    notice: str
    default: tuple[str, ...]
    encoders: Mapping[str, EncoderEntry]
    path: Path

    def choose(self, names: tuple[str, ...] = ()) -> tuple[EncoderEntry, ...]:
        """The entries of `names` in the given order, each once; none given: the profile's default.

        Raises
        ------
        ConfigError
            A name the profile does not have, with the nearest one.
        """
        for name in names:
            if name not in self.encoders:
                raise ConfigError.unknown("encoder", name, self.encoders, where=f"profile {self.name!r}")
        return tuple(self.encoders[name] for name in dict.fromkeys(names or self.default))


def list_profiles() -> tuple[str, ...]:
    """Names of the profiles that come with the package."""
    folder = resources.files("sentifuse.extract.profiles")
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_profile(name_or_path: str | Path) -> Profile:
    """Read a profile: the name of a shipped one, or the path of a TOML file.

    Anything with a path separator or ending in ``.toml`` is a path; relative paths inside the file start at its folder.

    Raises
    ------
    ConfigError
        Unknown name, missing file, no TOML, an unknown key, encoder or setting (with the nearest name).
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text or "\\" in text:
        path = Path(name_or_path).expanduser()
    elif text in list_profiles():
        path = Path(str(resources.files("sentifuse.extract.profiles") / f"{text}.toml"))
    else:
        raise ConfigError.unknown("profile", text, list_profiles(), where="--profile (or the path of a .toml file)")
    return _parse(path, _read_toml(path))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such profile file. Shipped profiles: {', '.join(list_profiles())}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a UTF-8 text file: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error


def _parse(path: Path, document: Mapping[str, Any]) -> Profile:
    for key in document:
        if key not in KEYS:
            raise ConfigError.unknown("key", key, KEYS, where=str(path))
    for key in ("description", "notice"):
        if not isinstance(document.get(key, ""), str):
            raise ConfigError(f"{path}: {key} is {document[key]!r}, expected a string")
    tables = document.get("encoders")
    if not isinstance(tables, dict) or not tables:
        raise ConfigError(f"{path}: no [encoders.NAME] table. There are: {', '.join(sorted(ENCODERS))}")
    encoders = {name: _entry(path, name, table) for name, table in tables.items()}
    default = document.get("default", list(encoders))
    if not isinstance(default, list) or not default or not all(isinstance(name, str) for name in default):
        raise ConfigError(f"{path}: default is {default!r}, expected a list of encoder names")
    for name in default:
        if name not in encoders:
            raise ConfigError.unknown("encoder", name, encoders, where=f"{path}: default")
    return Profile(
        name=path.stem,
        description=document.get("description", ""),
        notice=document.get("notice", ""),
        default=tuple(dict.fromkeys(default)),
        encoders=encoders,
        path=path,
    )


def _entry(path: Path, name: str, table: Any) -> EncoderEntry:
    where = f"{path}: [encoders.{name}]"
    if name not in ENCODERS:
        raise ConfigError.unknown("encoder", name, ENCODERS, where=str(path))
    if not isinstance(table, dict) or not isinstance(table.get("model"), dict):
        raise ConfigError(f'{where}: no model, expected e.g. model = {{ hub = "google-bert/bert-base-uncased" }}')
    source = read_source(table["model"], where=where)
    if source.kind == "path":
        source = replace(source, name=str(path.parent / Path(source.name).expanduser()))
    values = {key: value for key, value in table.items() if key != "model"}
    chosen = encoder_class(name, values, where=where)
    read_settings(chosen.Settings, values, where=where)  # refused now, not after an hour of another encoder's work
    for key in sorted(path_settings(chosen.Settings) & values.keys()):
        values[key] = str(path.parent / Path(values[key]).expanduser()) if values[key] else ""
    return EncoderEntry(name=name, model=source, settings=values, where=where)
