"""HDF5 files of Keras: what is no such file, or hides something, is refused before a number is read."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.keras_h5 import open_keras


def write(file: Path, change: Callable[[h5py.File], object] = lambda opened: None) -> Path:
    """A whole model with one layer."""
    with h5py.File(file, "w") as opened:
        layers = [{"class_name": "Custom>Dense", "config": {"name": "dense", "activation": "gelu"}}]
        model = {"class_name": "Sequential", "config": {"name": "all", "layers": layers}}
        opened.attrs["model_config"] = json.dumps(model)
        opened["model_weights/dense/dense/kernel:0"] = np.ones((2, 3), np.float32)
        opened["optimizer_weights/m:0"] = np.ones(2, np.float32)
        change(opened)
    return file


def test_weights_and_layers_are_told_by_name_and_the_optimisers_state_is_left_out(tmp_path: Path) -> None:
    with open_keras(write(tmp_path / "m.h5")) as found:
        assert {name: dataset.shape for name, dataset in found.weights.items()} == {"dense/dense/kernel": (2, 3)}
        assert [(layer.kind, layer.name) for layer in found.layers] == [("Sequential", "all"), ("Dense", "dense")]
        assert (found.layout, found.ignored) == ("whole model", ("optimizer_weights",))


def test_a_config_may_be_bytes_or_missing(tmp_path: Path) -> None:
    def as_bytes(opened: h5py.File) -> None:
        opened.attrs["model_config"] = np.bytes_(opened.attrs["model_config"].encode())

    with open_keras(write(tmp_path / "m.h5", as_bytes)) as found:
        assert len(found.layers) == 2
    with open_keras(write(tmp_path / "n.h5", lambda opened: opened.attrs.pop("model_config"))) as found:
        assert found.layers == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><title>Google Drive - Virus scan warning</title>", "looks like a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "a pointer of git-LFS"),
        (b"PK\x03\x04rest", r"an archive, perhaps of Keras 3"),
        (pickle.dumps({"a": 1}), "a pickle, which is never run here"),
        (b"\x00\x01\x02\x03", "not an HDF5 file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_stands_in_place_of_a_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m.h5").write_bytes(content)
    with pytest.raises(ModelMismatch, match=message), open_keras(tmp_path / "m.h5"):
        pass


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelMismatch, match=r"m\.h5: cannot be read"), open_keras(tmp_path / "m.h5"):
        pass


def test_a_file_that_was_cut_off_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "m.h5")
    whole = file.read_bytes()
    for kept in (8, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:kept])
        with pytest.raises(ModelMismatch, match="cut off or damaged"), open_keras(file):
            pass


def outside(opened: h5py.File) -> None:
    (Path(opened.filename).parent / "secret").write_bytes(bytes(24))
    opened.create_dataset("model_weights/x", shape=(6,), dtype="<f4", external=[("secret", 0, 24)])


def virtual(opened: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=(2,), dtype="<f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(2,))
    opened.create_virtual_dataset("model_weights/x", layout)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda o: o["model_weights"].__setitem__("x", h5py.SoftLink("/optimizer_weights")), "is a link to another"),
        (lambda o: o["model_weights"].__setitem__("x", h5py.ExternalLink("a.h5", "/")), "is a link to another place"),
        (lambda o: o["model_weights"].__setitem__("x", o["model_weights"]), "groups in groups beyond 32 levels"),
        (outside, "no plain numbers of this file"),
        (virtual, "no plain numbers of this file"),
        (lambda o: o["model_weights"].create_dataset("x", data=np.array([b"a"])), "no plain numbers of this file"),
        (lambda o: o.attrs.__setitem__("model_config", "{"), "its model_config is no JSON"),
        (lambda o: o.attrs.__setitem__("model_config", "[" * 200_000), "its model_config is no JSON"),
        (lambda o: o.attrs.__setitem__("model_config", 3), "its model_config is no JSON"),
    ],
    ids=[
        "soft link",
        "link",
        "a group in itself",
        "outside",
        "virtual",
        "strings",
        "torn config",
        "deep config",
        "number as config",
    ],
)
def test_anything_but_numbers_in_the_file_is_refused(
    tmp_path: Path, change: Callable[[h5py.File], object], message: str
) -> None:
    with pytest.raises(ModelMismatch, match=message), open_keras(write(tmp_path / "m.h5", change)):
        pass


def test_weights_of_keras_3_are_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.weights.h5", "w") as opened:
        opened["layers/dense/vars/0"] = np.ones(2, np.float32)
    with pytest.raises(ModelMismatch, match="weights of Keras 3"), open_keras(tmp_path / "m.weights.h5"):
        pass
