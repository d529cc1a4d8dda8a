"""Weights in an HDF5 file of Keras, by their names, and what its layers are. Runs nothing of it, knows no network.

Both layouts: a whole model (group `model_weights`, attribute `model_config`) and weights alone. Optimiser state stays
unread. A file says where its numbers lie: links and storage outside it are refused.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.models.stand_ins import refuse_stand_in

__all__ = ["KerasFile", "KerasLayer", "open_keras"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
WHOLE = "model_weights"
IGNORED = ("optimizer_weights", "top_level_model_weights")  # state of the optimiser; always empty
MAX_CONFIG_CHARACTERS = 50_000_000
MAX_DEPTH = 32
AGAIN = "fetch it again and compare the size"


@dataclass(frozen=True, slots=True, kw_only=True)
class KerasLayer:
    """One layer of `model_config`: its class without the package it was registered in, and its config."""

    kind: str
    name: str
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KerasFile:
    """An open file.

    Attributes
    ----------
    layout
        "whole model" or "weights alone".
    weights
        Dataset by name, with "/" between its parts and without ":0". Checked, but not read.
    layers
        Of every level, in the file's order; () for weights alone.
    ignored
        Groups of the file that were not looked into.
    """

    layout: str
    weights: Mapping[str, h5py.Dataset]
    layers: tuple[KerasLayer, ...]
    ignored: tuple[str, ...]


@contextmanager
def open_keras(file: Path) -> Iterator[KerasFile]:
    """Look at a file; its datasets can be read as long as it is open.

    Raises
    ------
    ModelMismatch
        Not there, no HDF5, cut off, not written by Keras 2, or anything in it that is not plain numbers.
    """
    _refuse_others(file)
    try:
        with h5py.File(file, "r") as opened:
            yield _look(opened, file)
    except (OSError, RuntimeError) as error:
        raise ModelMismatch(f"{file}: cannot be read as HDF5 ({error}): cut off or damaged? {AGAIN}") from error


def _refuse_others(file: Path) -> None:
    refuse_stand_in(file)
    with file.open("rb") as stream:
        head = stream.read(len(SIGNATURE))
    if head == SIGNATURE:
        return
    if head.startswith(b"PK"):
        raise ModelMismatch(
            f"{file}: an archive, perhaps of Keras 3 (.keras) or torch; expected an .h5 file of Keras 2"
        )
    if head.startswith(b"\x80"):
        raise ModelMismatch(f"{file}: a pickle, which is never run here; expected an .h5 file of Keras 2")
    raise ModelMismatch(f"{file}: not an HDF5 file (it begins {head!r}); expected an .h5 file of Keras 2")


def _look(opened: h5py.File, file: Path) -> KerasFile:
    is_whole = WHOLE in opened
    if not is_whole and ("layers" in opened or "_layer_checkpoint_dependencies" in opened):
        raise ModelMismatch(
            f"{file}: weights of Keras 3, whose names say nothing; expected those of Keras 2, as the originals are"
        )
    root = opened[WHOLE] if is_whole else opened
    ignored = tuple(name for name in IGNORED if name in opened)
    weights: dict[str, h5py.Dataset] = {}
    for name, dataset in _datasets(root, file, skipped=() if is_whole else ignored):
        weights[name.removesuffix(":0")] = dataset
    return KerasFile(
        layout="whole model" if is_whole else "weights alone",
        weights=weights,
        layers=tuple(_layers(_config(opened, file))) if is_whole else (),
        ignored=ignored,
    )


def _datasets(
    group: h5py.Group, file: Path, skipped: tuple[str, ...] = (), depth: int = 0
) -> Iterator[tuple[str, h5py.Dataset]]:
    """All datasets below a group with their paths from it."""
    if depth > MAX_DEPTH:  # a group may hold itself
        raise ModelMismatch(f"{file}: groups in groups beyond {MAX_DEPTH} levels, expected a file of Keras")
    for name in group:
        if name in skipped:
            continue
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ModelMismatch(
                f"{file}: {group.name}/{name} is a link to another place; expected numbers in this file"
            )
        try:
            value = group[name]
        except KeyError as error:  # so h5py says that what the name leads to is damaged
            raise ModelMismatch(f"{file}: {group.name}/{name} cannot be read ({error}): damaged? {AGAIN}") from error
        if isinstance(value, h5py.Group):
            for inner, dataset in _datasets(value, file, depth=depth + 1):
                yield f"{name}/{inner}", dataset
            continue
        if value.external or value.is_virtual or value.dtype.kind not in "fiu":
            raise ModelMismatch(f"{file}: {value.name} is no plain numbers of this file ({value.dtype})")
        yield name, value


def _config(opened: h5py.File, file: Path) -> Any:
    text = opened.attrs.get("model_config")
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="replace")
    if text is None:
        return {}
    try:
        if len(text) > MAX_CONFIG_CHARACTERS:
            raise ValueError(f"{len(text):,} characters")
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelMismatch(f"{file}: its model_config is no JSON ({error}); {AGAIN}") from error


def _layers(value: Any) -> Iterator[KerasLayer]:
    """Every object with a class and a config that has a name: layers, and models as layers of others."""
    if isinstance(value, list):
        for one in value:
            yield from _layers(one)
    if not isinstance(value, dict):
        return
    config = value.get("config")
    if isinstance(value.get("class_name"), str) and isinstance(config, dict) and "name" in config:
        yield KerasLayer(kind=value["class_name"].rpartition(">")[2], name=str(config["name"]), config=config)
    for one in value.values():
        yield from _layers(one)
