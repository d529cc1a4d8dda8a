"""Weights files of this network in every layout that goes around: reading and checking them.

What a file is, its content says, not its name. Pickles are read without running anything of theirs, torch files with
`weights_only`. Names and shapes are compared with what the network needs before any value is used: those of a
safetensors file by its header, those of a pickle or a Caffe model while its values still lie in the file. Of a torch
file torch itself has made the tensors by then; they are no larger than the file, whose parts are not compressed.
Nothing is downloaded here, nothing written.
"""

import mmap
import pickle  # for the name of an error only
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sentifuse.cache.errors import BadSource, Unreadable
from sentifuse.cache.interchange.unpickle import load_pickle
from sentifuse.extract.detector.architecture import (
    ATTRIBUTE_KEYS,
    VISUAL_GENOME,
    Architecture,
    tensor_specs,
)
from sentifuse.extract.detector.checkpoints.caffemodel import read_caffemodel
from sentifuse.extract.detector.checkpoints.header import compare_shapes
from sentifuse.extract.detector.checkpoints.layouts import (
    ANCHORS_KEY,
    COUNTER,
    caffe_shapes,
    from_caffe,
    from_milvlg,
    is_caffe,
    is_milvlg,
    milvlg_shapes,
    split_layers,
)
from sentifuse.extract.detector.checkpoints.recognise import WHOLE_SIZE, ZIP, recognise
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.models.located import check_safetensors

__all__ = ["Weights", "read_weights"]

ASKS = re.compile(r"GLOBAL ([\w.]+)")  # the function that a torch file wanted, in torch's refusal
CONTAINERS = ("model", "state_dict", "model_state_dict")
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Checked tensors by our names, float32; anchors may be absent (then the formula holds).

    Attributes
    ----------
    layout
        "safetensors", "torch", "pickle", "milvlg" or "caffe": what the file was.
    anchors
        "stored", "formula" (the file has none) or "caffe" (files of Caffe have none, and its own hold).
    ignored
        Layers of a Caffe model that belong to something else.
    """

    state: dict[str, Tensor]
    sizes: Architecture
    layout: str
    anchors: str
    ignored: tuple[str, ...] = ()


def read_weights(file: Path, sizes: Architecture = VISUAL_GENOME) -> Weights:
    """Read a file of any known layout.

    Raises
    ------
    ModelMismatch
        Not there, no weights at all, torn, a pickle with more than data in it, or the weights of another network: names
        what is missing, unexpected or of another shape.
    """
    kind = recognise(file)
    if kind == "caffe":
        return _read_caffe(file, sizes)
    if kind == "safetensors":
        _fitting(_inner(check_safetensors(file), file), sizes, file)
    content = {"safetensors": _read_safetensors, "torch": _read_torch, "pickle": _read_pickle}[kind](file)
    found = _inner(content, file)
    del content
    shapes = {name: _shape(value, name, file) for name, value in found.items()}
    sizes = _fitting(shapes, sizes, file)
    has_anchors = ANCHORS_KEY in found
    if not is_milvlg(shapes):
        anchors = "stored" if has_anchors else "formula"
        return Weights(state=_checked(found, file), sizes=sizes, layout=kind, anchors=anchors)
    with np.errstate(all="ignore"):  # what is not finite is refused at the end
        ours = from_milvlg({name: _as_tensor(found.pop(name), name, file).numpy() for name in sorted(found)})
    anchors = "stored" if has_anchors else "caffe"
    return Weights(state=_checked(ours, file), sizes=sizes, layout="milvlg", anchors=anchors)


def _fitting(shapes: Mapping[str, Shape], sizes: Architecture, file: Path) -> Architecture:
    """The sizes, without attributes if these have none; refuses what is not of this network, in either layout."""
    _refuse_deeper(shapes, file)
    if is_milvlg(shapes):
        sizes = _known(sizes, has_attributes=any(".attr_linear" in name or ".cls_embed" in name for name in shapes))
        compare_shapes(shapes, milvlg_shapes(sizes), where=f"{file} (in MILVLG's layout)")
        return sizes
    sizes = _known(sizes, has_attributes=any(key in shapes for key in ATTRIBUTE_KEYS))
    compare_shapes(shapes, {name: spec.shape for name, spec in tensor_specs(sizes).items()}, where=str(file))
    return sizes


def _known(sizes: Architecture, *, has_attributes: bool) -> Architecture:
    return sizes if has_attributes else replace(sizes, has_attributes=False)


def _check_finite(state: Mapping[str, Tensor], *, where: str) -> None:
    for name, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ModelMismatch(f"{where}: {name} has values that are not finite; fetch the file again")


def _checked(found: dict[str, Any], file: Path) -> dict[str, Tensor]:
    """Tensors of a whole set whose names and shapes are right; takes the values out of `found` one by one."""
    state = {name: _as_tensor(found.pop(name), name, file) for name in sorted(found)}
    _check_finite(state, where=str(file))
    return state


def _read_caffe(file: Path, sizes: Architecture) -> Weights:
    layers = read_caffemodel(file)
    if not is_caffe(list(layers)):
        names = ", ".join(list(layers)[:4])
        raise ModelMismatch(f"{file}: a Caffe model, but not of bottom-up-attention: no layer rpn_conv/3x3 ({names} …)")
    sizes = _known(sizes, has_attributes=any(name in layers for name in ("cls_embedding", "fc_attr", "attr_score")))
    arrays, others = split_layers(layers, sizes)
    shapes = {name: value.shape for name, value in arrays.items()}
    compare_shapes(shapes, caffe_shapes(sizes), where=f"{file} (in Caffe's layout)")
    with np.errstate(all="ignore"):
        ours: dict[str, Any] = dict(from_caffe(arrays, sizes))
    return Weights(state=_checked(ours, file), sizes=sizes, layout="caffe", anchors="caffe", ignored=tuple(others))


def _read_safetensors(file: Path) -> Any:
    try:
        return load_file(file)
    except (SafetensorError, ValueError, OSError) as error:
        raise ModelMismatch(f"{file}: not a safetensors file, or a torn one ({error}); fetch it again") from error


def _read_torch(file: Path) -> Any:
    with file.open("rb") as stream:
        is_zip = stream.read(len(ZIP)) == ZIP
    if is_zip:
        _check_archive(file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    # A damaged file can trip over every operation of the reader: there is no shorter list.
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AssertionError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        NotImplementedError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        message = str(error) or type(error).__name__
        if asks := ASKS.search(message):
            raise ModelMismatch(
                f"{file}: asks for {asks[1]}. Nothing of it was run: only tensors and containers are read from a torch "
                "file. If you trust where it comes from, load it there and save its state_dict alone"
            ) from error
        # Torch's own advice, to load without the protection, is not ours.
        reason = message.partition("WeightsUnpickler error:")[2].strip() or message
        raise ModelMismatch(
            f"{file}: not a torch file that can be read, or a torn one ({reason.splitlines()[0][:200]}); fetch it again"
        ) from error


def _check_archive(file: Path) -> None:
    """What torch writes is an archive of uncompressed parts, one of them data.pkl. Others could be any size inside."""
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError) as error:
        raise ModelMismatch(
            f"{file}: an archive (of torch?) that is cut off or damaged ({error}); fetch it again"
        ) from error
    names = [part.filename for part in parts]
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        shown = ", ".join(names[:4]) or "nothing"
        raise ModelMismatch(
            f"{file}: a zip archive, but not of torch (it has {shown}); unpack it and name the file in it"
        )
    if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
        raise ModelMismatch(f"{file}: a TorchScript program, which is never run; save the state_dict of it alone")
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ModelMismatch(
            f"{file}: an archive with compressed parts, which torch does not write; unpack it and name the file in it"
        )


def _read_pickle(file: Path) -> Any:
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return load_pickle(cast(BinaryIO, mapped), file)  # a map gives no more than is there, whatever is asked for
    except (OSError, BadSource, Unreadable) as error:
        if isinstance(error.__cause__, EOFError | struct.error):
            raise ModelMismatch(
                f"{file}: ends after {file.stat().st_size / 1e6:,.1f} MB in the middle of a value: cut off? "
                f"Fetch it again; {WHOLE_SIZE}"
            ) from error
        raise ModelMismatch(str(error)) from error


def _inner(content: Any, file: Path) -> dict[str, Any]:
    """The state dict, wherever the file keeps it."""
    if isinstance(content, Mapping):
        for name in CONTAINERS:
            if isinstance(content.get(name), Mapping):
                content = content[name]
                break
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise ModelMismatch(f"{file}: holds a {type(content).__name__}, expected tensors by name")
    found = {name.removeprefix("module."): value for name, value in content.items()}
    if len(found) != len(content):
        raise ModelMismatch(f"{file}: holds tensors twice, with and without 'module.' before their names")
    return found


def _refuse_deeper(found: Mapping[str, Any], file: Path) -> None:
    """MILVLG's ResNet-152 (norms before convolutions) and deeper siblings share most names."""
    deeper = [name for name in found if ".res3.7." in name or ".res4.35." in name]
    if deeper:
        raise ModelMismatch(
            f"{file}: a deeper network (it has {deeper[0]}), expected ResNet-101 with 23 blocks in res4; "
            "the ResNet-152 of bua-caffe-frcn-r152 is another kind of network"
        )


