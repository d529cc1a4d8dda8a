"""Reading weights: every layout gives the same tensors, every other file is named as what it is, nothing is run."""

import io
import json
import operator
import os
import pickle  # to write files as others do
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sentifuse.extract.detector.architecture import ATTRIBUTE_KEYS, PREDICTOR, Architecture
from sentifuse.extract.detector.boxes import cell_anchors, cell_anchors_of_caffe
from sentifuse.extract.detector.checkpoints.layouts import ANCHORS_KEY
from sentifuse.extract.detector.checkpoints.weights import read_weights
from sentifuse.extract.detector.golden.rule import synthetic_weights
from sentifuse.extract.detector.network import build_network
from sentifuse.extract.errors import ModelMismatch

State = dict[str, Tensor]
LAYOUTS = (
    "safetensors",
    "pickle",
    "python 2 pickle",
    "torch",
    "old torch",
    "parallel torch",
    "milvlg",
    "caffe",
    "old caffe",
)


@pytest.fixture(scope="session")
def odd(sizes: Architecture) -> State:
    """Weights of an odd seed: their anchors are the formula's."""
    return {name: torch.from_numpy(value) for name, value in synthetic_weights(101, sizes).items()}


def refused(file: Path, sizes: Architecture) -> str:
    with pytest.raises(ModelMismatch) as caught:
        read_weights(file, sizes)
    assert str(file) in str(caught.value)
    return str(caught.value)


def save(found: dict[str, Any], folder: Path) -> Path:
    save_file(found, folder / "weights")
    return folder / "weights"


def test_the_list_of_layouts_is_whole(written: Any) -> None:
    assert tuple(written.WRITERS) == LAYOUTS


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_weights_back(
    layout: str, written: Any, state: State, sizes: Architecture, tmp_path: Path
) -> None:
    write, called = written.WRITERS[layout]
    state = written.exact(state)
    write(tmp_path / "weights", state, sizes)
    weights = read_weights(tmp_path / "weights", sizes)
    assert weights.layout == called
    assert weights.sizes == sizes
    assert weights.anchors == ("caffe" if called == "caffe" else "stored")
    for name, value in written.without_counters(state).items():
        assert torch.equal(weights.state[name], value), name


@pytest.mark.parametrize("layout", ["pickle", "milvlg", "caffe"])
def test_weights_without_attributes_are_accepted_in_every_layout(
    layout: str, written: Any, state: State, sizes: Architecture, tmp_path: Path
) -> None:
    plain = {name: value for name, value in state.items() if name not in ATTRIBUTE_KEYS}
    write, called = written.WRITERS[layout]
    write(tmp_path / "weights", plain, sizes)
    weights = read_weights(tmp_path / "weights", sizes)
    assert weights.layout == called
    assert not weights.sizes.has_attributes
    assert not build_network(weights.state, weights.sizes).has_attributes


def test_stored_anchors_win_and_absent_ones_follow_the_formula(
    state: State, sizes: Architecture, tmp_path: Path
) -> None:
    assert torch.equal(build_network(state, sizes).cell_anchors, cell_anchors_of_caffe())
    absent = {name: value for name, value in state.items() if name != ANCHORS_KEY}
    weights = read_weights(save(absent, tmp_path), sizes)
    assert weights.anchors == "formula"
    assert torch.equal(build_network(weights.state, sizes).cell_anchors, cell_anchors())


def test_anchors_of_milvlg_say_the_order_of_its_logits(
    written: Any, odd: State, sizes: Architecture, tmp_path: Path
) -> None:
    written.write_milvlg(tmp_path / "weights", odd, sizes)
    found = read_weights(tmp_path / "weights", sizes).state
    assert torch.equal(found[ANCHORS_KEY], cell_anchors())
    theirs = written.to_milvlg(written.arrays(odd))
    shuffled = np.random.default_rng(3).permutation(12)  # another order of both: the same network
    head = "proposal_generator.rpn_head"
    theirs[ANCHORS_KEY] = theirs[ANCHORS_KEY][shuffled]
    for part in ("weight", "bias"):
        logits, deltas = theirs[f"{head}.objectness_logits.{part}"], theirs[f"{head}.anchor_deltas.{part}"]
        theirs[f"{head}.objectness_logits.{part}"] = np.concatenate([logits[:12][shuffled], logits[12:][shuffled]])
        theirs[f"{head}.anchor_deltas.{part}"] = deltas.reshape(12, 4, *deltas.shape[1:])[shuffled].reshape(
            deltas.shape
        )
    torch.save({name: torch.from_numpy(value.copy()) for name, value in theirs.items()}, tmp_path / "shuffled")
    again = read_weights(tmp_path / "shuffled", sizes).state
    assert all(torch.equal(again[name], found[name]) for name in found)


