"""A found model: its digest follows its numbers and nothing else; torn files are refused before any work."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sentifuse.cache.files import sha256_of
from sentifuse.extract.errors import ModelMismatch
from sentifuse.extract.models.located import LocatedModel, check_safetensors, read_file_model, read_folder
from sentifuse.extract.models.source import ModelSource

HERE = ModelSource(kind="path", name="here", architecture="resnet18")


def edit(folder: Path, name: str, **changes: Any) -> None:
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps(content | changes, indent=3), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, bert_folder: Path) -> Path:
    return Path(shutil.copytree(bert_folder, tmp_path / "copy"))


def test_place_source_and_layout_of_json_do_not_change_the_digest(folder: Path, bert_folder: Path) -> None:
    edit(folder, "config.json", _name_or_path="elsewhere", transformers_version="0.1", dtype="float16")
    (folder / "README.md").write_text("words", encoding="utf-8")
    there = read_folder(ModelSource(kind="hub", name="a/b"), folder)
    assert there.digest == read_folder(HERE, bert_folder).digest
    assert there.architecture == "bert"


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: edit(folder, "config.json", layer_norm_eps=1e-6),
        lambda folder: edit(folder, "tokenizer_config.json", do_lower_case=False),
        lambda folder: (folder / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes() + b" "),
        lambda folder: save_file(
            {name: tensor + 1 for name, tensor in load_file(folder / "model.safetensors").items()},
            folder / "model.safetensors",
        ),
        lambda folder: (folder / "added_tokens.json").write_text("{}", encoding="utf-8"),
    ],
    ids=["config", "tokenizer settings", "tokenizer", "weights", "another file"],
)
def test_whatever_changes_numbers_changes_the_digest(change: Callable[[Path], Any], folder: Path) -> None:
    before = read_folder(HERE, folder).digest
    change(folder)
    assert read_folder(HERE, folder).digest != before


def test_sharded_weights_are_read_through_their_index_and_a_missing_shard_is_named(
    folder: Path, build: Any, encode: Any, bert_folder: Path
) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:20], "model-00002-of-00002.safetensors": names[20:]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    whole, split = build("tokens", bert_folder), build("tokens", folder)
    assert (encode(split, [(None, "sun")])[0]["states"] == encode(whole, [(None, "sun")])[0]["states"]).all()
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelMismatch, match=r"model-00002-of-00002\.safetensors: missing, but"):
        read_folder(HERE, folder)


def test_a_folder_that_is_no_model_is_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelMismatch, match=r"no config\.json"):
        read_folder(HERE, tmp_path)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelMismatch, match="no model_type"):
        read_folder(HERE, tmp_path)
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ModelMismatch, match="holds a list, expected an object"):
        read_folder(HERE, tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelMismatch, match="cannot be read as JSON"):
        read_folder(HERE, tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelMismatch, match=r"no weights, expected model\.safetensors"):
        read_folder(HERE, folder)


@pytest.mark.parametrize("kept", [0, 7, 8, 100, -1])
def test_a_cut_off_safetensors_file_is_refused_by_its_header_alone(kept: int, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(30), "b": torch.zeros(2, 3)}, file)
    assert check_safetensors(file) == {"a": (30,), "b": (2, 3)}
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelMismatch, match=r"a torn one|cut off\?"):
        check_safetensors(file)


@pytest.mark.parametrize("content", [b"<html>not found</html>", b"\xff" * 64, (3).to_bytes(8, "little") + b"{a:"])
def test_a_file_of_another_kind_is_no_safetensors_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(ModelMismatch, match="not a safetensors file"):
        check_safetensors(tmp_path / "w.safetensors")


def test_a_pinned_digest_must_fit(resnet_file: Path) -> None:
    digest = sha256_of(resnet_file)
    pinned = ModelSource(kind="path", name="x", architecture="resnet18", sha256=digest)
    assert read_file_model(pinned, resnet_file).digest == digest
    other = ModelSource(kind="path", name="x", architecture="resnet18", sha256="0" * 64)
    with pytest.raises(ModelMismatch, match=f"SHA-256 is {digest}, expected {'0' * 64}"):
        read_file_model(other, resnet_file)
    with pytest.raises(ModelMismatch, match=r"of which network.*architecture = \"faster_rcnn_resnet101_c4\""):
        read_file_model(ModelSource(kind="path", name="x"), resnet_file)


def test_a_found_model_travels_to_other_processes(bert_folder: Path) -> None:
    found = read_folder(HERE, bert_folder)
    again: LocatedModel = pickle.loads(pickle.dumps(found))  # our own object, for a spawned worker
    assert again == found
    assert again.config["hidden_size"] == 32
