import pickle  # to write files as others do
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sentifuse.extract.detector.architecture import ATTRIBUTE_KEYS, Architecture
from sentifuse.extract.detector.boxes import cell_anchors, cell_anchors_of_caffe
from sentifuse.extract.detector.golden_rule import synthetic_weights
from sentifuse.extract.detector.layouts import ANCHORS_KEY, to_caffe, to_milvlg
from sentifuse.extract.detector.network import build_network
from sentifuse.extract.detector.weights import convert_weights, read_weights
from sentifuse.extract.errors import ModelMismatch

State = dict[str, Tensor]
Write = Callable[[Path, State, Architecture], None]


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def caffemodel(layers: dict[str, list[np.ndarray]], *, is_old: bool) -> bytes:
    """A .caffemodel in the format of today, or of 2014: other field numbers, four sides for every array."""
    out = message(1, b"net")
    for name, arrays in layers.items():
        blobs = b""
        for array in arrays:
            data = message(5, array.astype("<f4").tobytes())
            if is_old:
                sides = (1,) * (4 - array.ndim) + array.shape
                head = b"".join(varint(i << 3) + varint(side) for i, side in enumerate(sides, start=1))
            else:
                head = message(7, message(1, b"".join(varint(side) for side in array.shape)))
            blobs += message(6 if is_old else 7, head + data)
        out += (
            message(2, message(4, name.encode()) + blobs) if is_old else message(100, message(1, name.encode()) + blobs)
        )
    return out


def arrays(state: State) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in state.items()}


def without_counters(state: State) -> State:
    return {name: value for name, value in state.items() if not name.endswith(".num_batches_tracked")}


def write_safetensors(file: Path, state: State, sizes: Architecture) -> None:
    save_file(state, file)


def write_pickle(file: Path, state: State, sizes: Architecture) -> None:
    content = {"model": arrays(without_counters(state)), "__author__": "someone", "matching_heuristics": True}
    file.write_bytes(pickle.dumps(content, protocol=2))


def write_torch(file: Path, state: State, sizes: Architecture) -> None:
    torch.save({"model": state, "iteration": 3}, file)


def write_old_torch(file: Path, state: State, sizes: Architecture) -> None:
    torch.save(state, file, _use_new_zipfile_serialization=False)


def write_milvlg(file: Path, state: State, sizes: Architecture) -> None:
    theirs = to_milvlg(arrays(state))
    torch.save({"model": {name: torch.from_numpy(value.copy()) for name, value in theirs.items()}}, file)


def write_caffe(file: Path, state: State, sizes: Architecture) -> None:
    file.write_bytes(caffemodel(to_caffe(arrays(state), sizes), is_old=False))


def write_old_caffe(file: Path, state: State, sizes: Architecture) -> None:
    layers = to_caffe(arrays(state), sizes)
    for values in layers.values():
        if len(values) == 3:  # mean, variance and the factor they were multiplied by
            values[:] = [values[0] * 4, values[1] * 4, np.full(1, 4, dtype=np.float32)]
    file.write_bytes(caffemodel(layers, is_old=True))


LAYOUTS: list[tuple[Write, str]] = [
    (write_safetensors, "safetensors"),
    (write_pickle, "pickle"),
    (write_torch, "torch"),
    (write_old_torch, "torch"),
    (write_milvlg, "milvlg"),
    (write_caffe, "caffe"),
    (write_old_caffe, "caffe"),
]


@pytest.mark.parametrize(("write", "layout"), LAYOUTS)
def test_a_round_trip_through_every_layout_gives_the_weights_back(
    write: Write, layout: str, state: State, sizes: Architecture, tmp_path: Path
) -> None:
    write(tmp_path / "weights", state, sizes)
    weights = read_weights(tmp_path / "weights", sizes)
    assert weights.layout == layout
    assert weights.sizes == sizes
    for name, value in without_counters(state).items():
        assert torch.allclose(weights.state[name], value, rtol=1e-6, atol=0), name


@pytest.mark.parametrize(("write", "layout"), LAYOUTS)
def test_conversion_writes_the_same_safetensors_from_every_layout(
    write: Write, layout: str, state: State, sizes: Architecture, tmp_path: Path
) -> None:
    write(tmp_path / "weights", state, sizes)
    converted = convert_weights(tmp_path / "weights", tmp_path / "ours.safetensors", sizes)
    found = load_file(tmp_path / "ours.safetensors")
    assert converted.layout == layout
    assert converted.tensors == len(found) == len(without_counters(state))
    again = convert_weights(tmp_path / "ours.safetensors", tmp_path / "again.safetensors", sizes)
    assert again.sha256 == converted.sha256