def test_milvlg_without_stored_anchors_has_caffes(
    written: Any, state: State, sizes: Architecture, tmp_path: Path
) -> None:
    written.write_milvlg(
        tmp_path / "weights", {name: value for name, value in state.items() if name != ANCHORS_KEY}, sizes
    )
    weights = read_weights(tmp_path / "weights", sizes)
    assert weights.anchors == "caffe"
    assert torch.equal(weights.state[ANCHORS_KEY], cell_anchors_of_caffe())


def test_half_precision_files_become_float32(state: State, sizes: Architecture, tmp_path: Path) -> None:
    halved = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    found = read_weights(save(halved, tmp_path), sizes).state
    assert {value.dtype for name, value in found.items() if not name.endswith("tracked")} == {torch.float32}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("share", [0.0, 0.0005, 0.01, 0.3, 0.9, 0.9999])
def test_a_truncated_file_is_named(
    layout: str, share: float, written: Any, state: State, sizes: Architecture, tmp_path: Path
) -> None:
    file = tmp_path / "weights"
    written.WRITERS[layout][0](file, state, sizes)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    assert "\n" not in refused(file, sizes)


def test_a_pickle_that_was_cut_off_is_told_as_such(
    written: Any, state: State, sizes: Architecture, tmp_path: Path
) -> None:
    file = tmp_path / "weights"
    written.write_pickle(file, state, sizes)
    whole = file.read_bytes()
    for end in (len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:end])
        text = refused(file, sizes)
        assert f"ends after {end / 1e6:,.1f} MB in the middle of a value: cut off?" in text
        assert "about 262 MB" in text
        assert "EOFError" not in text


def test_what_is_missing_unexpected_or_misshapen_is_listed(state: State, sizes: Architecture, tmp_path: Path) -> None:
    found = dict(state)
    del found["roi_heads.res5.0.conv1.weight"], found[f"{PREDICTOR}.bbox_pred.bias"]
    found["extra.weight"] = torch.zeros(1)
    found[f"{PREDICTOR}.cls_score.bias"] = torch.zeros(3)
    text = refused(save(found, tmp_path), sizes)
    assert f"2 tensors missing: {PREDICTOR}.bbox_pred.bias, roi_heads.res5.0.conv1.weight" in text
    assert "1 tensor unexpected: extra.weight" in text
    assert "cls_score.bias (3,) instead of (13,)" in text
    assert "transposed" not in text
    assert "Converted by a script? Take the file as it was published" in text


def test_transposed_tensors_are_named_as_such(state: State, sizes: Architecture, tmp_path: Path) -> None:
    found = dict(state)
    for name in (f"{PREDICTOR}.cls_score.weight", f"{PREDICTOR}.bbox_pred.weight"):
        found[name] = state[name].t().contiguous()
    stem = "backbone.stem.conv1.weight"
    found[stem] = state[stem].permute(2, 3, 1, 0).contiguous()  # as TensorFlow has it
    text = refused(save(found, tmp_path), sizes)
    assert "3 tensors of another shape" in text
    assert "cls_score.weight (256, 13) instead of (13, 256): transposed?" in text
    assert f"{stem} (7, 7, 3, 8) instead of (8, 3, 7, 7): axes in another order?" in text


def test_layouts_of_others_are_checked_by_their_own_names(
    written: Any, state: State, sizes: Architecture, tmp_path: Path
) -> None:
    theirs = {name: torch.from_numpy(value.copy()) for name, value in written.to_milvlg(written.arrays(state)).items()}
    theirs[f"{PREDICTOR}.bbox_pred.weight"] = theirs[f"{PREDICTOR}.bbox_pred.weight"].t().contiguous()
    del theirs[f"{PREDICTOR}.attr_linear1.bias"]
    torch.save(theirs, tmp_path / "milvlg.pth")
    text = refused(tmp_path / "milvlg.pth", sizes)
    assert f"1 tensor missing: {PREDICTOR}.attr_linear1.bias" in text
    assert "bbox_pred.weight (256, 52) instead of (52, 256): transposed?" in text
    layers = written.to_caffe(written.arrays(state), sizes)
    layers["cls_score"][0] = layers["cls_score"][0].T
    del layers["bn2a_branch1"][2]
    (tmp_path / "net.caffemodel").write_bytes(written.caffemodel(layers))
    text = refused(tmp_path / "net.caffemodel", sizes)
    assert "1 tensor missing: bn2a_branch1[2]" in text
    assert "cls_score[0] (256, 13) instead of (13, 256): transposed?" in text


