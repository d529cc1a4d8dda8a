"""Weights files of this network in every layout that goes around: reading them, checking them, rewriting them.

What a file is, its content says, not its name. Pickles are read without running anything of theirs, torch files with
`weights_only`; every tensor is compared with what the network needs before any is used. Nothing is downloaded here.
"""

import pickle  # for the name of an error only
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from sentifuse.cache.errors import BadSource, Unreadable
from sentifuse.cache.files import replace_file, sha256_of
from sentifuse.cache.interchange.unpickle import load_pickle
from sentifuse.extract.detector.architecture import (
    ATTRIBUTE_KEYS,
    VISUAL_GENOME,
    Architecture,
    tensor_specs,
)
from sentifuse.extract.detector.caffemodel import read_caffemodel
from sentifuse.extract.detector.layouts import ANCHORS_KEY, from_caffe, from_milvlg, is_caffe, is_milvlg
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.models.located import MAX_HEADER_BYTES, check_safetensors

__all__ = ["Converted", "Weights", "check_weights", "convert_weights", "read_weights"]

ZIP = b"PK\x03\x04"  # torch files since 1.6
OLD_TORCH = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # before: a pickle that begins with torch's own number
PICKLE = 0x80
SHOWN = 6  # names in a message
CONTAINERS = ("model", "state_dict", "model_state_dict")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Checked tensors by our names, float32; anchors may be absent (then the formula holds).

    Attributes
    ----------
    layout
        "safetensors", "torch", "pickle", "milvlg" or "caffe": what the file was.
    """

    state: dict[str, Tensor]
    sizes: Architecture
    layout: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A safetensors file that was written."""

    file: Path
    sha256: str
    layout: str
    tensors: int