def test_stored_anchors_win_and_absent_ones_follow_the_formula(
    state: State, sizes: Architecture, tmp_path: Path
) -> None:
    assert torch.equal(build_network(state, sizes).cell_anchors, cell_anchors_of_caffe())
    absent = {name: value for name, value in state.items() if name != ANCHORS_KEY}
    save_file(absent, tmp_path / "weights")
    weights = read_weights(tmp_path / "weights", sizes)
    assert torch.equal(build_network(weights.state, sizes).cell_anchors, cell_anchors())


def test_anchors_stored_by_milvlg_are_reordered(sizes: Architecture, tmp_path: Path) -> None:
    odd = {name: torch.from_numpy(value) for name, value in synthetic_weights(101, sizes).items()}
    write_milvlg(tmp_path / "weights", odd, sizes)
    assert torch.equal(read_weights(tmp_path / "weights", sizes).state[ANCHORS_KEY], cell_anchors())


def test_weights_without_attributes_are_accepted(state: State, sizes: Architecture, tmp_path: Path) -> None:
    plain = {name: value for name, value in state.items() if name not in ATTRIBUTE_KEYS}
    save_file(plain, tmp_path / "weights")
    weights = read_weights(tmp_path / "weights", sizes)
    assert not weights.sizes.has_attributes
    assert not build_network(weights.state, weights.sizes).has_attributes


def test_half_precision_files_become_float32(state: State, sizes: Architecture, tmp_path: Path) -> None:
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, tmp_path / "weights")
    assert read_weights(tmp_path / "weights", sizes).state[ANCHORS_KEY].dtype == torch.float32


@pytest.mark.parametrize(("write", "layout"), LAYOUTS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.9999])
def test_a_truncated_file_is_named_as_such(
    write: Write, layout: str, share: float, state: State, sizes: Architecture, tmp_path: Path
) -> None:
    file = tmp_path / "weights"
    write(file, state, sizes)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelMismatch, match=str(file)):
        read_weights(file, sizes)


def refused(found: dict[str, Any], sizes: Architecture, folder: Path) -> str:
    save_file(found, folder / "weights")
    with pytest.raises(ModelMismatch) as caught:
        read_weights(folder / "weights", sizes)
    return str(caught.value)


def test_missing_unexpected_and_misshapen_tensors_are_named(state: State, sizes: Architecture, tmp_path: Path) -> None:
    found = dict(state)
    del found["roi_heads.res5.0.conv1.weight"]
    found["extra.weight"] = torch.zeros(1)
    found["roi_heads.box_predictor.cls_score.bias"] = torch.zeros(3)
    text = refused(found, sizes, tmp_path)
    assert "1 tensors missing: roi_heads.res5.0.conv1.weight" in text
    assert "1 tensors unexpected: extra.weight" in text
    assert "cls_score.bias (3,) instead of (13,)" in text


def test_a_value_that_is_not_finite_is_refused(state: State, sizes: Architecture, tmp_path: Path) -> None:
    found = {**state, "roi_heads.box_predictor.cls_score.bias": torch.full((13,), torch.nan)}
    assert "not finite" in refused(found, sizes, tmp_path)


def test_a_deeper_network_is_refused_by_name(state: State, sizes: Architecture, tmp_path: Path) -> None:
    assert "deeper network" in refused({**state, "backbone.res4.35.conv1.weight": torch.zeros(1)}, sizes, tmp_path)


@pytest.mark.parametrize("name", ["print", "getattr"])
def test_a_pickle_with_code_is_refused_unrun(name: str, sizes: Architecture, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"\x80\x02cbuiltins\n" + name.encode() + b"\nU\x05helloq\x00\x85R.")
    with pytest.raises(ModelMismatch, match=f"builtins.{name}"):
        read_weights(tmp_path / "weights", sizes)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, this is no weights file", struct.pack("<Q", 1 << 60) + b"{", b"\x80\x02K\x01.", b"PK\x03\x04"],
)
def test_other_files_are_refused_by_name(content: bytes, sizes: Architecture, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(ModelMismatch, match="weights"):
        read_weights(tmp_path / "weights", sizes)


def test_a_file_that_is_not_there_is_named(sizes: Architecture, tmp_path: Path) -> None:
    with pytest.raises(ModelMismatch, match="nowhere"):
        read_weights(tmp_path / "nowhere", sizes)