def test_a_long_list_ends_somewhere(sizes: Architecture, state: State, tmp_path: Path) -> None:
    found = {name: value for name, value in state.items() if ".res4." not in name}
    text = refused(save(found, tmp_path), sizes)
    assert "backbone.res4.0.conv1.norm.bias" in text
    assert text.count("backbone.res4.") == 12
    assert "and 23 more" in text


def test_an_unrelated_network_is_told_by_what_it_has(sizes: Architecture, tmp_path: Path) -> None:
    text = refused(save({"layer1.0.conv1.weight": torch.zeros(2), "fc.bias": torch.zeros(1)}, tmp_path), sizes)
    assert "none of the" in text
    assert "it has fc.bias, layer1.0.conv1.weight" in text


def test_a_deeper_network_is_refused_by_name(written: Any, state: State, sizes: Architecture, tmp_path: Path) -> None:
    deeper = {**state, "backbone.res4.35.conv1.weight": torch.zeros(1)}
    assert "ResNet-152" in refused(save(deeper, tmp_path), sizes)
    layers = written.to_caffe(written.arrays(state), sizes)
    layers["res4b35_branch2a"] = [np.zeros((1, 1, 1, 1))]
    (tmp_path / "weights").write_bytes(written.caffemodel(layers))
    assert "1 tensor unexpected: res4b35_branch2a[0]" in refused(tmp_path / "weights", sizes)


def test_layers_of_other_heads_in_a_caffe_model_are_ignored_and_told(
    written: Any, state: State, sizes: Architecture, tmp_path: Path
) -> None:
    layers = {**written.to_caffe(written.arrays(state), sizes), "rel_score": [np.zeros((2, 2)), np.zeros(2)]}
    (tmp_path / "weights").write_bytes(written.caffemodel(layers))
    assert read_weights(tmp_path / "weights", sizes).ignored == ("rel_score",)


def test_a_value_that_is_not_finite_is_refused(state: State, sizes: Architecture, tmp_path: Path) -> None:
    bias = f"{PREDICTOR}.cls_score.bias"
    assert f"{bias} has values that are not finite" in refused(
        save({**state, bias: torch.full((13,), torch.nan)}, tmp_path), sizes
    )
    too_large = {**state, bias: torch.full((13,), 1e300, dtype=torch.float64)}
    content = {"model": {name: value.numpy() for name, value in too_large.items()}}
    (tmp_path / "weights").write_bytes(pickle.dumps(content))
    assert "not finite" in refused(tmp_path / "weights", sizes)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_numbers_of_other_kinds_are_refused(
    dtype: torch.dtype, state: State, sizes: Architecture, tmp_path: Path
) -> None:
    name = f"{PREDICTOR}.cls_score.bias"
    torch.save({**state, name: state[name].to(dtype)}, tmp_path / "torch")
    assert "expected dense floats" in refused(tmp_path / "torch", sizes)
    content = {key: value.numpy() for key, value in {**state, name: state[name].to(dtype)}.items()}
    (tmp_path / "pickle").write_bytes(pickle.dumps(content))
    assert "dtype" in refused(tmp_path / "pickle", sizes)