def read_weights(file: Path, sizes: Architecture = VISUAL_GENOME) -> Weights:
    """Read a file of any known layout.

    Raises
    ------
    ModelMismatch
        Not there, torn, a pickle with more than data in it, or the weights of another network: names what is missing,
        unexpected or of another shape.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(16)
    except OSError as error:
        raise ModelMismatch(f"{file}: cannot be read ({error.strerror or error})") from error
    if not head:
        raise ModelMismatch(f"{file}: an empty file, expected the weights of the Visual Genome detector")
    found: Mapping[str, Any]
    layers: Mapping[str, Any] = {}
    # First, for the length of its header may begin with any byte, also with a pickle's.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER_BYTES:
        check_safetensors(file)
        layout, found = "safetensors", load_file(file)
    elif head.startswith((ZIP, OLD_TORCH)):
        layout, found = "torch", _inner(_read_torch(file), file)
    elif head[0] == PICKLE:
        layout, found = "pickle", _inner(_read_pickle(file), file)
    else:
        layers = read_caffemodel(file)
        if not is_caffe(list(layers)):
            raise ModelMismatch(f"{file}: a Caffe model, but not of bottom-up-attention: no layer rpn_conv/3x3")
        layout, found = "caffe", layers
    _refuse_other_networks(found, file)
    try:
        if layout == "caffe":
            found = from_caffe(layers, sizes, where=str(file))
        elif is_milvlg(list(found)):
            layout, found = "milvlg", from_milvlg({name: _as_array(value) for name, value in found.items()})
    except (ValueError, IndexError) as error:  # arrays of shapes that cannot be rearranged
        raise ModelMismatch(f"{file}: a {layout} file, but of another network ({error})") from error
    state = {name: _as_tensor(value, name, file) for name, value in found.items()}
    sizes = check_weights(state, sizes, where=str(file))
    return Weights(state=dict(sorted(state.items())), sizes=sizes, layout=layout)


def check_weights(state: Mapping[str, Tensor], sizes: Architecture, *, where: str) -> Architecture:
    """Compare names and shapes with what the network needs.

    Returns
    -------
    Architecture
        `sizes`, without attributes if the weights have none.

    Raises
    ------
    ModelMismatch
        Missing, unexpected or misshapen tensors, or one that is not finite.
    """
    if sizes.has_attributes and not any(key in state for key in ATTRIBUTE_KEYS):
        sizes = replace(sizes, has_attributes=False)
    specs = tensor_specs(sizes)
    optional = {key for key in specs if key.endswith(".num_batches_tracked")} | {ANCHORS_KEY}
    missing = sorted(specs.keys() - state.keys() - optional)
    unexpected = sorted(state.keys() - specs.keys())
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {specs[key].shape}"
        for key in specs
        if key in state and tuple(state[key].shape) != specs[key].shape
    ]
    problems = [
        f"{len(names)} tensors {what}: {', '.join(names[:SHOWN])}{' …' if len(names) > SHOWN else ''}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if names
    ]
    if problems:
        raise ModelMismatch(
            f"{where}: not the Visual Genome Faster R-CNN with ResNet-101 ({len(specs)} tensors): {'; '.join(problems)}"
        )
    endless = [key for key, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if endless:
        raise ModelMismatch(f"{where}: {endless[0]} has values that are not finite; fetch the file again")
    return sizes


def convert_weights(source: Path, target: Path, sizes: Architecture = VISUAL_GENOME) -> Converted:
    """Rewrite a file of any layout as safetensors with our names; equal weights give equal bytes.

    Raises
    ------
    ModelMismatch
        See `read_weights`.
    """
    weights = read_weights(source, sizes)
    state = {
        name: value.contiguous() for name, value in weights.state.items() if not name.endswith(".num_batches_tracked")
    }
    replace_file(target, save(state, metadata={"format": "pt"}))
    return Converted(file=target, sha256=sha256_of(target), layout=weights.layout, tensors=len(state))


def _read_torch(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ModelMismatch(
            f"{file}: not a torch file that can be read, or a torn one ({reason}); one that holds more than tensors "
            "is never run"
        ) from error


def _read_pickle(file: Path) -> Any:
    try:
        with file.open("rb") as stream:
            return load_pickle(stream, file)
    except (BadSource, Unreadable) as error:
        raise ModelMismatch(str(error)) from error


def _inner(content: Any, file: Path) -> Mapping[str, Any]:
    """The state dict, wherever the file keeps it."""
    if isinstance(content, Mapping):
        for name in CONTAINERS:
            if isinstance(content.get(name), Mapping):
                content = content[name]
                break
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise ModelMismatch(f"{file}: holds a {type(content).__name__}, expected tensors by name")
    return {name.removeprefix("module."): value for name, value in content.items()}


def _refuse_other_networks(found: Mapping[str, Any], file: Path) -> None:
    """MILVLG's ResNet-152 (norms before convolutions) and deeper siblings share most names."""
    deeper = [name for name in found if ".res3.7." in name or ".res4.35." in name]
    if deeper:
        raise ModelMismatch(
            f"{file}: a deeper network (it has {deeper[0]}), expected ResNet-101 with 23 blocks in res4; "
            "the ResNet-152 of bua-caffe-frcn-r152 is another kind of network"
        )


def _as_array(value: Any) -> npt.NDArray[Any]:
    return value.numpy() if isinstance(value, Tensor) else np.asarray(value)


def _as_tensor(value: Any, name: str, file: Path) -> Tensor:
    """Floats as float32, whatever they were stored in."""
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in "fiu":
            raise ModelMismatch(f"{file}: {name} is of dtype {value.dtype}, expected numbers")
        kind = np.float32 if value.dtype.kind == "f" else np.int64
        return torch.from_numpy(np.array(value, dtype=kind, order="C"))  # a copy: read-only memory stays behind
    if isinstance(value, int):  # a counter that a pickle kept as a plain number
        return torch.tensor(value)
    if not isinstance(value, Tensor):
        raise ModelMismatch(f"{file}: {name} is a {type(value).__name__}, expected a tensor")
    return value.float() if value.is_floating_point() else value