def _shape(value: Any, name: str, file: Path) -> Shape:
    if isinstance(value, np.ndarray | np.generic | Tensor):
        return tuple(value.shape)
    if isinstance(value, int):  # a counter that a pickle kept as a plain number
        return ()
    raise ModelMismatch(f"{file}: {name} is a {type(value).__name__}, expected a tensor")


def _as_tensor(value: Any, name: str, file: Path) -> Tensor:
    """Floats as float32, whatever they were stored in; counters as they are."""
    if isinstance(value, int):
        value = np.int64(value)
    if isinstance(value, np.ndarray | np.generic):
        return torch.from_numpy(_as_array(value, name, file))
    tensor: Tensor = value.detach()
    is_plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not is_plain or not (tensor.is_floating_point() or _is_counter(name, tensor.dtype)):
        raise ModelMismatch(f"{file}: {name} is of {tensor.dtype}, {tensor.layout}; expected dense floats")
    return tensor.float().contiguous() if tensor.is_floating_point() else tensor


def _as_array(value: npt.NDArray[Any] | np.generic, name: str, file: Path) -> npt.NDArray[Any]:
    """An array that may be written to; of one that may not, as those in the memory of a file, it is a copy."""
    if value.dtype.kind != "f" and not _is_counter(name, value.dtype):
        raise ModelMismatch(f"{file}: {name} is of dtype {value.dtype}, expected floats")
    with np.errstate(over="ignore"):  # too large for float32: not finite, and refused as such
        return np.require(value, dtype=np.float32 if value.dtype.kind == "f" else np.int64, requirements=["C", "W"])


def _is_counter(name: str, dtype: Any) -> bool:
    return name.endswith(COUNTER) and "int" in str(dtype)