@pytest.mark.parametrize(
    "content", [b"\x80\x02K\x01.", b"\x80\x02]q\x00.", pickle.dumps({1: 2}), pickle.dumps({"a": "b"})]
)
def test_a_pickle_of_something_else_is_named(content: bytes, sizes: Architecture, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(content)
    assert "expected" in refused(tmp_path / "weights", sizes)


class Order:
    """Pickles as an order to call a function when it is read."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.order = (function, arguments)

    def __reduce__(self) -> Any:
        return self.order


def orders(canary: Path) -> dict[str, Any]:
    """Objects that write the canary file when a careless reader meets them."""
    command = f"touch {canary}"
    return {
        "os.system": Order(os.system, command),
        "eval": Order(eval, f"open({str(canary)!r}, 'w')"),
        "exec": Order(exec, f"open({str(canary)!r}, 'w')"),
        "open": Order(open, str(canary), "w"),
        "partial": Order(Order, Order(partial, os.system, command)),
        "methodcaller": Order(operator.methodcaller("write_text", "x"), canary),
        "getattr": Order(getattr, "posix", "title"),
        "another pickle": Order(pickle.loads, pickle.dumps(Order(os.system, command))),
        "torch.load": Order(torch.load, str(canary)),
    }


NAMES = tuple(orders(Path("x")))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", ["pickle 0", "pickle 2", "pickle 5", "torch", "old torch"])
@pytest.mark.filterwarnings("ignore")  # torch warns of what it is about to refuse
def test_a_file_that_tries_to_run_code_is_refused_unrun(
    name: str, way: str, state: State, sizes: Architecture, tmp_path: Path
) -> None:
    canary, file = tmp_path / "canary", tmp_path / "weights"
    content = {"model": {"backbone.stem.conv1.weight": np.zeros(3), "deep": {"nested": [orders(canary)[name]]}}}
    if way.startswith("pickle"):
        file.write_bytes(pickle.dumps(content, protocol=int(way[-1])))
    else:
        content["model"]["backbone.stem.conv1.weight"] = torch.zeros(3)
        torch.save(content, file, _use_new_zipfile_serialization=way == "torch")
    text = refused(file, sizes)
    assert "asks for" in text
    assert "Nothing of it was run" in text
    assert not canary.exists()


def test_the_canary_would_sing(tmp_path: Path) -> None:
    with pickle.loads(pickle.dumps(orders(tmp_path / "canary")["open"])):
        assert (tmp_path / "canary").exists()


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    return data.replace(old, new)


def with_pickle(file: Path, change: Callable[[bytes], bytes]) -> None:
    """Give a torch file another data.pkl."""
    content = io.BytesIO(file.read_bytes())
    with zipfile.ZipFile(content) as old, zipfile.ZipFile(file, "w") as new:
        for part in old.infolist():
            data = old.read(part)
            new.writestr(part, change(data) if part.filename.endswith("data.pkl") else data)


def bomb_files(folder: Path, written: Any) -> dict[str, Path]:
    """Small files that say they hold 8 GB."""
    much = 2_000_000_000
    files = {name: folder / name for name in ("pickle", "bytearray", "safetensors", "caffe", "torch", "old torch")}
    raw = b"\x80\x04}\x8c\x01a\x8e" + struct.pack("<Q", 4 * much) + b"xyz"
    files["pickle"].write_bytes(raw + b"s." * 40)
    files["bytearray"].write_bytes(raw.replace(b"\x8e", b"\x96") + b"s." * 40)
    header = b'{"a":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}' % (much, 4 * much)
    files["safetensors"].write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 100)
    shape = written.field(7, written.field(1, written.varint(much)))
    blob = written.field(7, shape + written.field(5, b"\0" * 8))
    layer = written.field(100, written.field(1, b"rpn_conv/3x3") + blob)
    files["caffe"].write_bytes(written.field(1, b"net") + layer + b"\0" * 40)
    torch.save({"a": torch.arange(4.0)}, files["torch"])
    number = b"J" + struct.pack("<i", much)
    with_pickle(files["torch"], lambda data: replaced(data, b"K\x04\x85", number + b"\x85"))
    torch.save({"a": torch.arange(4.0)}, files["old torch"], _use_new_zipfile_serialization=False)
    old = files["old torch"].read_bytes()
    files["old torch"].write_bytes(replaced(old, b"K\x04Nt", number + b"Nt"))
    return files


BOMBS = ("pickle", "bytearray", "safetensors", "caffe", "torch", "old torch")


@pytest.mark.parametrize("name", BOMBS)
def test_a_size_that_a_file_only_claims_takes_no_memory(
    name: str, written: Any, sizes: Architecture, tmp_path: Path
) -> None:
    file = bomb_files(tmp_path, written)[name]
    assert file.stat().st_size < 10_000
    resident_before = resident_bytes()
    tracemalloc.start()
    try:
        refused(file, sizes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000  # Python's and numpy's
    assert resident_bytes() - resident_before < 100_000_000  # torch's too


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_one_array_under_a_thousand_names_is_not_copied_a_thousand_times(sizes: Architecture, tmp_path: Path) -> None:
    large = np.zeros(1_000_000, dtype=np.float32)
    (tmp_path / "weights").write_bytes(pickle.dumps({"model": {f"w{i}": large for i in range(1000)}}))
    tracemalloc.start()
    try:
        refused(tmp_path / "weights", sizes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30_000_000


def test_a_tensor_that_is_expanded_is_refused_by_its_shape(state: State, sizes: Architecture, tmp_path: Path) -> None:
    torch.save({**state, f"{PREDICTOR}.cls_score.weight": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "weights")
    assert "cls_score.weight (1000000, 1000000) instead of (13, 256)" in refused(tmp_path / "weights", sizes)


def test_a_safetensors_file_of_another_network_is_refused_by_its_header_alone(
    sizes: Architecture, tmp_path: Path
) -> None:
    """No library knows the kind of numbers that its header names: it was not asked."""
    header = json.dumps({"x": {"dtype": "Z9", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "weights").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert "none of the" in refused(tmp_path / "weights", sizes)
