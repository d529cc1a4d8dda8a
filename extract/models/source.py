"""Where a model comes from, as a profile says it: one small record per encoder. Looks nothing up."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sentifuse import ConfigError
from sentifuse.extract.models.tiny import TINY

__all__ = ["ModelSource", "read_source"]

# kind -> the other keys its table may have; the first key of a table that is a kind decides.
KINDS: dict[str, tuple[str, ...]] = {
    "hub": ("revision",),
    "path": ("architecture", "sha256"),
    "file": ("sha256", "architecture"),
    "package": ("folder",),
    "torchvision": ("weights",),
    "tiny": ("seed",),
    "folder": (),  # last: `package` has a key of this name
}
DETECTOR = "faster_rcnn_resnet101_c4"  # the one network of ours that torchvision has no name for
DOWNLOADED = ("hub", "torchvision")  # the kinds that a run may fetch
REQUIRED: dict[str, tuple[str, ...]] = {"file": ("architecture",), "torchvision": ("weights",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """A model named by a profile.

    Attributes
    ----------
    kind
        ``hub`` (an id on the Hugging Face hub), ``path`` (a file or folder), ``file`` (a name looked up in the weights
        folders), ``folder`` (the same for a folder), ``package`` (a folder inside an installed package),
        ``torchvision`` (an architecture with a weights name) or ``tiny`` (a seeded miniature network).
    name
        The id, path, file name, package, architecture or tiny kind.
    architecture
        torchvision's name of the network a weights file is for; empty for folders, whose config.json says it.
    sha256
        Pinned digest of a weights file, 64 hexadecimal digits; empty: not pinned.
    """

    kind: str
    name: str
    architecture: str = ""
    sha256: str = ""
    folder: str = ""
    weights: str = ""
    revision: str = ""
    seed: int = 0

    @property
    def as_detector(self) -> str:
        """How a profile names the Visual Genome detector, in the form that this one has."""
        key, name = (self.kind, self.name) if self.kind in ("file", "path") else ("file", "…")
        return f'model = {{ {key} = "{name}", architecture = "{DETECTOR}" }}'

    @property
    def advice(self) -> str:
        """How to say of which network a weights file is."""
        return f"Say it: {self.as_detector} for the Visual Genome detector, torchvision's name for another network"

    def __str__(self) -> str:
        extra = self.folder or self.weights or (f"revision {self.revision}" if self.revision else "")
        return f"{self.kind} {self.name}" + (f" ({extra})" if extra else "")


def read_source(table: Mapping[str, Any], *, where: str) -> ModelSource:
    """Read one ``model = { … }`` table.

    Raises
    ------
    ConfigError
        No kind, two kinds, an unknown key, a key that is missing, or a value of the wrong type.
    """
    kinds = [kind for kind in KINDS if kind in table]
    if "package" in kinds and "folder" in kinds:
        kinds.remove("folder")
    if not kinds:
        unknown = next(iter(table), "")
        raise ConfigError.unknown("kind of model", unknown, KINDS, where=where)
    if len(kinds) > 1:
        raise ConfigError(f"{where}: model names {' and '.join(kinds)}, expected exactly one of {', '.join(KINDS)}")
    kind = kinds[0]
    known = (kind, *KINDS[kind])
    for key, value in table.items():
        if key not in known:
            raise ConfigError.unknown("key", key, known, where=f"{where}: model")
        expected = int if key == "seed" else str
        if not isinstance(value, expected) or isinstance(value, bool) or value == "":
            spoken = "whole number" if expected is int else "string"
            raise ConfigError(f"{where}: model.{key} is {value!r}, expected a {spoken}")
    for key in REQUIRED.get(kind, ()):
        if key not in table:
            advice = f". {ModelSource(kind=kind, name=table[kind]).advice}" if key == "architecture" else ""
            raise ConfigError(f"{where}: model has no {key!r}, which {kind!r} needs{advice}")
    if kind == "tiny" and table[kind] not in TINY:
        raise ConfigError.unknown("tiny network", table[kind], TINY, where=where)
    digest = str(table.get("sha256", "")).lower()
    if digest and (len(digest) != 64 or set(digest) - set("0123456789abcdef")):
        raise ConfigError(f"{where}: model.sha256 has {len(digest)} signs, expected 64 hexadecimal digits")
    names = {field.name for field in dataclasses.fields(ModelSource)} - {"kind", "name", "sha256"}
    rest = {key: value for key, value in table.items() if key in names and key != kind}
    architecture = {"architecture": table[kind]} if kind == "torchvision" else {}
    return ModelSource(kind=kind, name=table[kind], sha256=digest, **(rest | architecture))
