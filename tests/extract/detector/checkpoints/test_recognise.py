"""What people place by mistake is named as what it is, with what to do."""

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from sentifuse.extract.detector.checkpoints.recognise import recognise
from sentifuse.extract.detector.checkpoints.weights import read_weights
from sentifuse.extract.errors import ModelMismatch

LOGIN = (
    b"""\n\n<!DOCTYPE html>\n<html lang="en"><head><title>Sign in to your account</title></head><body></body></html>"""
)
BUCKET = (
    b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>NoSuchBucket</Code><Message>The specified bucket</Message>"
)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 262199111\n"
DATA = bytes(range(256)) * 8


def tar(content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("net.pth")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "what", "todo"),
    [
        (b"", "an empty file", "fetch it again"),
        (LOGIN, "looks like a web page", "Fetch it in a browser"),
        (BUCKET, "looks like a web page or a message of a server", "the link is dead"),
        (b'{"error": "quota exceeded"}', "a message of a server", "browser"),
        (b"\xef\xbb\xbf<HTML><BODY>virus scan warning</BODY></HTML>", "looks like a web page", "about 262 MB"),
        (POINTER, "a pointer of git-LFS", "git lfs pull"),
        (
            "einfach nur Text, mit Umlauten: äöü".encode(),
            "a text file (it begins 'einfach nur Text",
            "expected the weights",
        ),
        (b'name: "ResNet-101"\nlayer {\n  name: "conv1"\n}\n', "a text file", "expected the weights"),
        (gzip.compress(DATA), "a gzip archive", "unpack it"),
        (bz2.compress(DATA), "a bzip2 archive", "unpack it"),
        (lzma.compress(DATA), "a xz archive", "unpack it"),
        (tar(DATA), "a tar archive", "unpack it"),
        (b"\x89HDF\r\n\x1a\n" + DATA, "an HDF5 file", "expected the weights"),
        (b"\x01\x02\x03", "3 bytes only", "Fetch it again"),
    ],
)
def test_what_is_no_weights_is_named(content: bytes, what: str, todo: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.pkl"
    file.write_bytes(content)
    with pytest.raises(ModelMismatch) as caught:
        recognise(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert what in str(caught.value)
    assert todo in str(caught.value)


def test_the_content_says_the_layout_and_not_the_name(tmp_path: Path) -> None:
    contents = {
        "safetensors": save({"a": torch.zeros(9)}),
        "pickle": pickle.dumps({"a": 1}, protocol=4) + b"\0" * 64,
        "caffe": b"\n\x03net" + DATA,
    }
    for layout, content in contents.items():
        (tmp_path / "x.html").write_bytes(content)
        assert recognise(tmp_path / "x.html") == layout
    for is_zip in (True, False):
        torch.save({"a": torch.zeros(9)}, tmp_path / "x.html", _use_new_zipfile_serialization=is_zip)
        assert recognise(tmp_path / "x.html") == "torch"


@pytest.mark.parametrize("protocol", range(6))
def test_dicts_pickled_in_any_protocol_are_pickles(protocol: int, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(pickle.dumps({"a": 1, "b": "text" * 40}, protocol=protocol))
    assert recognise(tmp_path / "x") == "pickle"


def test_a_header_length_that_looks_like_a_pickle_is_still_a_safetensors_file(tmp_path: Path) -> None:
    names = {f"{'n' * 10}{i}": torch.zeros(1) for i in range(40)}
    for i in range(200):
        content = save(names, metadata={"pad": "x" * i})
        if content[0] == 0x80:
            break
    assert content[0] == 0x80
    (tmp_path / "x").write_bytes(content)
    assert recognise(tmp_path / "x") == "safetensors"


def test_a_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    (tmp_path / "config.yaml").write_bytes(b"x")
    with pytest.raises(ModelMismatch, match=r"a folder; name the weights file in it \(it has pytorch_model.bin\)"):
        recognise(tmp_path)
    with pytest.raises(ModelMismatch, match=r"nowhere: cannot be read \(No such file"):
        recognise(tmp_path / "nowhere")


def test_archives_that_are_no_torch_files_are_named(tmp_path: Path) -> None:
    file = tmp_path / "weights.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("faster_rcnn_from_caffe_attr.pkl", DATA)
    with pytest.raises(
        ModelMismatch, match=r"a zip archive, but not of torch \(it has faster_rcnn_from_caffe_attr.pkl"
    ):
        read_weights(file)
    with zipfile.ZipFile(file, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", DATA)
    with pytest.raises(ModelMismatch, match="compressed parts"):
        read_weights(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", DATA)
        archive.writestr("x/constants.pkl", DATA)
    with pytest.raises(ModelMismatch, match="TorchScript program, which is never run"):
        read_weights(file)
