"""Writes weights of the detector as others write them, one function for each layout that goes around.

The fixture `written` hands this module to the tests, since test modules cannot import each other.
"""

import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from sentifuse.extract.detector.architecture import ANCHORS_PER_CELL, Architecture
from sentifuse.extract.detector.checkpoints.layouts import (
    ANCHORS_KEY,
    CAFFE_HEADS,
    MILVLG_NAMES,
    THEIR_ANCHOR,
    caffe_convolutions,
)
from sentifuse.extract.detector.predictions import BOX_WEIGHTS

State = Mapping[str, Tensor]
Arrays = Mapping[str, np.ndarray]


def arrays(state: State) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in state.items()}


def without_counters(state: State) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.endswith(".num_batches_tracked")}


def exact(state: State) -> dict[str, Tensor]:
    """The same with boxes that stay what they are when divided by ten and multiplied again: 18 bits of 24."""
    return {
        name: torch.round(value * 2**18) / 2**18 if ".bbox_pred." in name else value for name, value in state.items()
    }


def write_safetensors(file: Path, state: State, sizes: Architecture) -> None:
    save_file(dict(state), file)


def write_pickle(file: Path, state: State, sizes: Architecture) -> None:
    """airsplay's and LXMERT's layout, with what detectron2 adds, as Python 3 writes protocol 2."""
    content = {"model": arrays(without_counters(state)), "__author__": "someone", "matching_heuristics": True}
    file.write_bytes(pickle.dumps(content, protocol=2))


def write_python2_pickle(file: Path, state: State, sizes: Architecture) -> None:
    """The same as Python 2 wrote it, opcode by opcode: names, dtypes and the bytes of arrays are its `str`."""
    out = b"\x80\x02}" + python2_text(b"model") + b"}("
    for name, array in arrays(without_counters(state)).items():
        out += python2_text(name.encode()) + python2_array(array)
    file.write_bytes(out + b"us.")


def python2_text(text: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(text)) + text


def python2_array(array: np.ndarray) -> bytes:
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    shape = b"(" + b"".join(b"J" + struct.pack("<i", side) for side in array.shape) + b"t"
    kind = f"{array.dtype.kind}{array.dtype.itemsize}".encode()
    dtype = (
        b"cnumpy\ndtype\n"
        + python2_text(kind)
        + b"K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    return made + b"(K\x01" + shape + dtype + b"\x89" + python2_text(array.tobytes()) + b"tb"


def write_torch(file: Path, state: State, sizes: Architecture) -> None:
    torch.save({"model": dict(state), "iteration": 3}, file)


def write_old_torch(file: Path, state: State, sizes: Architecture) -> None:
    torch.save(dict(state), file, _use_new_zipfile_serialization=False)


def write_parallel_torch(file: Path, state: State, sizes: Architecture) -> None:
    torch.save({"state_dict": {f"module.{name}": value.double() for name, value in state.items()}}, file)


def write_milvlg(file: Path, state: State, sizes: Architecture) -> None:
    theirs = to_milvlg(arrays(state))
    torch.save({"model": {name: torch.from_numpy(value.copy()) for name, value in theirs.items()}}, file)


def write_caffe(file: Path, state: State, sizes: Architecture) -> None:
    file.write_bytes(caffemodel(to_caffe(arrays(state), sizes)))


def write_old_caffe(file: Path, state: State, sizes: Architecture) -> None:
    """The format of 2014, and means and variances multiplied by a factor."""
    layers = to_caffe(arrays(state), sizes)
    for values in layers.values():
        if len(values) == 3:
            values[:] = [values[0] * 4, values[1] * 4, np.full(1, 4, dtype=np.float32)]
    file.write_bytes(caffemodel(layers, is_old=True))


def to_milvlg(state: Arrays) -> dict[str, np.ndarray]:
    """Our tensors in MILVLG's layout; the background's own boxes, which we do not have, become zeros."""
    theirs = {}
    for name, value in state.items():
        layer = layer_of(name)
        theirs[name.replace(f".{layer}.", f".{MILVLG_NAMES.get(layer, layer)}.")] = to_theirs(layer, value)
    if ANCHORS_KEY in state:
        theirs[ANCHORS_KEY] = by_ratio(state[ANCHORS_KEY]) - np.array([0, 0, 1, 1], dtype=np.float32)
    return theirs


def to_caffe(state: Arrays, sizes: Architecture) -> dict[str, list[np.ndarray]]:
    """Our tensors as layers of Caffe, norms with factor 1. Anchors are not stored there; they must be Caffe's."""
    layers: dict[str, list[np.ndarray]] = {}
    for conv, norm, scale, name in caffe_convolutions(sizes):
        layers[conv] = [state[f"{name}.weight"]]
        statistics = [state[f"{name}.norm.running_mean"], state[f"{name}.norm.running_var"]]
        layers[norm] = [*statistics, np.ones(1, dtype=np.float32)]
        layers[scale] = [state[f"{name}.norm.weight"], state[f"{name}.norm.bias"]]
    for layer, name in CAFFE_HEADS.items():
        keys = [f"{name}.{part}" for part in ("weight", "bias") if f"{name}.{part}" in state]
        if keys:
            layers[layer] = [to_theirs(layer_of(key), state[key]) for key in keys]
    return layers


def layer_of(name: str) -> str:
    return name.rpartition(".")[0].rpartition(".")[2]


def to_theirs(layer: str, value: np.ndarray) -> np.ndarray:
    """Background first, two logits for each anchor, anchors by ratio, deltas in units of the box."""
    if layer == "objectness_logits":
        return np.concatenate([np.zeros_like(value), by_ratio(value)])
    if layer == "anchor_deltas":
        return by_ratio(value.reshape(ANCHORS_PER_CELL, 4, *value.shape[1:])).reshape(value.shape)
    if layer in ("cls_score", "cls_embedding", "attr_score"):
        return np.roll(value, 1, axis=0)
    if layer == "bbox_pred":
        weights = np.array(BOX_WEIGHTS, dtype=np.float32).reshape(4, *[1] * (value.ndim - 1))
        in_boxes = (value.reshape(-1, 4, *value.shape[1:]) / weights).reshape(value.shape)
        return np.concatenate([np.zeros_like(in_boxes[:4]), in_boxes])
    return value


def by_ratio(value: np.ndarray) -> np.ndarray:
    """Rows in our order of anchors, in theirs."""
    return value[np.argsort(THEIR_ANCHOR)]


# What writes a file, and what the reader has to call its layout.
WRITERS: dict[str, tuple[Callable[[Path, State, Architecture], None], str]] = {
    "safetensors": (write_safetensors, "safetensors"),
    "pickle": (write_pickle, "pickle"),
    "python 2 pickle": (write_python2_pickle, "pickle"),
    "torch": (write_torch, "torch"),
    "old torch": (write_old_torch, "torch"),
    "parallel torch": (write_parallel_torch, "torch"),
    "milvlg": (write_milvlg, "milvlg"),
    "caffe": (write_caffe, "caffe"),
    "old caffe": (write_old_caffe, "caffe"),
}


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes) -> bytes:
    """A field of bytes of a protocol buffer."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def caffemodel(layers: Mapping[str, Any], *, is_old: bool = False) -> bytes:
    """A .caffemodel in the format of today, or of 2014: other field numbers, four sides for every array."""
    out = field(1, b"net")
    for name, values in layers.items():
        blobs = b"".join(field(6 if is_old else 7, _blob(array, is_old=is_old)) for array in values)
        out += field(2, field(4, name.encode()) + blobs) if is_old else field(100, field(1, name.encode()) + blobs)
    return out


def _blob(array: np.ndarray, *, is_old: bool) -> bytes:
    data = field(5, array.astype("<f4").tobytes())
    if not is_old:
        return field(7, field(1, b"".join(varint(side) for side in array.shape))) + data
    sides = (1,) * (4 - array.ndim) + array.shape
    return b"".join(varint(i << 3) + varint(side) for i, side in enumerate(sides, start=1)) + data
